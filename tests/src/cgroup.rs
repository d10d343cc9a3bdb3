//! A cgroup for a client.

use std::{
    ffi::CString,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _, process::CommandExt as _},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

/// Inode number of the hierarchy's root.
const ROOT: u64 = 1;

/// A cgroup below the cgroup v2 root, removed when dropped.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
    /// What was made for it, outermost first.
    made: Vec<PathBuf>,
    /// As `/proc/PID/cgroup` shows it.
    pub path: String,
}

impl Cgroup {
    /// A new one; `None`, with a word, if there is no place for it here.
    #[must_use]
    pub fn new() -> Option<Self> {
        Self::below("")
    }

    /// The same with this path below it, so that tests do not meet.
    #[must_use]
    pub fn below(path: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::at(&format!(
            "/imdsmon-test-{}-{count}{path}",
            std::process::id()
        ))
    }

    /// The one with this path, made as far as it is not there; `None`, with a word, if there is no
    /// place for it here.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        let Some(root) = root() else {
            eprintln!("SKIPPED: the root of cgroup v2 is not mounted here");
            return None;
        };
        let mut cgroup = Self {
            directory: root,
            made: Vec::new(),
            path: path.into(),
        };
        for part in path.split('/').skip(1) {
            cgroup.directory.push(part);
            match fs::create_dir(&cgroup.directory) {
                Ok(()) => cgroup.made.push(cgroup.directory.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    eprintln!("SKIPPED: no cgroup can be made here: {error}");
                    return None;
                }
            }
        }
        Some(cgroup)
    }

    /// Lets the child that `command` will spawn run in it.
    ///
    /// # Panics
    ///
    /// If the path has a NUL in it.
    pub fn enter<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let file = self.directory.join("cgroup.procs");
        let file = CString::new(file.as_os_str().as_bytes()).expect("a path");
        let join = move || {
            // SAFETY: the path is a live C string, the buffer a live literal: `0` stands for the
            // writer. What is opened is closed with the exec at the latest.
            let written = unsafe {
                let fd = libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                libc::write(fd, c"0".as_ptr().cast(), 1)
            };
            if written == 1 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        };
        // SAFETY: between fork and exec the closure makes two system calls and no allocation.
        unsafe { command.pre_exec(join) }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for directory in self.made.iter().rev() {
            // Who was in it may need a moment to be gone; who else is in it keeps it.
            let gone = (0..100).any(|_| {
                let removed = fs::remove_dir(directory).is_ok();
                if !removed {
                    thread::sleep(Duration::from_millis(10));
                }
                removed
            });
            if !gone {
                eprintln!("{} is left behind", directory.display());
                return;
            }
        }
    }
}

/// Where the hierarchy is mounted from its root.
fn root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let points = mounts.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        filesystem
            .starts_with("cgroup2 ")
            .then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    });
    let mut roots = points.filter(|point| fs::metadata(point).is_ok_and(|m| m.ino() == ROOT));
    roots.next()
}
