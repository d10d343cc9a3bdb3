//! The package that owns an executable.
//!
//! The databases are large: a thread looks up each executable once, for later tasks. The first task
//! waits a few milliseconds, enough if the package has the executable's name.

mod dpkg;
mod rpm;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    rc::Rc,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::Duration,
};

use lru::LruCache;

use crate::enrich::rootfs::HostRoot;
use crate::event::{bytes::ByteString, facts::FileId};

const MAX_KNOWN: NonZeroUsize = NonZeroUsize::new(512).unwrap();
/// Length of the queue; if it is full, a later task tries again.
const MAX_WAITING: usize = 64;
/// How long the first task of an executable waits.
const FIRST_LOOKUP_TIMEOUT: Duration = Duration::from_millis(3);

/// An executable: a file, and its path on the host.
type Executable = (FileId, ByteString);
/// An executable and its package, if any.
type Owned = (Executable, Option<String>);

pub(crate) struct Packages {
    root: PathBuf,
    thread: Option<(SyncSender<Executable>, Receiver<Owned>)>,
    known: LruCache<Executable, Known>,
}

enum Known {
    Queued,
    Owner(Option<String>),
}

impl Packages {
    pub(crate) fn new(host: &Rc<HostRoot>) -> Self {
        Self {
            root: host.path(Path::new("/")),
            thread: None,
            known: LruCache::new(MAX_KNOWN),
        }
    }

    /// The package that owns this host executable, with its version; also `None` while the lookup
    /// runs.
    pub(crate) fn owner(&mut self, file: FileId, exe: &ByteString) -> Option<String> {
        let executable = (file, exe.clone());
        self.learn(None);
        if !self.known.contains(&executable) && self.enqueue(&executable) {
            self.known.put(executable.clone(), Known::Queued);
            self.learn(Some(FIRST_LOOKUP_TIMEOUT));
        }
        match self.known.get(&executable)? {
            Known::Queued => None,
            Known::Owner(package) => package.clone(),
        }
    }

    fn enqueue(&mut self, executable: &Executable) -> bool {
        if self.thread.is_none() {
            self.thread = start(self.root.clone());
        }
        let queue = self.thread.as_ref().map(|(queue, _)| queue);
        queue.is_some_and(|queue| queue.try_send(executable.clone()).is_ok())
    }

    /// Takes finished lookups; waits up to `timeout` for one.
    fn learn(&mut self, timeout: Option<Duration>) {
        let Some((_, finished)) = &self.thread else {
            return;
        };
        let first = timeout.and_then(|timeout| finished.recv_timeout(timeout).ok());
        for (executable, package) in first.into_iter().chain(finished.try_iter()) {
            self.known.put(executable, Known::Owner(package));
        }
    }
}

/// Starts the thread, which ends when the queue is dropped.
fn start(root: PathBuf) -> Option<(SyncSender<Executable>, Receiver<Owned>)> {
    let (queue, queued) = sync_channel::<Executable>(MAX_WAITING);
    let (finish, finished) = sync_channel(MAX_WAITING);
    let work = move || {
        let host = HostRoot::at(&root);
        for executable in queued {
            let package = look(&host, &executable.1);
            if finish.send((executable, package)).is_err() {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new()
        .name("packages".into())
        .spawn(work);
    thread.ok().map(|_runs| (queue, finished))
}

fn look(host: &HostRoot, exe: &[u8]) -> Option<String> {
    let exe = std::str::from_utf8(exe).ok()?;
    dpkg::owner(host, exe).or_else(|| rpm::owner(host, exe))
}

/// Paths of an executable where the distribution has merged `/bin` into `/usr/bin` (and `sbin`,
/// `lib`): the database may still have the old one.
fn spellings(exe: &str) -> impl Iterator<Item = &str> {
    let merged = exe.strip_prefix("/usr").filter(|old| {
        ["/bin/", "/sbin/", "/lib"]
            .iter()
            .any(|directory| old.starts_with(directory))
    });
    [exe].into_iter().chain(merged)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
