//! Errors of a store. Each names the file or the directory.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::ErrorCode;

use crate::text::io_error::reason;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("cannot use {} for the store: {}", path.display(), reason(source))]
    Directory {
        /// The directory, or a file in it.
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot use {} for the store: not a directory; choose a directory", .0.display())]
    NotADirectory(PathBuf),
    /// The directory is world-writable, so any user could replace the store.
    #[error(
        "cannot use {} for the store: the directory is world-writable; choose a private directory",
        .0.display()
    )]
    Public(PathBuf),
    #[error(
        "cannot use the store in {}: another imdsmon service uses it; stop that service or choose \
         another directory",
        .0.display()
    )]
    InUse(PathBuf),
    #[error("cannot open store {}: no such store; start the service or name its --store", .0.display())]
    Missing(PathBuf),
    #[error("cannot open store {}: permission denied; run as root", .0.display())]
    Denied(PathBuf),
    #[error(
        "cannot use store {}: written by a newer imdsmon (schema {found}, supported up to \
         {known}); update imdsmon",
        path.display()
    )]
    Newer {
        path: PathBuf,
        found: i64,
        /// The latest schema that this version supports.
        known: i64,
    },
    #[error("store {} is damaged: {what}; move the file away and restart the service", path.display())]
    Corrupt { path: PathBuf, what: String },
    /// The disk is full, or the size limit of the store is reached.
    #[error("cannot write store {}: the disk or the size limit is full; free space or raise the limit", .0.display())]
    Full(PathBuf),
    #[error("cannot write store {}: read-only file system; choose another directory", .0.display())]
    ReadOnly(PathBuf),
    #[error("cannot write store {}: timed out waiting for a reader; end the reader", .0.display())]
    Busy(PathBuf),
    #[error("store {} failed: {source}", path.display())]
    Other {
        path: PathBuf,
        source: rusqlite::Error,
    },
}

impl StoreError {
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

    /// Whether the database itself is unusable: it must be quarantined, and a new one takes its
    /// place. After all other errors the same commit can be retried.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Newer { .. })
    }
}
