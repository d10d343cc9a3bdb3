//! Looks at `/proc` the moment an event arrives, while the caller is nearly always still there:
//! `connect` runs before the handshake.

mod container;
mod executable;
mod package;
mod parent_cache;
mod passwd;
mod proc;
mod rootfs;

use std::{
    ffi::OsStr,
    fs::Metadata,
    num::NonZeroUsize,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    rc::Rc,
    time::Instant,
};

pub use crate::enrich::proc::sees_the_hosts_processes;
use crate::{
    capture::cgroup::Root,
    event::{
        Event, Role, Task,
        bytes::ByteString,
        facts::{Ancestor, FileId, ProcFacts},
    },
};
use crate::{
    enrich::{
        container::{Containers, Owner},
        executable::Executables,
        package::Packages,
        parent_cache::ParentCache,
        passwd::Passwd,
        proc::{look, name_ancestors, netns},
        rootfs::HostRoot,
    },
    identity::{cgroup_path::CgroupPath, process::cgroup},
};
use lru::LruCache;

/// Processes whose facts are remembered: a client may open thousands of connections.
const MAX_KNOWN: NonZeroUsize = NonZeroUsize::new(128).unwrap();

/// Adds to each task what `/proc` and the host's files say about it.
pub struct Enricher {
    host: Rc<HostRoot>,
    passwd: Passwd,
    executables: Executables,
    kin: ParentCache,
    packages: Packages,
    containers: Containers,
    root: Rc<Root>,
    /// Network namespace of the host.
    netns: Option<u32>,
    known: LruCache<Program, ProcFacts>,
}

/// What tells one program in one process from any other; only the kernel can say it.
#[derive(PartialEq, Eq, Hash)]
struct Program {
    pid: u32,
    start: u64,
    exe: ByteString,
    file: Option<FileId>,
    argv: Vec<ByteString>,
    parent: Option<u32>,
    netns: Option<u32>,
    cgroup: u64,
    uid: u32,
}

impl Enricher {
    /// A witness who knows nobody yet. `root` names cgroups; the host's files are read below
    /// `host`.
    pub fn new(root: Rc<Root>, host: &Path) -> Self {
        let host = Rc::new(HostRoot::at(host));
        Self {
            passwd: Passwd::new(Rc::clone(&host)),
            executables: Executables::default(),
            kin: ParentCache::default(),
            packages: Packages::new(&host),
            containers: Containers::new(Rc::clone(&host)),
            host,
            root,
            netns: sees_the_hosts_processes().then(hosts_netns).flatten(),
            known: LruCache::new(MAX_KNOWN),
        }
    }

    /// Completes a task event; others pass.
    pub fn complete(&mut self, mut event: Event) -> Event {
        if let Event::Task(task) = &mut event {
            self.complete_task(task);
        }
        event
    }

    fn complete_task(&mut self, task: &mut Task) {
        // What may soon be gone comes first.
        task.proc = self.facts(task);
        if let Some(proc) = &mut task.proc {
            forget_adopters(proc, &task.ancestors);
        }
        if task
            .proc
            .as_ref()
            .is_none_or(|proc| proc.ancestors.is_empty())
        {
            name_ancestors(task);
        }
        self.kin.complete(task, Instant::now());
        self.executables.complete(task);
        // Only the kernel's own snapshot comes with a name; otherwise the user is not known yet.
        if (task.role == Role::Holder || task.comm.is_empty())
            && let Some(uid) = task.proc.as_ref().and_then(|proc| proc.uid)
        {
            task.uid = uid;
        }
        task.user = self.passwd.user(task.uid).map(|user| user.name.clone());
        if task.cgroup_id != 0 {
            let path = self.root.path_of(task.cgroup_id);
            task.cgroup = path.map(|path| path.as_os_str().as_bytes().into());
        }
        let netns = task
            .netns
            .or(task.proc.as_ref().and_then(|proc| proc.netns));
        task.host_network = netns.zip(self.netns).map(|(its, hosts)| its == hosts);
        let in_container = self.find_container(task);
        task.package = self.package(task, in_container);
    }

    /// Adds what its cgroup leads to, and says whether it is in a container.
    fn find_container(&mut self, task: &mut Task) -> bool {
        let none = ProcFacts::default();
        let Some(path) = cgroup(task, task.proc.as_ref().unwrap_or(&none)) else {
            return false;
        };
        let placement = CgroupPath::of(&path);
        let uid = placement.slice_uid;
        let user = uid.and_then(|uid| self.passwd.user(uid));
        task.slice_user = user.map(|user| user.name.clone());
        let owner = uid.zip(user).map(|(uid, user)| Owner {
            uid,
            home: &user.home,
        });
        task.container = self.containers.find(&path, owner);
        task.container.is_some() || placement.container().is_some()
    }

    /// The package of an executable that is one of the host's, not of a container's image: that
    /// would be another file, and its path must not make us look at places that it chose.
    fn package(&mut self, task: &Task, in_container: bool) -> Option<String> {
        if in_container {
            return None;
        }
        let exe = task.proc.as_ref().and_then(|proc| proc.exe.as_ref());
        let exe = exe.or(task.exe.as_ref())?;
        let path = self.host.path(Path::new(OsStr::from_bytes(exe)));
        let on_host = file_id(&std::fs::metadata(path).ok()?);
        let running = task.exe_file.or_else(|| {
            let path = format!("/proc/{}/exe", task.pid);
            Some(file_id(&std::fs::metadata(path).ok()?))
        });
        if running? != on_host {
            return None;
        }
        self.packages.owner(on_host, exe)
    }

    fn facts(&mut self, task: &Task) -> Option<ProcFacts> {
        let (Some(start), Some(exe), Some(argv)) = (task.start, &task.exe_name, &task.argv) else {
            return look(task);
        };
        let program = Program {
            pid: task.pid,
            start,
            exe: exe.clone(),
            file: task.exe_file,
            argv: argv.clone(),
            parent: task.ancestors.first().map(|parent| parent.pid),
            netns: task.netns,
            cgroup: task.cgroup_id,
            uid: task.uid,
        };
        if let Some(facts) = self.known.get(&program) {
            return Some(facts.clone());
        }
        let facts = look(task)?;
        self.known.put(program, facts.clone());
        Some(facts)
    }
}

/// The network namespace of pid 1, or, if it may not be read, that of `kthreadd` (pid 2), which
/// never leaves the initial one:
/// <https://elixir.bootlin.com/linux/v6.12.43/source/kernel/kthread.c#L739>
fn hosts_netns() -> Option<u32> {
    netns(1).or_else(|| netns(2))
}

fn file_id(metadata: &Metadata) -> FileId {
    FileId {
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}

/// A process whose parent has ended since is another's child by now, who has nothing to do with
/// the call: the kernel's word counts.
fn forget_adopters(proc: &mut ProcFacts, parents: &[Ancestor]) {
    let pids = (parents.first(), proc.ancestors.first());
    if let (Some(then), Some(now)) = pids
        && then.pid != now.pid
    {
        proc.ancestors.clear();
    }
}

#[cfg(test)]
mod tests {
    use crate::enrich::*;

    fn ancestor(pid: u32, name: &str) -> Ancestor {
        Ancestor {
            pid,
            name: name.into(),
            argv: Vec::new(),
        }
    }

    #[test]
    fn who_adopts_an_orphan_is_not_who_started_it() {
        let parents = [ancestor(7, "sh"), ancestor(1, "init")];
        let mut orphan = ProcFacts {
            ancestors: vec![ancestor(1, "init")],
            ..ProcFacts::default()
        };
        forget_adopters(&mut orphan, &parents);
        assert!(orphan.ancestors.is_empty());
        let mut child = ProcFacts {
            ancestors: parents.to_vec(),
            ..ProcFacts::default()
        };
        forget_adopters(&mut child, &parents);
        assert_eq!(child.ancestors, parents);
        let mut unknown = child.clone();
        forget_adopters(&mut unknown, &[]);
        assert_eq!(unknown.ancestors, parents, "without the kernel's word");
    }
}
