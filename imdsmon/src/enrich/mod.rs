//! Adds facts from `/proc` and the host's files to events, on arrival, while the process nearly
//! always still exists: `connect` runs before the handshake.

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
    num::NonZeroU64,
    num::NonZeroUsize,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    rc::Rc,
    time::Instant,
};

pub(crate) use crate::enrich::proc::in_host_pid_namespace;
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
        proc::{name_ancestors, netns, read_facts},
        rootfs::HostRoot,
    },
    identity::{cgroup_path::CgroupPath, process::cgroup},
};
use lru::LruCache;

/// Processes whose facts are cached: a client may open thousands of connections.
const MAX_KNOWN: NonZeroUsize = NonZeroUsize::new(128).unwrap();

pub(crate) struct Enricher {
    host: Rc<HostRoot>,
    passwd: Passwd,
    executables: Executables,
    parents: ParentCache,
    packages: Packages,
    containers: Containers,
    root: Rc<Root>,
    /// Network namespace of the host.
    netns: Option<u32>,
    known: LruCache<Program, ProcFacts>,
}

/// Identifies one program in one process; all fields come from the kernel.
#[derive(PartialEq, Eq, Hash)]
struct Program {
    pid: u32,
    start: u64,
    exe: ByteString,
    file: Option<FileId>,
    argv: Vec<ByteString>,
    parent: Option<u32>,
    netns: Option<u32>,
    cgroup: Option<NonZeroU64>,
    uid: u32,
}

impl Enricher {
    /// `root` resolves cgroup IDs; the host's files are read below `host`.
    pub(crate) fn new(root: Rc<Root>, host: &Path) -> Self {
        let host = Rc::new(HostRoot::at(host));
        Self {
            passwd: Passwd::new(Rc::clone(&host)),
            executables: Executables::default(),
            parents: ParentCache::default(),
            packages: Packages::new(&host),
            containers: Containers::new(Rc::clone(&host)),
            host,
            root,
            netns: in_host_pid_namespace().then(hosts_netns).flatten(),
            known: LruCache::new(MAX_KNOWN),
        }
    }

    /// Completes a task event; other events are unchanged.
    pub(crate) fn complete(&mut self, mut event: Event) -> Event {
        if let Event::Task(task) = &mut event {
            self.complete_task(task);
        }
        event
    }

    fn complete_task(&mut self, task: &mut Task) {
        // First the facts that disappear with the process.
        task.proc = self.facts(task);
        if let Some(proc) = &mut task.proc {
            drop_reparented(proc, &task.ancestors);
        }
        if task
            .proc
            .as_ref()
            .is_none_or(|proc| proc.ancestors.is_empty())
        {
            name_ancestors(task);
        }
        self.parents.complete(task, Instant::now());
        self.executables.complete(task);
        // Only the kernel's snapshot has a name (`comm`); without it, the user is not known yet.
        if (task.role == Role::Holder || task.comm.is_empty())
            && let Some(uid) = task.proc.as_ref().and_then(|proc| proc.uid)
        {
            task.uid = uid;
        }
        task.user = self.passwd.user(task.uid).map(|user| user.name.clone());
        if let Some(id) = task.cgroup_id {
            let path = self.root.path_of(id.get());
            task.cgroup = path.map(|path| path.as_os_str().as_bytes().into());
        }
        let netns = task
            .netns
            .or(task.proc.as_ref().and_then(|proc| proc.netns));
        task.host_network = netns.zip(self.netns).map(|(its, hosts)| its == hosts);
        let in_container = self.find_container(task);
        task.package = self.package(task, in_container);
    }

    /// Returns whether the task is in a container.
    fn find_container(&mut self, task: &mut Task) -> bool {
        let none = ProcFacts::default();
        let Some(path) = cgroup(task, task.proc.as_ref().unwrap_or(&none)) else {
            return false;
        };
        let cgroup_path = CgroupPath::of(&path);
        let uid = cgroup_path.slice_uid;
        let user = uid.and_then(|uid| self.passwd.user(uid));
        task.slice_user = user.map(|user| user.name.clone());
        let owner = uid.zip(user).map(|(uid, user)| Owner {
            uid,
            home: &user.home,
        });
        task.container = self.containers.find(&path, owner);
        task.container.is_some() || cgroup_path.container().is_some()
    }

    /// The package of a host executable. In a container, the path names another file, and the image
    /// must not choose which host files are read.
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
            return read_facts(task);
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
        let facts = read_facts(task)?;
        self.known.put(program, facts.clone());
        Some(facts)
    }
}

/// The network namespace of PID 1 or, if unreadable, of `kthreadd` (PID 2), which never leaves the
/// initial one: <https://elixir.bootlin.com/linux/v6.12.43/source/kernel/kthread.c#L739>
fn hosts_netns() -> Option<u32> {
    netns(1).or_else(|| netns(2))
}

fn file_id(metadata: &Metadata) -> FileId {
    FileId {
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}

/// Drops the ancestors of `/proc` if the parent has ended: the process was reparented, and its new
/// parent did not start it. The kernel's snapshot has the original one.
fn drop_reparented(proc: &mut ProcFacts, parents: &[Ancestor]) {
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
    fn ancestors_of_a_reparented_process_are_dropped() {
        let parents = [ancestor(7, "sh"), ancestor(1, "init")];
        let mut orphan = ProcFacts {
            ancestors: vec![ancestor(1, "init")],
            ..ProcFacts::default()
        };
        drop_reparented(&mut orphan, &parents);
        assert!(orphan.ancestors.is_empty());
        let mut child = ProcFacts {
            ancestors: parents.to_vec(),
            ..ProcFacts::default()
        };
        drop_reparented(&mut child, &parents);
        assert_eq!(child.ancestors, parents);
        let mut unknown = child.clone();
        drop_reparented(&mut unknown, &[]);
        assert_eq!(unknown.ancestors, parents, "without a snapshot");
    }
}
