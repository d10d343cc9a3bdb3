//! What can go wrong with a store, in sentences for whoever runs the service.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::ErrorCode;

/// Why something could not be done with a store. Each names the file or the directory.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made or used.
    #[error("cannot use {} for the store: {source}", path.display())]
    Directory {
        /// The directory, or a file in it.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Something else has the directory's name.
    #[error("{} is not a directory; name one for the store", .0.display())]
    NotADirectory(PathBuf),
    /// Others may write to the directory, and so could replace the store.
    #[error(
        "{} is no place for the store: every user may write to it; choose a directory of its own",
        .0.display()
    )]
    Public(PathBuf),
    /// Another service writes to it.
    #[error(
        "another imdsmon service uses the store in {}; stop it, or give this one a directory of \
         its own",
        .0.display()
    )]
    InUse(PathBuf),
    /// Nothing was ever stored there.
    #[error("there is no store at {}: the service was never started with it", .0.display())]
    Missing(PathBuf),
    /// The system says no.
    #[error("the store {} may not be read by this user; try as root", .0.display())]
    Denied(PathBuf),
    /// Written by a later version.
    #[error(
        "the store {} was written by a newer imdsmon (schema {found}, this one knows up to \
         {known})",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The latest that this version knows.
        known: i64,
    },
    /// It is damaged, or something else.
    #[error("the store {} is damaged: {what}", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The disk, or the room that the store may take, is full.
    #[error("no room for the store {}: the disk or its limit is full", .0.display())]
    Full(PathBuf),
    /// The file system takes no writes.
    #[error("the store {} cannot be written: it is on a read-only file system", .0.display())]
    ReadOnly(PathBuf),
    /// A reader holds on to it.
    #[error("the store {} is held by a reader for too long", .0.display())]
    Busy(PathBuf),
    /// Anything else.
    #[error("the store {} failed: {source}", path.display())]
    Other {
        /// The database.
        path: PathBuf,
        /// The database's reason.
        source: rusqlite::Error,
    },
}

impl StoreError {
    /// What an error of the database means.
    pub(super) fn sql(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(path),
            Some(ErrorCode::ReadOnly) => Self::ReadOnly(path),
            Some(ErrorCode::PermissionDenied) => Self::Denied(path),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(path),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt {
                path,
                what: error.to_string(),
            },
            _ => Self::Other {
                path,
                source: error,
            },
        }
    }

    /// Whether the database itself is at fault: it must be set aside, and then watching goes on
    /// with a new one. After all other errors the same commit can be tried again later.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Newer { .. })
    }
}
