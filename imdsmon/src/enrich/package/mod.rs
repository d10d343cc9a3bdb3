//! Which package owns an executable.
//!
//! The databases are large, and the events do not wait: a thread looks, once per executable, and
//! what it found is known to the tasks that come later. The first task waits a few milliseconds,
//! which is enough where the package has the executable's name.

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

/// Executables that are remembered.
const MAX_KNOWN: NonZeroUsize = NonZeroUsize::new(512).unwrap();
/// Executables that may wait for an answer; what is beyond is asked for again.
const MAX_WAITING: usize = 64;
/// How long the first task of an executable waits for the answer.
const FIRST_LOOKUP_TIMEOUT: Duration = Duration::from_millis(3);

/// An executable: a file, and its path on the host.
type Executable = (FileId, ByteString);
/// What a thread answers: which executable, and its package, if it has one.
type Answer = (Executable, Option<String>);

/// Packages by executable.
pub(crate) struct Packages {
    root: PathBuf,
    thread: Option<(SyncSender<Executable>, Receiver<Answer>)>,
    known: LruCache<Executable, Known>,
}

/// What is known of an executable.
enum Known {
    /// The thread was asked.
    Asked,
    /// Its package, if it has one.
    Owner(Option<String>),
}

impl Packages {
    /// Nothing is known yet, and no thread runs.
    pub(crate) fn new(host: &Rc<HostRoot>) -> Self {
        Self {
            root: host.path(Path::new("/")),
            thread: None,
            known: LruCache::new(MAX_KNOWN),
        }
    }

    /// The package that owns this executable of the host, and its version, as far as it is known
    /// by now.
    pub(crate) fn owner(&mut self, file: FileId, exe: &ByteString) -> Option<String> {
        let executable = (file, exe.clone());
        self.learn(None);
        if !self.known.contains(&executable) && self.ask(&executable) {
            self.known.put(executable.clone(), Known::Asked);
            self.learn(Some(FIRST_LOOKUP_TIMEOUT));
        }
        match self.known.get(&executable)? {
            Known::Asked => None,
            Known::Owner(package) => package.clone(),
        }
    }

    fn ask(&mut self, executable: &Executable) -> bool {
        if self.thread.is_none() {
            self.thread = start(self.root.clone());
        }
        let questions = self.thread.as_ref().map(|(questions, _)| questions);
        questions.is_some_and(|questions| questions.try_send(executable.clone()).is_ok())
    }

    /// Takes the answers that are there; the first may be waited for.
    fn learn(&mut self, patience: Option<Duration>) {
        let Some((_, answers)) = &self.thread else {
            return;
        };
        let first = patience.and_then(|patience| answers.recv_timeout(patience).ok());
        for (executable, package) in first.into_iter().chain(answers.try_iter()) {
            self.known.put(executable, Known::Owner(package));
        }
    }
}

/// Starts the thread; it ends when the last asker is gone.
fn start(root: PathBuf) -> Option<(SyncSender<Executable>, Receiver<Answer>)> {
    let (questions, asked) = sync_channel::<Executable>(MAX_WAITING);
    let (answer, answers) = sync_channel(MAX_WAITING);
    let work = move || {
        let host = HostRoot::at(&root);
        for executable in asked {
            let package = look(&host, &executable.1);
            if answer.send((executable, package)).is_err() {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new()
        .name("packages".into())
        .spawn(work);
    thread.ok().map(|_runs| (questions, answers))
}

fn look(host: &HostRoot, exe: &[u8]) -> Option<String> {
    let exe = std::str::from_utf8(exe).ok()?;
    dpkg::owner(host, exe).or_else(|| rpm::owner(host, exe))
}

/// An executable's path where the distribution has merged `/bin` into `/usr/bin` (and `sbin`,
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
