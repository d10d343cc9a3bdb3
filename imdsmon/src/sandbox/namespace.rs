//! The network namespace itself: made, named, entered.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    sync::Arc,
};

use super::SandboxError;

/// A network namespace, kept alive by its descriptor.
#[derive(Clone)]
pub(super) struct Namespace {
    file: Arc<OwnedFd>,
    inode: u32,
}

impl Namespace {
    /// Moves the calling thread, and it alone, to a new network namespace.
    pub(super) fn unshare() -> Result<Self, SandboxError> {
        // SAFETY: no memory is involved; only this thread's namespace changes.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            let error = io::Error::last_os_error();
            return Err(match error.raw_os_error() {
                Some(libc::EPERM) => SandboxError::Privilege(error),
                Some(libc::EINVAL | libc::ENOSYS) => SandboxError::Unsupported(error),
                Some(libc::ENOSPC | libc::EUSERS) => SandboxError::Limit(error),
                _ => SandboxError::Namespace(error),
            });
        }
        let file = File::open("/proc/thread-self/ns/net").map_err(SandboxError::Proc)?;
        let inode = file.metadata().map_err(SandboxError::Proc)?.ino();
        // Inode numbers of namespaces are 32 bits wide (`ns_common.inum`).
        let inode =
            u32::try_from(inode).map_err(|wide| SandboxError::Proc(io::Error::other(wide)))?;
        Ok(Self {
            file: Arc::new(file.into()),
            inode,
        })
    }

    /// Moves the calling thread in. Safe to call between fork and exec.
    pub(super) fn join(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open for the call; no memory is involved.
        if unsafe { libc::setns(self.file.as_raw_fd(), libc::CLONE_NEWNET) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    pub(super) fn inode(&self) -> u32 {
        self.inode
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
