//! Reads a store, also while the service writes to it.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, types::FromSql};

use super::{
    DATABASE, StoreError,
    schema::{MIGRATIONS, check_version},
    write::evidence,
};
use crate::store::{
    codec::{self, bucket},
    dir::{is_in_use, sidecar},
    retention,
};
use crate::time::{Hour, Timestamp};
use crate::{
    identity::client::Client,
    ledger::{
        BucketKey, ClientStats, Coverage,
        coverage::{DoubtKind, SelfTest, Span},
    },
};

/// How long a reader waits for a writer.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads a store without changing it; needs no write permission.
pub(crate) struct StoreReader {
    path: PathBuf,
    connection: Connection,
}

impl StoreReader {
    /// Opens the store in the directory `path`, or the database `path` itself, such as one that
    /// was quarantined.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let path = if path.is_dir() {
            path.join(DATABASE)
        } else {
            path.to_owned()
        };
        // SQLite's error for all of these is "unable to open database file".
        if let Err(error) = File::open(&path) {
            return Err(match error.kind() {
                io::ErrorKind::NotFound => StoreError::Missing(path),
                io::ErrorKind::PermissionDenied => StoreError::Denied(path),
                _ => StoreError::Directory {
                    path,
                    source: error,
                },
            });
        }
        let connection = connect(&path).map_err(|error| StoreError::sql(&path, error))?;
        if check_version(&connection, &path, MIGRATIONS)? == 0 {
            return Err(StoreError::Missing(path));
        }
        Ok(Self { path, connection })
    }

    /// Clients with their calls, and the coverage, since `since` rounded down to the hour, in one
    /// transaction.
    pub(crate) fn load(
        &mut self,
        since: Timestamp,
    ) -> Result<(Vec<ClientStats>, Coverage), StoreError> {
        let mut load = || {
            let open_run = if is_in_use(&self.path) == Some(false) {
                None
            } else {
                latest_run(&self.connection)?
            };
            load(&mut self.connection, since, open_run)
        };
        load().map_err(|error| StoreError::sql(&self.path, error))
    }
}

fn latest_run(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection.query_row("SELECT max(id) FROM run", [], |row| row.get(0))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(LOCK_TIMEOUT)?;
        // Opening does not read the file.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    };
    let opened: rusqlite::Result<Connection> = open();
    let has_log = fs::metadata(sidecar(path, "-wal")).is_ok_and(|log| log.len() > 0);
    if opened.is_ok() || has_log {
        return opened;
    }
    // Without a service there is no log, and without write permission none can be created: the
    // database is immutable.
    let uri = format!("file:{}?immutable=1", uri_path(path));
    Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
}

fn uri_path(path: &Path) -> String {
    use std::fmt::Write as _;
    let mut uri = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            // Writing to a string cannot fail.
            let _infallible = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

/// Reads everything in one transaction. `open_run` is the run that has not ended, if any.
pub(crate) fn load(
    connection: &mut Connection,
    since: Timestamp,
    open_run: Option<i64>,
) -> rusqlite::Result<(Vec<ClientStats>, Coverage)> {
    let transaction = connection.transaction()?;
    let first_hour = since.hour();
    let entries = entries(&transaction, first_hour)?;
    let kept_since = meta(&transaction, retention::KEPT_SINCE)?;
    let from = kept_since.map_or(first_hour.begin(), |kept| first_hour.begin().max(kept));
    let mut spans = spans(&transaction, from, open_run)?;
    // Clients dropped before the loaded period do not limit it.
    let dropped_at: Option<Timestamp> = meta(&transaction, retention::DROPPED_AT)?;
    let is_recent = dropped_at.is_none_or(|time| time >= from);
    let dropped: Option<i64> = meta(&transaction, retention::DROPPED)?;
    let dropped = dropped.filter(|_| is_recent).unwrap_or(0);
    if let (Some(last), Ok(count)) = (spans.last_mut(), u64::try_from(dropped)) {
        last.doubt(DoubtKind::DroppedClients, count);
    }
    let self_test = transaction
        .query_row(
            "SELECT time, error FROM self_test ORDER BY time DESC LIMIT 1",
            [],
            |row| {
                let error: Option<String> = row.get(1)?;
                Ok(SelfTest {
                    time: row.get(0)?,
                    result: error.map_or(Ok(()), Err),
                })
            },
        )
        .optional()?;
    Ok((entries, Coverage { spans, self_test }))
}

/// Clients with calls since an hour, in order of their first commit.
fn entries(transaction: &Transaction<'_>, first_hour: Hour) -> rusqlite::Result<Vec<ClientStats>> {
    let mut buckets = buckets(transaction, first_hour)?;
    let mut clients =
        transaction.prepare("SELECT id, facts, first, last, evidence FROM client ORDER BY id")?;
    let mut rows = clients.query([])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let last: Timestamp = row.get(3)?;
        let buckets = buckets.remove(&id).unwrap_or_default();
        if buckets.is_empty() && last < first_hour.begin() {
            continue;
        }
        let text: String = row.get(1)?;
        let client: Client = serde_json::from_str(&text).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, error.into())
        })?;
        let text: String = row.get(4)?;
        entries.push(ClientStats {
            client,
            first: row.get(2)?,
            last,
            buckets,
            evidence: evidence(id, &text),
        });
    }
    Ok(entries)
}

type Buckets = BTreeMap<BucketKey, i64>;

/// Counts by client. A count below 1 corrects rows that are no longer stored.
fn buckets(
    transaction: &Transaction<'_>,
    first_hour: Hour,
) -> rusqlite::Result<HashMap<i64, Buckets>> {
    let kinds = kinds(transaction)?;
    let mut rollups = transaction
        .prepare("SELECT client, kind, hour, count FROM rollup WHERE hour >= ?1 AND count > 0")?;
    let mut rows = rollups.query([first_hour])?;
    let mut all: HashMap<i64, Buckets> = HashMap::new();
    while let Some(row) = rows.next()? {
        if let Some(kind) = kinds.get(&row.get(1)?) {
            let bucket = BucketKey {
                hour: row.get(2)?,
                ..*kind
            };
            all.entry(row.get(0)?)
                .or_default()
                .insert(bucket, row.get(3)?);
        }
    }
    Ok(all)
}

/// Bucket keys by row, with hour 0.
fn kinds(transaction: &Transaction<'_>) -> rusqlite::Result<HashMap<i64, BucketKey>> {
    let mut stored =
        transaction.prepare("SELECT id, version, token, answer, path, how FROM kind")?;
    let mut rows = stored.query([])?;
    let mut kinds = HashMap::new();
    while let Some(row) = rows.next()? {
        let words: [String; 5] = [
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
            row.get(5)?,
        ];
        match bucket(Hour::default(), words.each_ref().map(String::as_str)) {
            Some(kind) => drop(kinds.insert(row.get(0)?, kind)),
            None => {
                tracing::warn!("the store has a kind of call that this version does not support");
            }
        }
    }
    Ok(kinds)
}

/// Spans since `from`, in order and without overlap.
fn spans(
    transaction: &Transaction<'_>,
    from: Timestamp,
    open_run: Option<i64>,
) -> rusqlite::Result<Vec<Span>> {
    // The end of a run is known if the run was closed, or has not ended.
    let mut stored = transaction.prepare(
        "SELECT begin, until, segments, lost_records, doubts,
             is_complete AND (is_over
                 OR begin < (SELECT max(begin) FROM span AS other WHERE other.run = span.run)
                 OR run IS ?2)
         FROM span JOIN run ON run.id = span.run WHERE until >= ?1 ORDER BY begin, until",
    )?;
    let mut rows = stored.query(rusqlite::params![from, open_run])?;
    // Spans overlap only after the clock was set back.
    let mut coverage = Coverage::default();
    while let Some(row) = rows.next()? {
        let doubts: String = row.get(4)?;
        let number =
            |index| Ok::<u64, rusqlite::Error>(row.get::<_, i64>(index)?.max(0).cast_unsigned());
        let span = Span {
            from: row.get::<_, Timestamp>(0)?.max(from),
            to: row.get(1)?,
            is_complete: row.get(5)?,
            segments: number(2)?,
            lost_records: number(3)?,
            doubts: codec::doubts(&doubts),
        };
        coverage.add(span);
    }
    Ok(coverage.spans)
}

fn meta<T: FromSql>(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<Option<T>> {
    transaction
        .query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| {
            row.get(0)
        })
        .optional()
}
