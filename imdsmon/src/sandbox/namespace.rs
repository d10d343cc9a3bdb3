//! Creates and enters the simulator's network namespace.
//!
//! A service without `CAP_SYS_ADMIN` cannot create one, but its service manager may have started
//! it in one (`PrivateNetwork=` of systemd). That one is used if `lo` is its only link, since then
//! nothing sent in it can leave the host.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    sync::Arc,
};

use rustix::{
    io::Errno,
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

use super::SimulatorError;

/// A network namespace, kept alive by its descriptor.
#[derive(Clone)]
pub(super) struct NetworkNamespace {
    file: Arc<OwnedFd>,
    inode: u32,
    /// The process was started in it.
    inherited: bool,
}

/// Process 2 is `kthreadd`, which starts in the initial network namespace and never leaves it:
/// <https://elixir.bootlin.com/linux/v6.12.43/source/init/main.c#L725>
const HOST_NAMESPACE: &str = "/proc/2/ns/net";
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";
/// The links of the calling thread's namespace: two header lines, then one line per link.
const LINKS: &str = "/proc/thread-self/net/dev";

impl NetworkNamespace {
    /// Moves only the calling thread to a new network namespace. Without permission, it keeps its
    /// namespace if that is private.
    pub(super) fn unshare() -> Result<Self, SimulatorError> {
        // SAFETY: unsafe only with `UnshareFlags::FILES`; this flag changes no descriptor.
        match unsafe { unshare_unsafe(UnshareFlags::NEWNET) } {
            Ok(()) => Self::current(false),
            Err(Errno::PERM) if is_private() => Self::current(true),
            Err(error @ Errno::PERM) => Err(SimulatorError::Privilege(error.into())),
            Err(error @ (Errno::INVAL | Errno::NOSYS)) => {
                Err(SimulatorError::Unsupported(error.into()))
            }
            Err(error @ (Errno::NOSPC | Errno::USERS)) => Err(SimulatorError::Limit(error.into())),
            Err(error) => Err(SimulatorError::Namespace(error.into())),
        }
    }

    fn current(inherited: bool) -> Result<Self, SimulatorError> {
        let file = File::open(OWN_NAMESPACE).map_err(SimulatorError::Proc)?;
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
    pub(super) fn enter(&self) -> io::Result<()> {
        if self.inherited {
            return Ok(());
        }
        Ok(move_into_link_name_space(
            self.file.as_fd(),
            Some(LinkNameSpaceType::Network),
        )?)
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

/// Whether the calling thread's namespace is not the host's and has no link but `lo`. False if
/// `/proc` does not show it.
fn is_private() -> bool {
    let (Ok(host), Ok(own), Ok(links)) = (
        fs::read_link(HOST_NAMESPACE),
        fs::read_link(OWN_NAMESPACE),
        fs::read_to_string(LINKS),
    ) else {
        return false;
    };
    host != own && has_only_loopback(&links)
}

fn has_only_loopback(links: &str) -> bool {
    let mut names = links
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next());
    names.next().map(str::trim) == Some("lo") && names.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::has_only_loopback;

    const HEADER: &str = "Inter-|   Receive    |  Transmit\n face |bytes    |bytes\n";

    #[test]
    fn only_a_lone_loopback_is_private() {
        let with = |links: &str| has_only_loopback(&format!("{HEADER}{links}"));
        assert!(with("    lo:       0       0\n"));
        assert!(!with("    lo:       0       0\n  ens5:       0       0\n"));
        assert!(!with("  ens5:       0       0\n"));
        assert!(!with(""));
        assert!(!has_only_loopback(""));
    }
}
