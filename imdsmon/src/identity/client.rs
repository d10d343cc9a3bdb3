//! A client of IMDS, the same across restarts and PIDs.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
};

use serde::{Deserialize, Serialize};

use super::{
    process::Process,
    program::program,
    workload::{Workload, WorkloadKind},
};
use crate::text::clip::clip;

/// An aggregated client of IMDS.
///
/// Two clients are equal if program, workload kind and name, and user are: the parts of
/// [`Self::name`]. The other fields change with an update or a restart (container ID, package
/// version).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Client {
    /// The script, not only its interpreter. At most 256 bytes.
    pub program: String,
    /// The unit, session, cron job, container or pod that it belongs to.
    pub workload: Workload,
    /// User name or UID; empty if unknown. In a container the UID, except for root: the host's user
    /// names do not apply there.
    pub user: String,
    /// The package that owns the executable, with its version, if the database could be read.
    pub package: Option<String>,
    /// Whether its network namespace is the host's; `None` if unknown.
    pub host_network: Option<bool>,
}

impl Client {
    /// Program of unidentified processes.
    pub(crate) const UNKNOWN: &str = "(unknown)";

    /// The client of unidentified processes.
    pub fn unknown() -> Self {
        Self {
            program: Self::UNKNOWN.into(),
            ..Self::default()
        }
    }

    pub(crate) fn of(process: &Process) -> Self {
        let in_container = process.workload.container.is_some();
        let user = match &process.user {
            // Nothing is known about the process: UID 0 is only the default.
            _ if process.name.is_empty() => String::new(),
            _ if in_container && process.uid == 0 => "root".into(),
            Some(user) if !in_container => clip(user),
            _ => process.uid.to_string(),
        };
        Self {
            program: program(process),
            workload: process.workload.clone(),
            user,
            package: process.package.clone(),
            host_network: process.host_network,
        }
    }

    /// The stable name, as in `imds.client`: `workload: program (user)`, or `program (user)` where
    /// no workload is known; at most 800 bytes. No two clients share one.
    pub(crate) fn name(&self) -> String {
        // ": " ends the workload; in its name, which a container chooses, it must not occur.
        let whole = |text: &str| text.replace(": ", ":\u{a0}");
        let name = whole(&self.workload.name);
        let before = match self.workload.kind {
            WorkloadKind::Unit => "",
            WorkloadKind::UserUnit => "user unit ",
            WorkloadKind::Session => "session of ",
            WorkloadKind::Cron => "cron job ",
            WorkloadKind::Container => "container ",
            WorkloadKind::EcsTask => "ECS task ",
            WorkloadKind::Pod => "pod ",
            WorkloadKind::Cgroup => "cgroup ",
            WorkloadKind::Unknown => return format!("{} ({})", whole(&self.program), self.user),
        };
        format!("{before}{name}: {} ({})", self.program, self.user)
    }

    /// Whether it stands for unidentified processes. A program may be named [`Self::UNKNOWN`], but
    /// its client has a user.
    pub(crate) fn is_unknown(&self) -> bool {
        self.program == Self::UNKNOWN && self.user.is_empty()
    }

    /// The compared fields.
    fn key(&self) -> (WorkloadKind, &str, &str, &str) {
        let Self {
            program,
            workload:
                Workload {
                    kind,
                    name,
                    container: _,
                    pod: _,
                },
            user,
            package: _,
            host_network: _,
        } = self;
        (*kind, name, program, user)
    }
}

impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Client {}

impl PartialOrd for Client {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Client {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for Client {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{
        Task,
        facts::{ContainerFacts, ProcFacts},
    };
    use crate::identity::classify;

    fn task(cgroup: &str) -> Task {
        Task {
            exe_name: Some("python3.11".into()),
            argv: Some(vec!["python3".into(), "/opt/app/worker.py".into()]),
            uid: 1000,
            user: Some("app".into()),
            cgroup: Some(cgroup.into()),
            ..Task::default()
        }
    }

    fn client(task: &Task) -> Client {
        Client::of(&classify(task))
    }

    #[test]
    fn a_restart_does_not_change_the_client() {
        let before = Task {
            pid: 7,
            start: Some(70_000_000),
            package: Some("python3.11 3.11.2-6".into()),
            ..task("/system.slice/app.service")
        };
        let after = Task {
            pid: 99,
            start: Some(990_000_000),
            package: Some("python3.11 3.11.2-7".into()),
            proc: Some(ProcFacts {
                parent: 1,
                ..ProcFacts::default()
            }),
            ..before.clone()
        };
        assert_eq!(client(&before), client(&after));
        assert_eq!(
            client(&before).name(),
            "app.service: python3 /opt/app/worker.py (app)"
        );
        assert_eq!(Process::new(&before).started, Some(70_000_000));
    }

    #[test]
    fn a_container_is_the_same_with_another_id() {
        let with_id = |digit: &str| {
            let id = digit.repeat(64);
            let mut task = task(&format!("/docker/{id}"));
            task.container = Some(ContainerFacts {
                id,
                name: Some("web".into()),
                ..ContainerFacts::default()
            });
            client(&task)
        };
        let (one, other) = (with_id("a"), with_id("b"));
        assert_eq!(one, other);
        assert_ne!(one.workload.container, other.workload.container);
        assert_eq!(
            one.name(),
            "container web: python3 /opt/app/worker.py (1000)",
            "the host's name of user 1000 is not the container's"
        );
    }

    #[test]
    fn a_name_cannot_be_mistaken_for_another() {
        let named = |name: &str, program: &str| Client {
            program: program.into(),
            workload: Workload {
                kind: WorkloadKind::Container,
                name: name.into(),
                ..Workload::default()
            },
            ..Client::default()
        };
        assert_ne!(named("a: b", "c").name(), named("a", "b: c").name());
        let unknown = Client {
            program: "curl".into(),
            user: "root".into(),
            ..Client::default()
        };
        assert_eq!(unknown.name(), "curl (root)");
        assert_ne!(
            client(&task("/system.slice/a.service")),
            client(&task("/system.slice/b.service"))
        );
    }
}
