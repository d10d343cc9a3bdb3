//! The tables and their migrations. A released migration never changes; a new one is appended.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::StoreError;

/// `imds` in ASCII, which marks a database of imdsmon.
const APPLICATION_ID: i64 = 0x696d_6473;

/// Each migration takes a store to the next version; the first creates an empty one.
pub(crate) const MIGRATIONS: &[&str] = &[V1, V2];

/// Times are nanoseconds since 1970-01-01 UTC, hours are counted from there.
const V1: &str = "
    -- Who: name is what no restart or update changes, facts the client of its last call as JSON,
    -- evidence what its JSON says.
    CREATE TABLE client (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        facts TEXT NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        evidence TEXT NOT NULL
    ) STRICT;
    -- What calls have in common, each combination once.
    CREATE TABLE kind (
        id INTEGER PRIMARY KEY,
        version TEXT NOT NULL,
        token TEXT NOT NULL,
        answer TEXT NOT NULL,
        path TEXT NOT NULL,
        how TEXT NOT NULL,
        UNIQUE (version, token, answer, path, how)
    ) STRICT;
    -- Cause often, by hour.
    CREATE TABLE rollup (
        hour INTEGER NOT NULL,
        client INTEGER NOT NULL REFERENCES client,
        kind INTEGER NOT NULL REFERENCES kind,
        count INTEGER NOT NULL,
        PRIMARY KEY (hour, client, kind)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX rollup_client ON rollup (client);
    -- Starts of the service; one that did not end as it should has no end.
    CREATE TABLE run (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        is_over INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    -- Times of watching.
    CREATE TABLE span (
        run INTEGER NOT NULL REFERENCES run,
        begin INTEGER NOT NULL,
        until INTEGER NOT NULL,
        is_complete INTEGER NOT NULL,
        segments INTEGER NOT NULL,
        lost_records INTEGER NOT NULL,
        doubts TEXT NOT NULL,
        PRIMARY KEY (run, begin)
    ) STRICT, WITHOUT ROWID;
    -- error is null where calls were heard.
    CREATE TABLE self_test (
        time INTEGER PRIMARY KEY,
        error TEXT
    ) STRICT;
    CREATE TABLE meta (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// Doubts are stored as words, no longer as sentences.
const V2: &str = r#"
    UPDATE span SET doubts = replace(doubts,
        '"bytes of very long segments were not captured"', '"truncated-bytes"');
    UPDATE span SET doubts = replace(doubts,
        '"records were not understood"', '"unknown-records"');
    UPDATE span SET doubts = replace(doubts,
        '"bytes are missing from connections"', '"missing-bytes"');
    UPDATE span SET doubts = replace(doubts,
        '"calls were answered by something that was not seen"', '"unseen-responses"');
    UPDATE span SET doubts = replace(doubts,
        '"answers came that belong to no request that was read"', '"unmatched-responses"');
    UPDATE span SET doubts = replace(doubts,
        '"connections were given up because too many were open"', '"evicted-connections"');
    UPDATE span SET doubts = replace(doubts,
        '"processes were counted with others, because there were too many clients"',
        '"merged-processes"');
    UPDATE span SET doubts = replace(doubts,
        '"processes were forgotten too early to know what led to their calls"',
        '"forgotten-processes"');
    UPDATE span SET doubts = replace(doubts,
        '"self-tests were not heard, so calls may be missing"', '"failed-self-tests"');
"#;

/// Migrates the database. One transaction per version: a failure leaves the previous version.
pub(crate) fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &[&str],
) -> Result<(), StoreError> {
    let sql = |error| StoreError::sql(path, error);
    let version = check_version(connection, path, migrations)?;
    for (done, migration) in migrations.iter().enumerate().skip(version) {
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(sql)?;
        transaction.execute_batch(migration).map_err(sql)?;
        if done == 0 {
            set_pragma(&transaction, "application_id", APPLICATION_ID).map_err(sql)?;
        }
        let version = i64::try_from(done).unwrap_or(i64::MAX).saturating_add(1);
        set_pragma(&transaction, "user_version", version).map_err(sql)?;
        transaction.commit().map_err(sql)?;
    }
    Ok(())
}

/// The schema version, if this is a store and not newer than `migrations`.
pub(crate) fn check_version(
    connection: &Connection,
    path: &Path,
    migrations: &[&str],
) -> Result<usize, StoreError> {
    let sql = |error| StoreError::sql(path, error);
    let version = pragma(connection, "user_version").map_err(sql)?;
    let application = pragma(connection, "application_id").map_err(sql)?;
    let is_empty = connection
        .query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |_| Ok(()))
        .optional()
        .map_err(sql)?
        .is_none();
    if application != APPLICATION_ID && !(is_empty && application == 0) {
        return Err(StoreError::Corrupt {
            path: path.to_owned(),
            what: "it is a database, but not a store of imdsmon".into(),
        });
    }
    match usize::try_from(version) {
        Ok(known) if known <= migrations.len() => Ok(known),
        _ => Err(StoreError::Newer {
            path: path.to_owned(),
            found: version,
            known: i64::try_from(migrations.len()).unwrap_or(i64::MAX),
        }),
    }
}

pub(crate) fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

pub(crate) fn set_pragma(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    // Some pragmas return the new value, some no row.
    connection
        .pragma_update_and_check(None, name, value, |_| Ok(()))
        .or_else(|error| match error {
            rusqlite::Error::QueryReturnedNoRows => Ok(()),
            error => Err(error),
        })
}
