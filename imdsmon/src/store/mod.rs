//! Counts and evidence on disk, which survive restarts, crashes and power cuts.
//!
//! One `SQLite` database in WAL mode, written by one service and readable at any time by every user
//! with the permission. [`Store::commit`] adds a *delta* completely or not at all: the caller keeps
//! the delta until it gets `Ok`, or tries again later. After `Ok` the delta is on disk
//! (`synchronous=FULL`: each commit syncs the log), safe from `kill -9` and power cuts. The service
//! commits once a second while there are calls.
//!
//! [`StoreLimits`] bound its size: the oldest hours are removed first, and coverage never reaches
//! further back than the counts. A database that is damaged, or written by a newer version, is
//! renamed, never deleted, and does not count toward the size.

mod codec;
mod dir;
mod error;
mod read;
mod retention;
mod schema;
mod sql_time;
mod write;

#[cfg(test)]
mod tests;

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use dir::StoreDir;
pub(crate) use dir::{DATABASE, Quarantined};
pub(crate) use error::StoreError;
pub(crate) use read::StoreReader;

use crate::{
    ledger::{ClientStats, Coverage},
    time::{Hour, Timestamp},
};

/// Bytes of a database page, the default of `SQLite`.
const PAGE_BYTES: u64 = 4096;
/// How long a checkpoint waits for readers.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_millis(100);

/// Hours between two commits after which retention by age runs. A larger clock step, possible at
/// boot, must not expire everything; if the clock is right, the data expires an hour later.
const CLOCK_STEP_HOURS: RangeInclusive<i64> = 1..=2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreLimits {
    /// Days. Older data is removed once an hour while the service runs.
    pub(crate) days: u32,
    /// MiB on disk, log included; at least [`Self::MIN_MIB`]. A running commit may exceed it.
    pub(crate) mib: u32,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { days: 90, mib: 256 }
    }
}

impl StoreLimits {
    /// The smallest size that is useful.
    pub(crate) const MIN_MIB: u32 = 8;

    fn bytes(self) -> u64 {
        u64::from(self.mib.max(Self::MIN_MIB)) << 20
    }

    fn log_bytes(self) -> u64 {
        (self.bytes() / 16).clamp(1 << 20, 16 << 20)
    }

    /// Pages for the database itself.
    fn pages(self) -> u64 {
        (self.bytes() - self.log_bytes()) / PAGE_BYTES
    }
}

/// The store of the running service.
pub(crate) struct Store {
    dir: StoreDir,
    path: PathBuf,
    /// Device and inode of the database.
    file: (u64, u64),
    connection: Connection,
    limits: StoreLimits,
    /// The ID of this run, after its first commit.
    run: Option<i64>,
    /// The hour of the last commit with retention.
    retained_at: Option<Hour>,
    quarantine: Option<Quarantined>,
}

impl Store {
    /// Opens or creates the store in `directory`. Reads the whole database once to check it.
    ///
    /// # Errors
    /// Never one with [`StoreError::is_damage`]: see [`Self::quarantine`]. After any other the
    /// service may count in memory and try again.
    pub(crate) fn open(directory: &Path, limits: StoreLimits) -> Result<Self, StoreError> {
        let dir = StoreDir::claim(directory)?;
        let path = dir.database();
        let (connection, quarantine) = match connect(&dir, limits) {
            Ok(connection) => (connection, None),
            Err(error) if error.is_damage() => {
                let quarantine = dir.quarantine(&error)?;
                (connect(&dir, limits)?, Some(quarantine))
            }
            Err(error) => return Err(error),
        };
        let file = dir::file_id(&path).ok_or_else(|| StoreError::Missing(path.clone()))?;
        Ok(Self {
            dir,
            path,
            file,
            connection,
            limits,
            run: None,
            retained_at: None,
            quarantine,
        })
    }

    /// The unusable database that was renamed on opening, if any.
    pub(crate) fn quarantine(&self) -> Option<&Quarantined> {
        self.quarantine.as_ref()
    }

    /// Adds `delta` completely or not at all. Waits for the disk.
    ///
    /// `coverage` is that of this run: a longer span replaces the one committed before. `now`
    /// decides what is too old to keep.
    ///
    /// # Errors
    /// Nothing was added, and the same delta can be retried; after [`StoreError::is_damage`], once
    /// the store is opened again.
    pub(crate) fn commit(
        &mut self,
        delta: &[ClientStats],
        coverage: &Coverage,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(delta, coverage, now, false)
    }

    /// The last [`Self::commit`] of this run, which ends its last span.
    pub(crate) fn close(
        &mut self,
        delta: &[ClientStats],
        coverage: &Coverage,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(delta, coverage, now, true)
    }

    /// Counts and coverage since `since`, rounded down to the hour.
    pub(crate) fn load(
        &mut self,
        since: Timestamp,
    ) -> Result<(Vec<ClientStats>, Coverage), StoreError> {
        let loaded = read::load(&mut self.connection, since, self.run);
        loaded.map_err(|error| StoreError::sql(&self.path, error))
    }

    /// Applies new limits at the next commit.
    pub(crate) fn set_limits(&mut self, limits: StoreLimits) -> Result<(), StoreError> {
        self.limits = limits;
        self.retained_at = None;
        configure(&self.connection, limits).map_err(|error| self.error(error))
    }

    fn write(
        &mut self,
        delta: &[ClientStats],
        coverage: &Coverage,
        now: Timestamp,
        is_last: bool,
    ) -> Result<(), StoreError> {
        self.check_name()?;
        self.bound_log()?;
        let run = self.run;
        let mut written = write::commit(&mut self.connection, run, delta, coverage, is_last);
        if let Err(error) = &written
            && error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            && retention::is_at_limit(&self.connection, self.limits).unwrap_or(false)
        {
            // The size limit is reached, but the disk is not full: keep half.
            retention::evict(
                &mut self.connection,
                self.limits,
                now,
                self.limits.pages() / 2,
            )
            .map_err(|error| StoreError::sql(&self.path, error))?;
            written = write::commit(&mut self.connection, run, delta, coverage, is_last);
        }
        self.run = Some(written.map_err(|error| self.error(error))?);
        // The delta is on disk: no error from here on, or the caller would add it twice.
        let hour = now.hour();
        let last = self.retained_at.replace(hour);
        let is_due = last.is_some_and(|last| CLOCK_STEP_HOURS.contains(&hour.since(last)));
        if let Err(error) = retention::enforce(&mut self.connection, self.limits, now, is_due) {
            self.retained_at = last;
            tracing::warn!(%error, "cannot remove old data from the store; retrying at the next commit");
        }
        Ok(())
    }

    /// A commit to a removed or replaced database would have no effect.
    fn check_name(&self) -> Result<(), StoreError> {
        if dir::file_id(&self.path) == Some(self.file) {
            return Ok(());
        }
        Err(StoreError::Corrupt {
            path: self.path.clone(),
            what: "the file was removed or replaced while the service runs".into(),
        })
    }

    /// The log shrinks only without readers: a permanent reader must not fill the disk.
    fn bound_log(&self) -> Result<(), StoreError> {
        let limit = self.limits.log_bytes();
        if self.dir.log_bytes() <= limit {
            return Ok(());
        }
        let truncated = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                row.get::<_, i64>(0)
            });
        match truncated {
            Ok(0) => Ok(()),
            Ok(_) => Err(StoreError::Busy(self.path.clone())),
            Err(error) => Err(self.error(error)),
        }
    }

    fn error(&self, error: rusqlite::Error) -> StoreError {
        StoreError::sql(&self.path, error)
    }
}

/// Opens the database for writing, checks it, and brings its schema up to date.
fn connect(dir: &StoreDir, limits: StoreLimits) -> Result<Connection, StoreError> {
    dir.prepare_database()?;
    let path = dir.database();
    let sql = |error| StoreError::sql(&path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(&path, flags).map_err(sql)?;
    connection.busy_timeout(CHECKPOINT_TIMEOUT).map_err(sql)?;
    schema::check_version(&connection, &path, schema::MIGRATIONS)?;
    check(&connection, &path)?;
    configure(&connection, limits).map_err(sql)?;
    schema::migrate(&mut connection, &path, schema::MIGRATIONS)?;
    Ok(connection)
}

fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |error| StoreError::sql(path, error);
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(sql)?;
    if found == "ok" {
        return Ok(());
    }
    Err(StoreError::Corrupt {
        path: path.to_owned(),
        what: found,
    })
}

fn configure(connection: &Connection, limits: StoreLimits) -> rusqlite::Result<()> {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let log = limits.log_bytes();
    // `auto_vacuum` takes effect only before the first table.
    connection.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -1024;",
    )?;
    schema::set_pragma(
        connection,
        "wal_autocheckpoint",
        signed(log / 2 / PAGE_BYTES),
    )?;
    schema::set_pragma(connection, "journal_size_limit", signed(log))?;
    schema::set_pragma(connection, "max_page_count", signed(limits.pages()))
}
