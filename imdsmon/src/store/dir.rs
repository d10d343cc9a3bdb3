//! The directory of a store: permissions, the lock, and the quarantine of an unusable database.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};

use crate::store::StoreError;

pub(crate) const DATABASE: &str = "imdsmon.db";
/// Locked while a service writes.
const LOCK: &str = "imdsmon.lock";
/// How long a reader may hold the lock.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// Suffixes of the files of a database in WAL mode.
const SIDECARS: [&str; 3] = ["", "-wal", "-shm"];

/// The directory of a store, locked by this process.
pub(crate) struct StoreDir {
    directory: PathBuf,
    /// Holds the lock; the kernel releases it when the process ends.
    _lock: File,
}

/// An unusable database, under its new name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quarantined {
    pub(crate) path: PathBuf,
    pub(crate) reason: String,
}

impl StoreDir {
    /// Creates the directory with mode 0700 and locks it. The mode of an existing directory stays.
    pub(crate) fn claim(directory: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Directory {
            path: directory.to_owned(),
            source,
        };
        if fs::metadata(directory).is_ok_and(|found| !found.is_dir()) {
            return Err(StoreError::NotADirectory(directory.to_owned()));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
        // SQLite follows no link in the path of a database; one above the directory is fine.
        let directory = directory.canonicalize().map_err(failed)?;
        if fs::metadata(&directory).map_err(failed)?.mode() & 0o002 != 0 {
            return Err(StoreError::Public(directory));
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(directory.join(LOCK))
            .map_err(failed)?;
        match lock_exclusively(&lock) {
            Ok(()) => Ok(Self {
                directory,
                _lock: lock,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse(directory)),
            Err(error) => Err(failed(error.into())),
        }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.directory.join(DATABASE)
    }

    /// Creates the database if there is none, and sets its mode to 0600, which `SQLite` copies to
    /// its other files.
    pub(crate) fn prepare_database(&self) -> Result<(), StoreError> {
        let path = self.database();
        let failed = |source| StoreError::Directory {
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.mode() & 0o077 != 0 {
            let private = fs::Permissions::from_mode(0o600);
            file.set_permissions(private).map_err(failed)?;
        }
        // SQLite would take an empty database for a new one, and remove the log.
        if metadata.len() == 0 && self.log_bytes() > 0 {
            return Err(StoreError::Corrupt {
                path,
                what: "the database is empty but its log is not".into(),
            });
        }
        Ok(())
    }

    /// Size of the write-ahead log.
    pub(crate) fn log_bytes(&self) -> u64 {
        fs::metadata(sidecar(&self.database(), "-wal")).map_or(0, |log| log.len())
    }

    /// Renames the database and its log.
    pub(crate) fn quarantine(&self, why: &StoreError) -> Result<Quarantined, StoreError> {
        let from = self.database();
        let label = if matches!(why, StoreError::Newer { .. }) {
            "newer"
        } else {
            "damaged"
        };
        let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let name = |number| from.with_file_name(format!("{DATABASE}.{label}-{time}{number}"));
        let numbers = (1..100).map(|number| format!(".{number}"));
        let to = std::iter::once(String::new())
            .chain(numbers)
            .map(name)
            .find(|to| fs::symlink_metadata(to).is_err())
            .ok_or_else(|| StoreError::Directory {
                path: self.directory.clone(),
                source: io::Error::other("too many databases were quarantined in this second"),
            })?;
        // The log first: a database without its log is only older.
        for suffix in SIDECARS.iter().rev() {
            match fs::rename(sidecar(&from, suffix), sidecar(&to, suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::Directory {
                        path: from,
                        source: error,
                    });
                }
                _ => {}
            }
        }
        Ok(Quarantined {
            path: to,
            reason: why.to_string(),
        })
    }
}

/// Device and inode of a path.
pub(crate) fn file_id(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

pub(crate) fn sidecar(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Waits for readers, which hold the lock briefly to check for a service.
fn lock_exclusively(lock: &File) -> rustix::io::Result<()> {
    let until = Instant::now() + LOCK_TIMEOUT;
    loop {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                thread::sleep(LOCK_TIMEOUT / 50);
            }
            taken => return taken,
        }
    }
}

/// Whether a service has the database at `path` locked; `None` without the permission to check.
pub(crate) fn is_in_use(path: &Path) -> Option<bool> {
    let lock = match File::open(path.with_file_name(LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(false),
        Err(_) => return None,
    };
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Some(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Some(true),
        Err(_) => None,
    }
}
