//! The network namespace itself: made, named, entered.
//!
//! A service without `CAP_SYS_ADMIN` can make none, but its service manager may have given it one
//! of its own (`PrivateNetwork=` of systemd). Then that one is used: what has no link but `lo` has
//! no way out either.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    sync::Arc,
};

use super::SimulatorError;

/// A network namespace, kept alive by its descriptor.
#[derive(Clone)]
pub(super) struct NetworkNamespace {
    file: Arc<OwnedFd>,
    inode: u32,
    /// The whole process is in it already.
    inherited: bool,
}

/// Process 2 is `kthreadd`: the kernel's threads stay in the host's namespace.
const HOST: &str = "/proc/2/ns/net";
const OWN: &str = "/proc/thread-self/ns/net";
/// The calling thread's links: two lines of headings, then one line for each.
const LINKS: &str = "/proc/thread-self/net/dev";

impl NetworkNamespace {
    /// Moves the calling thread, and it alone, to a new network namespace; stays where it is if
    /// it may not, and is in a private one already.
    pub(super) fn unshare() -> Result<Self, SimulatorError> {
        // SAFETY: no memory is involved; only this thread's namespace changes.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 {
            return Self::current(false);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EPERM) if is_private() => Self::current(true),
            Some(libc::EPERM) => Err(SimulatorError::Privilege(error)),
            Some(libc::EINVAL | libc::ENOSYS) => Err(SimulatorError::Unsupported(error)),
            Some(libc::ENOSPC | libc::EUSERS) => Err(SimulatorError::Limit(error)),
            _ => Err(SimulatorError::Namespace(error)),
        }
    }

    fn current(inherited: bool) -> Result<Self, SimulatorError> {
        let file = File::open(OWN).map_err(SimulatorError::Proc)?;
        let inode = file.metadata().map_err(SimulatorError::Proc)?.ino();
        // Inode numbers of namespaces are 32 bits wide (`ns_common.inum`).
        let inode =
            u32::try_from(inode).map_err(|wide| SimulatorError::Proc(io::Error::other(wide)))?;
        Ok(Self {
            file: Arc::new(file.into()),
            inode,
            inherited,
        })
    }

    /// Moves the calling thread in. Safe to call between fork and exec.
    pub(super) fn join(&self) -> io::Result<()> {
        if self.inherited {
            return Ok(());
        }
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

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether the calling thread's namespace is not the host's and has no way out. What cannot be
/// read counts against it.
fn is_private() -> bool {
    let (Ok(host), Ok(own), Ok(links)) = (
        fs::read_link(HOST),
        fs::read_link(OWN),
        fs::read_to_string(LINKS),
    ) else {
        return false;
    };
    host != own && has_no_way_out(&links)
}

/// Whether `lo` is the only link of `/proc/net/dev`.
fn has_no_way_out(links: &str) -> bool {
    let mut names = links
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next());
    names.next().map(str::trim) == Some("lo") && names.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::has_no_way_out;

    const HEADINGS: &str = "Inter-|   Receive    |  Transmit\n face |bytes    |bytes\n";

    #[test]
    fn only_a_lone_loopback_has_no_way_out() {
        let with = |links: &str| has_no_way_out(&format!("{HEADINGS}{links}"));
        assert!(with("    lo:       0       0\n"));
        assert!(!with("    lo:       0       0\n  ens5:       0       0\n"));
        assert!(!with("  ens5:       0       0\n"));
        assert!(!with(""));
        assert!(!has_no_way_out(""));
    }
}
