//! Looks at `/proc` the moment an event arrives, while the caller is nearly always still there:
//! `connect` runs before the handshake.

use std::{io::Read, num::NonZeroUsize, os::unix::ffi::OsStrExt, rc::Rc};

use lru::LruCache;
use procfs::process::Process as Proc;

use super::{executable::Executables, passwd::Passwd};
use crate::capture::{
    bytes::Bytes,
    cgroup,
    event::{Ancestor, Event, FileId, ProcFacts, Role, Task},
    split_arguments,
};

/// Bytes of the arguments that are kept.
const ARGV: u64 = 2048;
/// Bytes of any other file in `/proc/PID` that are read.
const FILE: u64 = 16 * 1024;
/// Processes above one that are named.
const ANCESTORS: usize = 16;
/// Processes whose facts are remembered: a client may open thousands of connections.
const KNOWN: NonZeroUsize = NonZeroUsize::new(128).unwrap();

/// The initial pid namespace, by the inode number that the kernel fixed (`PROC_PID_INIT_INO`).
const INITIAL_PIDS: &str = "pid:[4026531836]";

/// Whether `/proc` here shows the processes that the kernel speaks of, by the same numbers. In a
/// container it does only in the host's pid namespace.
#[must_use]
pub fn sees_the_hosts_processes() -> bool {
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == INITIAL_PIDS)
}

/// Adds to each task what `/proc` says about it.
pub struct Witness {
    passwd: Passwd,
    executables: Executables,
    root: Rc<cgroup::Root>,
    known: LruCache<Program, ProcFacts>,
}

/// What tells one program in one process from any other; only the kernel can say it.
#[derive(PartialEq, Eq, Hash)]
struct Program {
    pid: u32,
    start: u64,
    exe: Bytes,
    file: Option<FileId>,
    argv: Vec<Bytes>,
    parent: Option<u32>,
    netns: Option<u32>,
    cgroup: u64,
    uid: u32,
}

impl Witness {
    /// A witness who knows nobody yet. `root` names cgroups.
    #[must_use]
    pub fn new(root: Rc<cgroup::Root>) -> Self {
        Self {
            passwd: Passwd::default(),
            executables: Executables::default(),
            root,
            known: LruCache::new(KNOWN),
        }
    }

    /// Completes a task event; others pass.
    #[must_use]
    pub fn complete(&mut self, mut event: Event) -> Event {
        if let Event::Task(task) = &mut event {
            self.complete_task(task);
        }
        event
    }

    fn complete_task(&mut self, task: &mut Task) {
        task.proc = self.facts(task);
        self.executables.complete(task);
        // Only the kernel's own snapshot comes with a name; otherwise the user is not known yet.
        if (task.role == Role::Holder || task.comm.is_empty())
            && let Some(uid) = task.proc.as_ref().and_then(|proc| proc.uid)
        {
            task.uid = uid;
        }
        task.user = self.passwd.name(task.uid);
        if task.cgroup_id != 0 {
            let path = self.root.path_of(task.cgroup_id);
            task.cgroup = path.map(|path| path.as_os_str().as_bytes().into());
        }
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

/// Reads `/proc/PID`, if that is still the process of the event.
///
/// All is read through one descriptor of the directory, which cannot come to mean another
/// process when the pid is used again.
fn look(task: &Task) -> Option<ProcFacts> {
    if !sees_the_hosts_processes() {
        return None;
    }
    let proc = Proc::new(task.pid.cast_signed()).ok()?;
    let stat = Stat::parse(&read(&proc, "stat", FILE)?)?;
    let ticks = procfs::ticks_per_second();
    // Without the kernel's word, a process that began after the event is not the one.
    if task.start.is_none()
        && task.boot != 0
        && stat.start > task.boot / (1_000_000_000 / ticks.max(1))
    {
        return None;
    }
    if task
        .start
        .is_some_and(|start| !stat.started_at(start, ticks))
    {
        return None;
    }
    let cgroup = read(&proc, "cgroup", FILE).and_then(|text| cgroup_path(&text));
    let netns = task.netns.or_else(|| netns(task.pid));
    let exe = proc
        .exe()
        .ok()
        .map(|path| Bytes::from(path.as_os_str().as_bytes()));
    let argv = read(&proc, "cmdline", ARGV).filter(|argv| !argv.is_empty());
    Some(ProcFacts {
        exe,
        argv: argv.map(|argv| split_arguments(&argv)).unwrap_or_default(),
        parent: stat.parent,
        ancestors: ancestors(stat.parent),
        cgroup,
        netns,
        uid: proc.uid().ok(),
        comm: Some(stat.comm),
    })
}

fn read(proc: &Proc, name: &str, max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    proc.open_relative(name)
        .ok()?
        .take(max)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

fn netns(pid: u32) -> Option<u32> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    link.to_str()?
        .strip_prefix("net:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn ancestors(mut pid: u32) -> Vec<Ancestor> {
    let mut found = Vec::new();
    while pid != 0 && found.len() < ANCESTORS {
        let Ok(proc) = Proc::new(pid.cast_signed()) else {
            break;
        };
        let Some(stat) = read(&proc, "stat", FILE).and_then(|text| Stat::parse(&text)) else {
            break;
        };
        found.push(Ancestor {
            pid,
            name: stat.comm,
        });
        pid = stat.parent;
    }
    found
}

/// The unified path, or systemd's own where all of cgroup v2 is its root (hybrid hosts).
fn cgroup_path(text: &[u8]) -> Option<Bytes> {
    let path = |prefix: &[u8]| {
        text.split(|&b| b == b'\n').find_map(|line| {
            let rest = line.splitn(2, |&b| b == b':').nth(1)?;
            rest.strip_prefix(prefix).map(Bytes::from)
        })
    };
    let unified = path(b":");
    match unified {
        Some(unified) if &unified[..] != b"/" => Some(unified),
        _ => path(b"name=systemd:").or(unified),
    }
}

/// The part of `/proc/PID/stat` that is needed. procfs reads it too, but not where the name of
/// the process is not UTF-8, which any process can arrange.
struct Stat {
    comm: Bytes,
    parent: u32,
    /// Start of the process in clock ticks since boot.
    start: u64,
}

impl Stat {
    fn parse(text: &[u8]) -> Option<Self> {
        let open = text.iter().position(|&b| b == b'(')?;
        // The name may hold anything, also `)`; nothing behind it does.
        let close = text.iter().rposition(|&b| b == b')')?;
        let comm = text.get(open + 1..close)?.into();
        let mut fields = std::str::from_utf8(text.get(close + 1..)?)
            .ok()?
            .split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let start = fields.nth(17)?.parse().ok()?;
        Some(Self {
            comm,
            parent,
            start,
        })
    }

    /// Whether the process started at `nanos` since boot, as exactly as ticks can tell.
    fn started_at(&self, nanos: u64, ticks: u64) -> bool {
        let tick = 1_000_000_000 / ticks.max(1);
        self.start.abs_diff(nanos / tick) <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_task() -> Task {
        Task {
            pid: std::process::id(),
            ..Task::default()
        }
    }

    #[test]
    fn this_process_is_known() {
        let facts = look(&own_task()).unwrap();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(facts.exe.unwrap(), Bytes::from(exe.as_os_str().as_bytes()));
        assert!(!facts.argv.is_empty() && facts.netns.is_some() && facts.cgroup.is_some());
        assert_eq!(facts.ancestors.first().unwrap().pid, facts.parent);
    }

    #[test]
    fn a_reused_pid_is_not_mistaken() {
        let task = Task {
            start: Some(1),
            ..own_task()
        };
        assert_eq!(look(&task), None);
    }

    #[test]
    fn a_process_that_began_after_the_event_is_not_the_caller() {
        let late = Task {
            boot: 1,
            ..own_task()
        };
        assert_eq!(look(&late), None);
        let early = Task {
            boot: u64::MAX,
            ..own_task()
        };
        assert!(look(&early).is_some());
    }

    #[test]
    fn a_name_with_brackets_and_bytes_cannot_shift_the_fields() {
        let stat = b"42 (a) R 1 (\xff)) S 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 9876 0 0";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!(stat.comm, b"a) R 1 (\xff)".as_slice().into());
        assert_eq!((stat.parent, stat.start), (7, 9876));
        assert!(Stat::parse(b"42 (short) S").is_none());
    }

    #[test]
    fn cgroups_are_read_in_every_layout() {
        for (text, path) in [
            (
                "0::/system.slice/x.service\n",
                Some("/system.slice/x.service"),
            ),
            (
                "12:memory:/m\n1:name=systemd:/user.slice\n0::/\n",
                Some("/user.slice"),
            ),
            ("0::/\n", Some("/")),
            ("1:name=systemd:/a:b\n", Some("/a:b")),
            ("", None),
        ] {
            let path = path.map(|p| p.as_bytes().into());
            assert_eq!(cgroup_path(text.as_bytes()), path, "{text:?}");
        }
    }
}
