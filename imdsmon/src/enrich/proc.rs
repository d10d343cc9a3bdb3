//! Reads a process from `/proc`: bounded, and never another process with a reused PID.

use std::{io::Read, os::unix::ffi::OsStrExt};

use procfs::process::Process as Proc;

use crate::identity::cgroup_path::CgroupPath;
use crate::{
    capture::split_arguments,
    event::{
        Task,
        bytes::ByteString,
        facts::{Ancestor, ProcFacts, TICK_NANOS},
    },
};

const MAX_ARGV_BYTES: u64 = 2048;
/// Any other file in `/proc/PID`.
const MAX_FILE_BYTES: u64 = 16 * 1024;
const MAX_ANCESTORS: usize = 16;
/// The nearest ancestors whose arguments are read: a script, its shell, sudo, cron.
const ANCESTORS_WITH_ARGV: usize = 6;
/// Enough for a script's path.
const MAX_ANCESTOR_ARGV_BYTES: u64 = 256;
/// The initial PID namespace; the kernel fixes its inode number (`PROC_PID_INIT_INO`).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Whether `/proc` has the kernel's PIDs. In a container that requires the host's PID namespace.
pub(crate) fn in_host_pid_namespace() -> bool {
    std::fs::read_link("/proc/self/ns/pid")
        .is_ok_and(|link| link.as_os_str() == INITIAL_PID_NAMESPACE)
}

/// Reads `/proc/PID`, if it is still the process of the event.
///
/// All files are read through one descriptor of the directory, which stays bound to the process if
/// the PID is reused.
pub(crate) fn read_facts(task: &Task) -> Option<ProcFacts> {
    if !in_host_pid_namespace() {
        return None;
    }
    let proc = Proc::new(task.pid.cast_signed()).ok()?;
    let stat = Stat::parse(&read(&proc, "stat", MAX_FILE_BYTES)?)?;
    // Without a snapshot: a process that started after the event is another one.
    if task.start.is_none() && task.boot.is_some_and(|boot| stat.start > boot / TICK_NANOS) {
        return None;
    }
    if task.start.is_some_and(|start| !stat.started_at(start)) {
        return None;
    }
    let cgroup = read(&proc, "cgroup", MAX_FILE_BYTES).and_then(|text| cgroup_path(&text));
    let netns = task.netns.or_else(|| netns(task.pid));
    let exe = proc
        .exe()
        .ok()
        .map(|path| ByteString::from(path.as_os_str().as_bytes()));
    let argv = read(&proc, "cmdline", MAX_ARGV_BYTES).filter(|argv| !argv.is_empty());
    Some(ProcFacts {
        exe,
        argv: argv.map(|argv| split_arguments(&argv)).unwrap_or_default(),
        parent: stat.parent,
        ancestors: ancestors(stat.parent),
        cgroup,
        netns,
        uid: proc.uid().ok(),
        comm: Some(stat.comm),
        started: Some(stat.start.saturating_mul(TICK_NANOS)),
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

pub(crate) fn netns(pid: u32) -> Option<u32> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    link.to_str()?
        .strip_prefix("net:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn ancestors(mut pid: u32) -> Vec<Ancestor> {
    let mut found = Vec::new();
    while pid != 0 && found.len() < MAX_ANCESTORS {
        let Ok(proc) = Proc::new(pid.cast_signed()) else {
            break;
        };
        let Some(stat) = read(&proc, "stat", MAX_FILE_BYTES).and_then(|text| Stat::parse(&text))
        else {
            break;
        };
        found.push(Ancestor {
            pid,
            name: stat.comm,
            argv: if found.len() < ANCESTORS_WITH_ARGV {
                ancestor_arguments(&proc)
            } else {
                Vec::new()
            },
        });
        pid = stat.parent;
    }
    found
}

/// Adds the arguments of ancestors that the snapshot names: they often outlive the process.
pub(crate) fn name_ancestors(task: &mut Task) {
    if !in_host_pid_namespace() {
        return;
    }
    for ancestor in task.ancestors.iter_mut().take(ANCESTORS_WITH_ARGV) {
        let Ok(proc) = Proc::new(ancestor.pid.cast_signed()) else {
            continue;
        };
        let stat = read(&proc, "stat", MAX_FILE_BYTES).and_then(|text| Stat::parse(&text));
        let child = task.start.unwrap_or(u64::MAX);
        // A process with a reused PID is younger than the child, or has another name.
        if stat
            .is_some_and(|stat| stat.comm == ancestor.name && stat.start <= child / TICK_NANOS + 1)
        {
            ancestor.argv = ancestor_arguments(&proc);
        }
    }
}

fn ancestor_arguments(proc: &Proc) -> Vec<ByteString> {
    let argv = read(proc, "cmdline", MAX_ANCESTOR_ARGV_BYTES).filter(|argv| !argv.is_empty());
    argv.map(|argv| split_arguments(&argv)).unwrap_or_default()
}

/// The unified path, or systemd's if the unified one is the root (hybrid hosts). A path that names
/// a container takes precedence: without systemd, only a controller's hierarchy may have it.
fn cgroup_path(text: &[u8]) -> Option<ByteString> {
    let lines = text.split(|&b| b == b'\n').filter_map(|line| {
        let mut fields = line.splitn(3, |&b| b == b':').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let path = |wanted: &[u8]| {
        lines
            .clone()
            .find(|(name, _)| *name == wanted)
            .map(|(_, path)| path)
    };
    let unified = path(b"").filter(|path| *path != b"/");
    let systemd = path(b"name=systemd");
    let usual = unified.or(systemd).or_else(|| path(b""));
    let in_container = |path: &&[u8]| CgroupPath::of(path).container().is_some();
    let other = || lines.clone().map(|(_, path)| path).find(in_container);
    usual
        .filter(in_container)
        .or_else(other)
        .or(usual)
        .map(ByteString::from)
}

/// The needed part of `/proc/PID/stat`. The procfs crate requires a UTF-8 process name, and any
/// process can set another.
struct Stat {
    comm: ByteString,
    parent: u32,
    /// In clock ticks since boot.
    start: u64,
}

impl Stat {
    fn parse(text: &[u8]) -> Option<Self> {
        let open = text.iter().position(|&b| b == b'(')?;
        // The name may contain any byte, also `)`; the other fields cannot.
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

    /// Whether the process started at `nanos` since boot, to the precision of a tick.
    fn started_at(&self, nanos: u64) -> bool {
        self.start.abs_diff(nanos / TICK_NANOS) <= 1
    }
}

#[cfg(test)]
mod tests {
    use crate::enrich::proc::*;

    fn own_task() -> Task {
        Task {
            pid: std::process::id(),
            ..Task::default()
        }
    }

    #[test]
    fn this_process_is_known() {
        let facts = read_facts(&own_task()).unwrap();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(
            facts.exe.unwrap(),
            ByteString::from(exe.as_os_str().as_bytes())
        );
        assert!(!facts.argv.is_empty() && facts.netns.is_some() && facts.cgroup.is_some());
        assert_eq!(facts.ancestors.first().unwrap().pid, facts.parent);
    }

    #[test]
    fn ancestors_have_arguments_after_the_process_ends() {
        let facts = read_facts(&own_task()).unwrap();
        assert!(!facts.ancestors[0].argv.is_empty());
        assert!(
            facts
                .started
                .is_some_and(|at| at > 0 && at.is_multiple_of(TICK_NANOS))
        );
        let Ancestor { pid, name, argv } = facts.ancestors[0].clone();
        let named = |name: ByteString, start| {
            let mut task = Task {
                ancestors: vec![Ancestor {
                    pid,
                    name,
                    argv: Vec::new(),
                }],
                start,
                ..Task::default()
            };
            name_ancestors(&mut task);
            task.ancestors.remove(0).argv
        };
        assert_eq!(named(name.clone(), None), argv);
        assert_eq!(named(name, Some(0)), [], "younger than its child");
        assert_eq!(named("another".into(), None), []);
    }

    #[test]
    fn a_reused_pid_is_ignored() {
        let task = Task {
            start: Some(1),
            ..own_task()
        };
        assert_eq!(read_facts(&task), None);
    }

    #[test]
    fn a_process_started_after_the_event_is_ignored() {
        let late = Task {
            boot: Some(1),
            ..own_task()
        };
        assert_eq!(read_facts(&late), None);
        let early = Task {
            boot: Some(u64::MAX),
            ..own_task()
        };
        assert!(read_facts(&early).is_some());
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
            (
                "4:memory:/lxc/web\n1:name=systemd:/\n0::/\n",
                Some("/lxc/web"),
            ),
            (
                "4:memory:/lxc/web\n1:name=systemd:/lxc/a\n0::/lxc/b\n",
                Some("/lxc/b"),
            ),
            ("broken\n\n:\n", None),
            ("", None),
        ] {
            let path = path.map(|p| p.as_bytes().into());
            assert_eq!(cgroup_path(text.as_bytes()), path, "{text:?}");
        }
    }
}
