//! Counts and evidence on disk, so that weeks of watching survive a restart, a crash and a power
//! cut.
//!
//! One `SQLite` database in WAL mode, written by one service and read by anybody who may, at any
//! time. Everything that is added is a *delta*: [`Store::commit`] adds it whole or not at all, so
//! that whoever calls it keeps the delta until it is told `Ok`, and tries again later. Once that
//! is said, the delta is on the disk (`synchronous=FULL`: the log is synced by each commit), and
//! neither `kill -9` nor a power cut takes it away. What is lost is at most what was not
//! committed yet; committing once a second while there are calls makes that a second.
//!
//! Its size is bounded by [`Limits`]: the oldest hours go first, and coverage never reaches
//! further back than the counts do. A database that is damaged, or written by a newer version, is
//! renamed, never deleted, and a new one begins; it is not counted in the size.

mod codec;
mod dir;
mod error;
mod read;
mod retention;
mod schema;
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
pub use dir::{DATABASE, Quarantined};
pub use error::StoreError;
pub use read::Reader;

use crate::{
    event::UnixNanos,
    ledger::{ClientStats, Coverage},
};

/// Bytes of a database page: `SQLite`'s own default, which is also a page of memory.
const PAGE: u64 = 4096;
/// How long a checkpoint waits for readers; the monitor waits with it.
const PATIENCE: Duration = Duration::from_millis(100);

/// Hours that a clock goes on between two commits. One that jumps, as it may at boot, is no reason
/// to take everything for old: if it is right, then so it is an hour later.
const STEP: RangeInclusive<i64> = 1..=2;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Days. What is older goes when an hour begins while the service runs.
    pub days: u32,
    /// MiB on disk, with the log; at least [`Limits::MIN_MIB`]. Only while a commit is written
    /// may it be more, by what the commit takes.
    pub mib: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { days: 90, mib: 256 }
    }
}

impl Limits {
    /// The least that is of use.
    pub const MIN_MIB: u32 = 8;

    fn bytes(self) -> u64 {
        u64::from(self.mib.max(Self::MIN_MIB)) << 20
    }

    /// For the write-ahead log.
    fn log_bytes(self) -> u64 {
        (self.bytes() / 16).clamp(1 << 20, 16 << 20)
    }

    /// Pages for the database itself.
    fn pages(self) -> u64 {
        (self.bytes() - self.log_bytes()) / PAGE
    }
}

/// The store of the running service.
pub struct Store {
    place: StoreDir,
    path: PathBuf,
    /// Which file it is, whatever its name.
    file: (u64, u64),
    connection: Connection,
    limits: Limits,
    /// This start of the service, once something of it is stored.
    run: Option<i64>,
    /// The hour of the last commit.
    tidied: Option<i64>,
    quarantine: Option<Quarantined>,
}

impl Store {
    /// Opens the store in `directory`, or begins one. Reads the whole database once, to know
    /// that it is sound.
    ///
    /// An error with [`StoreError::is_damage`] never comes out of here: see [`Self::quarantine`].
    /// After any other the service may count in memory and try again later.
    pub fn open(directory: &Path, limits: Limits) -> Result<Self, StoreError> {
        let place = StoreDir::claim(directory)?;
        let path = place.database();
        let (connection, quarantine) = match connect(&place, limits) {
            Ok(connection) => (connection, None),
            Err(error) if error.is_damage() => {
                let quarantine = place.quarantine(&error)?;
                (connect(&place, limits)?, Some(quarantine))
            }
            Err(error) => return Err(error),
        };
        let file = dir::file_id(&path).ok_or_else(|| StoreError::Missing(path.clone()))?;
        Ok(Self {
            place,
            path,
            file,
            connection,
            limits,
            run: None,
            tidied: None,
            quarantine,
        })
    }

    /// The database that could not be used and was renamed, if there was one.
    pub fn quarantine(&self) -> Option<&Quarantined> {
        self.quarantine.as_ref()
    }

    /// The database.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds `delta` to what is stored, all of it or nothing. Waits for the disk.
    ///
    /// `coverage` is that of this run alone, as it is now: a span that was committed before is
    /// replaced by its longer self. `now` decides what is too old to keep.
    ///
    /// After an error nothing was added: the same delta, and what came since, can be tried later.
    /// After [`StoreError::is_damage`] the store must be opened anew for that.
    pub fn commit(
        &mut self,
        delta: &[ClientStats],
        coverage: &Coverage,
        now: UnixNanos,
    ) -> Result<(), StoreError> {
        self.write(delta, coverage, now, false)
    }

    /// As [`Self::commit`], for the last time in this run: the last span ended as it should.
    pub fn close(
        &mut self,
        delta: &[ClientStats],
        coverage: &Coverage,
        now: UnixNanos,
    ) -> Result<(), StoreError> {
        self.write(delta, coverage, now, true)
    }

    /// What is stored of the time since `since`, rounded down to the hour.
    pub fn load(&mut self, since: UnixNanos) -> Result<(Vec<ClientStats>, Coverage), StoreError> {
        let loaded = read::load(&mut self.connection, since, self.run);
        loaded.map_err(|error| StoreError::sql(&self.path, error))
    }

    /// Keeps more or less from now on.
    pub fn set_limits(&mut self, limits: Limits) -> Result<(), StoreError> {
        self.limits = limits;
        self.tidied = None;
        configure(&self.connection, limits).map_err(|error| self.error(error))
    }

    fn write(
        &mut self,
        delta: &[ClientStats],
        coverage: &Coverage,
        now: UnixNanos,
        is_last: bool,
    ) -> Result<(), StoreError> {
        self.check_name()?;
        self.bound_the_log()?;
        let run = self.run;
        let mut written = write::commit(&mut self.connection, run, delta, coverage, is_last);
        if let Err(error) = &written
            && error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            && retention::is_at_limit(&self.connection, self.limits).unwrap_or(false)
        {
            // Not the disk is full, but what the store may take of it: half of it is enough.
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
        // The delta is safe: what goes wrong from here on must not make anybody add it twice.
        let hour = write::hour(now);
        let last = self.tidied.replace(hour);
        let is_due = last.is_some_and(|last| STEP.contains(&hour.saturating_sub(last)));
        if let Err(error) = retention::enforce(&mut self.connection, self.limits, now, is_due) {
            self.tidied = last;
            tracing::warn!(%error, "old data stays in the store for now");
        }
        Ok(())
    }

    /// A database that was removed or replaced takes commits that nobody will ever find.
    fn check_name(&self) -> Result<(), StoreError> {
        if dir::file_id(&self.path) == Some(self.file) {
            return Ok(());
        }
        Err(StoreError::Corrupt {
            path: self.path.clone(),
            what: "it was removed or replaced while the service runs".into(),
        })
    }

    /// The log shrinks only when nobody reads from it: a reader that never ends must not fill the
    /// disk.
    fn bound_the_log(&self) -> Result<(), StoreError> {
        let limit = self.limits.log_bytes();
        if self.place.log_bytes() <= limit {
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
fn connect(place: &StoreDir, limits: Limits) -> Result<Connection, StoreError> {
    place.prepare_database()?;
    let path = place.database();
    let sql = |error| StoreError::sql(&path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(&path, flags).map_err(sql)?;
    connection.busy_timeout(PATIENCE).map_err(sql)?;
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

fn configure(connection: &Connection, limits: Limits) -> rusqlite::Result<()> {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let log = limits.log_bytes();
    // The first counts only before there is a table.
    connection.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -1024;",
    )?;
    schema::set_pragma(connection, "wal_autocheckpoint", signed(log / 2 / PAGE))?;
    schema::set_pragma(connection, "journal_size_limit", signed(log))?;
    schema::set_pragma(connection, "max_page_count", signed(limits.pages()))
}
