//! The cgroup v2 hierarchy: its root, and the path of a cgroup in it.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Inode number of the root directory of the whole hierarchy.
const ROOT_INODE: u64 = 1;
/// Type of the file handles of cgroup directories, Linux 5.5 and later:
/// <https://github.com/torvalds/linux/commit/33c5ac9175195c36a0b7005aaf503a2e81f117a1>
const FILEID_KERNFS: libc::c_int = 0xfe;

/// The root of the cgroup v2 hierarchy; programs attached here apply to all sockets.
#[derive(Debug)]
pub struct Root {
    directory: File,
    /// Mount point; `None` if imdsmon made a detached mount.
    pub(crate) path: Option<PathBuf>,
}

/// Why no root was found.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error(
        "cgroup v2 is not mounted and cannot be mounted ({0}); \
         run `mount -t cgroup2 none /sys/fs/cgroup/unified` as root, on kernel 5.10 or later"
    )]
    None(io::Error),
    #[error(
        "only a part of the cgroup hierarchy is visible here, at {0}; in a container, use the \
         host's cgroup namespace (`--cgroupns=host`) and mount the host's /sys/fs/cgroup"
    )]
    Partial(PathBuf),
    #[error("cannot open the cgroup v2 root {0}: {1}")]
    Open(PathBuf, io::Error),
}

impl Root {
    /// Finds the root, or makes a detached mount of it.
    pub fn find() -> Result<Self, CgroupError> {
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        let mut partial = None;
        for path in mount_points(&mounts) {
            let directory = match File::open(&path) {
                Ok(directory) => directory,
                Err(error) => return Err(CgroupError::Open(path, error)),
            };
            if directory.metadata().is_ok_and(|m| m.ino() == ROOT_INODE) {
                return Ok(Self {
                    directory,
                    path: Some(path),
                });
            }
            partial = Some(path);
        }
        if let Some(path) = partial {
            return Err(CgroupError::Partial(path));
        }
        let directory = mount().map_err(CgroupError::None)?;
        if directory.metadata().is_ok_and(|m| m.ino() == ROOT_INODE) {
            Ok(Self {
                directory,
                path: None,
            })
        } else {
            Err(CgroupError::Partial("(private mount)".into()))
        }
    }

    /// The path below the root of the cgroup with this ID, if it still exists. The ID is the
    /// directory's inode number, as returned by `bpf_get_current_cgroup_id`.
    pub(crate) fn path_of(&self, id: u64) -> Option<PathBuf> {
        if id == ROOT_INODE {
            return Some("/".into());
        }
        let directory = open_by_id(self.directory.as_fd(), id).ok()?;
        let link = std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).ok()?;
        let below = link
            .strip_prefix(self.path.as_deref().unwrap_or(Path::new("/")))
            .ok()?;
        Some(Path::new("/").join(below))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The mount points of type cgroup2 that show a hierarchy from its root.
fn mount_points(mountinfo: &[u8]) -> Vec<PathBuf> {
    mountinfo
        .split(|&b| b == b'\n')
        .filter_map(|line| {
            let line = std::str::from_utf8(line).ok()?;
            let (mount, filesystem) = line.split_once(" - ")?;
            let point = mount.split(' ').nth(4)?;
            (filesystem.split(' ').next() == Some("cgroup2")).then(|| unescape(point))
        })
        .collect()
}

/// mountinfo writes space, tab, newline and backslash as three octal digits (proc(5)).
fn unescape(point: &str) -> PathBuf {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    escapes
        .iter()
        .fold(point.to_owned(), |p, (code, text)| p.replace(code, text))
        .into()
}

/// A detached mount, removed with its descriptor (Linux 5.2).
fn mount() -> io::Result<File> {
    let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let mount = fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?;
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::openat(mount, ".", flags, rustix::fs::Mode::empty())?.into())
}

/// Opens a cgroup directory by its inode number (`open_by_handle_at`, needs
/// `CAP_DAC_READ_SEARCH`).
fn open_by_id(root: BorrowedFd<'_>, id: u64) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Handle {
        head: libc::file_handle,
        id: u64,
    }
    // SAFETY: all-zero is a valid value of this struct of integers.
    let mut handle: Handle = unsafe { std::mem::zeroed() };
    handle.head.handle_bytes = 8;
    handle.head.handle_type = FILEID_KERNFS;
    handle.id = id;
    // SAFETY: `handle` is a file_handle followed by the 8 bytes that its `handle_bytes` announces,
    // and outlives the call.
    let fd = unsafe {
        libc::open_by_handle_at(
            root.as_raw_fd(),
            (&raw mut handle).cast(),
            libc::O_PATH | libc::O_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_of_other_types_do_not_count() {
        let mountinfo = b"24 1 0:21 / /proc rw - proc proc rw\n\
            30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            31 24 0:27 / /sys/fs/cgroup/uni\\040fied rw,nosuid shared:9 - cgroup2 cgroup2 rw\n\
            broken line\n\xff\xfe\n";
        assert_eq!(
            mount_points(mountinfo),
            [PathBuf::from("/sys/fs/cgroup/uni fied")]
        );
    }

    #[test]
    fn a_cgroup_is_found_by_its_id() {
        let Ok(root) = Root::find() else {
            eprintln!("SKIPPED: no cgroup v2 here");
            return;
        };
        assert_eq!(root.path_of(ROOT_INODE), Some("/".into()));
        assert_eq!(root.path_of(u64::MAX), None);
    }
}
