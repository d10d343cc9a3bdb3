//! Reads host files that other users may control: bounded, without blocking, and never outside the
//! host's root.

use std::{
    fs::File,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fd::OwnedFd,
    fs::{Dir, Mode, OFlags, ResolveFlags},
};

const MAX_ENTRIES: usize = 64;

#[derive(Debug)]
pub(crate) struct HostRoot {
    root: PathBuf,
    directory: Option<OwnedFd>,
}

impl Default for HostRoot {
    fn default() -> Self {
        Self::at(Path::new("/"))
    }
}

impl HostRoot {
    /// The host with its root directory at `root`. If that does not exist, no file does.
    pub(crate) fn at(root: &Path) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self {
            root: root.into(),
            directory: rustix::fs::open(root, flags, Mode::empty()).ok(),
        }
    }

    /// Translates an absolute path of the host.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A regular file of at most `max` bytes, below system directories.
    pub(crate) fn read(&self, path: &Path, max: u64) -> Option<Vec<u8>> {
        // The administrator controls the symlinks (`/var/lib/docker` to a larger disk); they are
        // resolved within the host's root.
        read(self.open(path, ResolveFlags::empty())?, max, |_| true)
    }

    /// The same below a user's home directory, which the user controls: no symlinks, and no files
    /// of other users.
    pub(crate) fn read_of_user(&self, path: &Path, max: u64, uid: u32) -> Option<Vec<u8>> {
        let file = self.open(path, ResolveFlags::NO_SYMLINKS)?;
        read(file, max, |owner| owner == uid)
    }

    /// Modification time of a system file in nanoseconds; `None` if there is none.
    pub(crate) fn changed(&self, path: &Path) -> Option<i128> {
        let metadata = self.open(path, ResolveFlags::empty())?.metadata().ok()?;
        Some(i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()))
    }

    /// At most [`MAX_ENTRIES`] names in a system directory.
    pub(crate) fn names(&self, path: &Path) -> Vec<String> {
        let Some(directory) = self.open(path, ResolveFlags::empty()) else {
            return Vec::new();
        };
        let Ok(entries) = Dir::read_from(directory) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(String::from))
            .filter(|name| !name.starts_with('.'))
            .take(MAX_ENTRIES)
            .collect()
    }

    fn open(&self, path: &Path, more: ResolveFlags) -> Option<File> {
        // A FIFO must not block, and no link may lead into /proc/PID.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        let root = self.directory.as_ref()?;
        let file = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve).ok()?;
        Some(file.into())
    }
}

fn read(file: File, max: u64, is_owner: impl Fn(u32) -> bool) -> Option<Vec<u8>> {
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > max || !is_owner(metadata.uid()) {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use crate::enrich::rootfs::*;

    #[test]
    fn only_small_regular_files_below_the_root_are_read() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::write(at("file"), "text").unwrap();
        fs::create_dir(at("directory")).unwrap();
        symlink("/file", at("link")).unwrap();
        symlink("/etc/passwd", at("outside")).unwrap();
        symlink("../../../etc/passwd", at("above")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), Mode::RUSR).unwrap();
        let host = HostRoot::at(root.path());
        let uid = fs::metadata(at("file")).unwrap().uid();
        let text = Some(b"text".to_vec());
        assert_eq!(host.read(Path::new("/file"), 4), text);
        assert_eq!(host.read(Path::new("/file"), 3), None, "too large");
        assert_eq!(host.read(Path::new("/link"), 4), text, "within the root");
        for name in [
            "/pipe",
            "/directory",
            "/outside",
            "/above",
            "/none",
            "/file/x",
            "/../../etc/passwd",
        ] {
            assert_eq!(host.read(Path::new(name), 1 << 20), None, "{name}");
        }
        assert_eq!(host.read_of_user(Path::new("/file"), 4, uid), text);
        assert_eq!(host.read_of_user(Path::new("/file"), 4, uid + 1), None);
        assert_eq!(host.read_of_user(Path::new("/link"), 4, uid), None);
        assert!(host.changed(Path::new("/file")).is_some());
        assert!(host.names(Path::new("/")).contains(&"directory".into()));
        assert!(
            HostRoot::at(&at("none"))
                .read(Path::new("/file"), 4)
                .is_none()
        );
    }
}
