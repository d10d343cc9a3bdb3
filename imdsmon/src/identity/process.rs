//! A process, merged from the kernel's snapshot and `/proc`.

use imdsmon_common::ARGV_LEN;

use super::{cgroup_path::CgroupPath, workload::Workload};
use crate::event::{
    Task,
    bytes::ByteString,
    facts::{Ancestor, FileId, ProcFacts, TICK_NANOS},
};

/// A process that uses IMDS. Untrusted throughout: a process chooses its own name and arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Process id in the initial pid namespace.
    pub(crate) pid: u32,
    /// Parent's process id.
    pub(crate) parent: Option<u32>,
    /// Path of the executable.
    pub(crate) exe: Option<ByteString>,
    /// The executable's device and inode, if the kernel reported them.
    pub(crate) exe_file: Option<FileId>,
    /// File name of the executable; if that is unknown, the name of the thread.
    pub(crate) name: ByteString,
    /// Arguments, token values blanked.
    pub(crate) args: Vec<ByteString>,
    /// User id in the initial user namespace.
    pub(crate) uid: u32,
    /// Name of the user in the host's `/etc/passwd`.
    pub(crate) user: Option<String>,
    pub(crate) cgroup: Option<ByteString>,
    /// Process ID and name of each ancestor, nearest first, up to PID 1.
    pub(crate) ancestors: Vec<(u32, ByteString)>,
    /// Arguments of the nearest ancestors, token values blanked; empty where unknown.
    pub(crate) ancestor_args: Vec<Vec<ByteString>>,
    /// Inode number of the network namespace.
    pub(crate) netns: Option<u32>,
    /// Whether that namespace is the host's; `None` if unknown.
    pub(crate) host_network: Option<bool>,
    /// Nanoseconds since boot, a multiple of 10 ms: distinguishes processes with the same PID.
    pub(crate) started: Option<u64>,
    pub(crate) workload: Workload,
    /// The package that owns the executable, and its version.
    pub(crate) package: Option<String>,
}

impl Process {
    /// Merges the kernel's snapshot with `/proc`, which was read later: the process may have ended
    /// or called `execve` in between. [`super::classify`] sets `workload`.
    pub(crate) fn new(task: &Task) -> Self {
        let none = ProcFacts::default();
        let proc = task.proc.as_ref().unwrap_or(&none);
        let same = |exe: &ByteString| {
            task.exe_name
                .as_ref()
                .is_none_or(|n| file_name(exe) == &n[..])
        };
        let exe = proc.exe.clone().filter(same).or_else(|| task.exe.clone());
        let name = task
            .exe_name
            .clone()
            .or_else(|| exe.as_ref().map(|exe| file_name(exe).into()))
            .or_else(|| (!task.comm.is_empty()).then(|| task.comm.clone()))
            .or_else(|| proc.comm.clone())
            .unwrap_or_default();
        let ancestors = if proc.ancestors.is_empty() {
            &task.ancestors
        } else {
            &proc.ancestors
        };
        Self {
            pid: task.pid,
            parent: task
                .ancestors
                .first()
                .map(|a| a.pid)
                .or((proc.parent != 0).then_some(proc.parent)),
            exe,
            exe_file: task.exe_file,
            name,
            args: arguments(task.argv.as_deref(), &proc.argv),
            uid: task.uid,
            user: task.user.clone(),
            cgroup: cgroup(task, proc),
            ancestors: ancestors.iter().map(|a| (a.pid, a.name.clone())).collect(),
            ancestor_args: known_arguments(ancestors),
            netns: task.netns.or(proc.netns),
            host_network: task.host_network,
            started: task
                .start
                .map(|start| start - start % TICK_NANOS)
                .or(proc.started),
            workload: Workload::default(),
            package: task.package.clone(),
        }
    }

    /// Whether this is the same process running the same program.
    pub(crate) fn is_same_program(&self, other: &Self) -> bool {
        self.pid == other.pid && self.name == other.name && self.args == other.args
    }
}

/// The last component of an executable's path, without the kernel's ` (deleted)`.
pub(crate) fn file_name(exe: &[u8]) -> &[u8] {
    let exe = exe.strip_suffix(b" (deleted)").unwrap_or(exe);
    exe.rsplit(|&b| b == b'/').next().unwrap_or(exe)
}

/// The snapshot is current but may be truncated; `/proc` is complete if the program is the same.
fn arguments(snapshot: Option<&[ByteString]>, proc: &[ByteString]) -> Vec<ByteString> {
    let Some(snapshot) = snapshot else {
        return proc.to_vec();
    };
    let used: usize = snapshot.iter().map(|arg| arg.len() + 1).sum();
    let whole = snapshot.len().saturating_sub(1);
    if used >= ARGV_LEN && proc.len() >= snapshot.len() && proc[..whole] == snapshot[..whole] {
        proc.to_vec()
    } else {
        snapshot.to_vec()
    }
}

fn known_arguments(ancestors: &[Ancestor]) -> Vec<Vec<ByteString>> {
    let known = ancestors
        .iter()
        .rposition(|a| !a.argv.is_empty())
        .map_or(0, |last| last + 1);
    ancestors[..known].iter().map(|a| a.argv.clone()).collect()
}

/// On a hybrid host, cgroup v2 has only its root or systemd's groups, and `/proc` shows the other
/// hierarchies. A path that names a container is preferred.
pub(crate) fn cgroup(task: &Task, proc: &ProcFacts) -> Option<ByteString> {
    let root = |path: &&ByteString| path[..] == *b"/";
    let kernel = task.cgroup.as_ref();
    let in_container = |path: &&ByteString| CgroupPath::of(path).container().is_some();
    kernel
        .filter(in_container)
        .or(proc.cgroup.as_ref().filter(in_container))
        .or(kernel.filter(|path| !root(path)))
        .or(proc.cgroup.as_ref())
        .or(kernel)
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(texts: &[&str]) -> Vec<ByteString> {
        texts.iter().map(|t| t.as_bytes().into()).collect()
    }

    fn task() -> Task {
        Task {
            pid: 7,
            comm: b"curl".as_slice().into(),
            exe_name: Some(b"curl".as_slice().into()),
            argv: Some(bytes(&["curl", "http://h/"])),
            ..Task::default()
        }
    }

    #[test]
    fn an_ended_process_is_known_by_its_snapshot() {
        let process = Process::new(&task());
        assert_eq!(process.name, b"curl".as_slice().into());
        assert_eq!(process.args, bytes(&["curl", "http://h/"]));
        assert_eq!(process.exe, None);
    }

    #[test]
    fn a_program_replaced_by_execve_is_not_mistaken() {
        let mut task = task();
        task.proc = Some(ProcFacts {
            exe: Some(b"/bin/sleep".as_slice().into()),
            argv: bytes(&["sleep", "9"]),
            ..ProcFacts::default()
        });
        let process = Process::new(&task);
        assert_eq!(process.exe, None, "/bin/sleep is not the caller");
        assert_eq!(process.args, bytes(&["curl", "http://h/"]));
    }

    #[test]
    fn a_deleted_executable_is_still_that_executable() {
        let mut task = task();
        let exe: ByteString = b"/usr/bin/curl (deleted)".as_slice().into();
        task.proc = Some(ProcFacts {
            exe: Some(exe.clone()),
            ..ProcFacts::default()
        });
        assert_eq!(Process::new(&task).exe, Some(exe));
    }

    #[test]
    fn truncated_arguments_are_completed_from_proc() {
        let long = "x".repeat(600);
        let mut cut = bytes(&["java", &long]);
        cut[1].0.truncate(507);
        let full = bytes(&["java", &long, "-jar", "app.jar"]);
        assert_eq!(arguments(Some(&cut), &full), full);
        let other = bytes(&["sleep", &long, "1", "2"]);
        assert_eq!(arguments(Some(&cut), &other), cut);
    }

    #[test]
    fn root_cgroup_yields_to_proc() {
        let mut task = task();
        task.cgroup = Some(b"/".as_slice().into());
        assert_eq!(Process::new(&task).cgroup, Some(b"/".as_slice().into()));
        let unit: ByteString = b"/system.slice/cron.service".as_slice().into();
        task.proc = Some(ProcFacts {
            cgroup: Some(unit.clone()),
            ..ProcFacts::default()
        });
        assert_eq!(Process::new(&task).cgroup, Some(unit));
    }
}
