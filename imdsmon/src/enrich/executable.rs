//! The path of an executable whose process has ended.
//!
//! The kernel reports device and inode. Candidates are earlier paths of that file, the first
//! argument and the usual directories; a candidate must have that device and inode.

use std::{
    ffi::OsStr,
    fs,
    num::NonZeroUsize,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use lru::LruCache;

use crate::event::{Task, bytes::ByteString, facts::FileId};
use crate::identity::process::file_name;

const MAX_KNOWN: NonZeroUsize = NonZeroUsize::new(512).unwrap();
/// Usual directories of programs.
const DIRECTORIES: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

pub(crate) struct Executables {
    known: LruCache<FileId, ByteString>,
}

impl Default for Executables {
    fn default() -> Self {
        Self {
            known: LruCache::new(MAX_KNOWN),
        }
    }
}

impl Executables {
    /// Stores the path if `/proc` had it, and searches for it otherwise.
    pub(crate) fn complete(&mut self, task: &mut Task) {
        let (Some(file), Some(name)) = (task.exe_file, &task.exe_name) else {
            return;
        };
        match task.proc.as_ref().and_then(|proc| proc.exe.as_ref()) {
            Some(exe) if file_name(exe) == &name[..] => {
                self.known.put(file, exe.clone());
            }
            _ => {
                task.exe = self
                    .known
                    .get(&file)
                    .filter(|exe| still_is(exe, file, name))
                    .cloned()
                    .or_else(|| search(task, file, name));
            }
        }
    }
}

fn search(task: &Task, file: FileId, name: &[u8]) -> Option<ByteString> {
    let first = task.argv.as_ref().and_then(|argv| argv.first());
    let said = first.map(|arg| PathBuf::from(OsStr::from_bytes(arg)));
    said.into_iter()
        .filter(|path| path.is_absolute())
        .chain(
            DIRECTORIES
                .iter()
                .map(|d| Path::new(d).join(OsStr::from_bytes(name))),
        )
        .find(|path| is(path, file))
        .and_then(|path| fs::canonicalize(path).ok())
        .map(|path| path.as_os_str().as_bytes().into())
}

/// An inode number may be reused: the cached path must still match, unless it does not exist here.
fn still_is(exe: &[u8], file: FileId, name: &[u8]) -> bool {
    let path = Path::new(OsStr::from_bytes(exe));
    file_name(exe) == name && (is(path, file) || !path.exists())
}

fn is(path: &Path, file: FileId) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.dev() == file.device && m.ino() == file.inode)
}

#[cfg(test)]
mod tests {
    use crate::enrich::executable::*;
    use crate::event::facts::ProcFacts;

    fn shell() -> (FileId, ByteString) {
        let path = fs::canonicalize("/bin/sh").unwrap();
        let metadata = fs::metadata(&path).unwrap();
        let id = FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
        };
        (id, path.as_os_str().as_bytes().into())
    }

    fn gone(file: FileId, name: &[u8], argv: &[u8]) -> Task {
        Task {
            exe_file: Some(file),
            exe_name: Some(name.into()),
            argv: Some(vec![argv.into()]),
            ..Task::default()
        }
    }

    #[test]
    fn the_first_argument_counts_only_if_it_is_that_file() {
        let (file, path) = shell();
        let mut task = gone(file, b"whatever", b"/bin/sh");
        Executables::default().complete(&mut task);
        assert_eq!(task.exe, Some(path));
        let mut liar = gone(file, b"whatever", b"/bin/cat");
        Executables::default().complete(&mut liar);
        assert_eq!(liar.exe, None);
    }

    #[test]
    fn what_was_seen_once_is_known_again() {
        let file = FileId {
            device: 1,
            inode: 2,
        };
        let exe: ByteString = b"/opt/app/bin/app".as_slice().into();
        let mut executables = Executables::default();
        let mut seen = gone(file, b"app", b"app");
        seen.proc = Some(ProcFacts {
            exe: Some(exe.clone()),
            ..ProcFacts::default()
        });
        executables.complete(&mut seen);
        let mut task = gone(file, b"app", b"app");
        executables.complete(&mut task);
        assert_eq!(task.exe, Some(exe));
        let mut other = gone(file, b"other", b"other");
        executables.complete(&mut other);
        assert_eq!(other.exe, None, "the number was used again");
    }
}
