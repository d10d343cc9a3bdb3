//! A client: what its owner recognises, the same across restarts and pids.

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

/// An aggregated caller of IMDS.
///
/// Two clients are the same if program, kind and name of the workload, and user are: what
/// [`Self::name`] says. The other fields are facts about it that an update or a restart changes
/// (the container's id, the package's version); they do not count in comparisons.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Client {
    /// The script, not only its interpreter. At most 256 bytes.
    pub program: String,
    /// The unit, session, cron job, container or pod that it belongs to.
    pub workload: Workload,
    /// The user's name, or its number; empty if unknown. In a container always the number but for
    /// root: the host's names are not the container's.
    pub user: String,
    /// The package that owns the executable, with its version, if the database could be read.
    pub package: Option<String>,
    /// Whether its network namespace is the host's; `None` if unknown.
    pub host_network: Option<bool>,
}

impl Client {
    /// Program of callers that could not be identified.
    pub(crate) const UNKNOWN: &str = "(unknown)";

    /// The client of callers that could not be identified.
    pub fn unknown() -> Self {
        Self {
            program: Self::UNKNOWN.into(),
            ..Self::default()
        }
    }

    pub(crate) fn of(process: &Process) -> Self {
        let in_container = process.workload.container.is_some();
        let user = match &process.user {
            // Nothing is known about it, so its uid of 0 means nothing.
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

    /// Whether the caller could not be identified. A program may call itself [`Self::UNKNOWN`],
    /// but then it has a user.
    pub(crate) fn is_unknown(&self) -> bool {
        self.program == Self::UNKNOWN && self.user.is_empty()
    }

    /// What comparisons use.
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
