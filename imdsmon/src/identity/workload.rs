//! What a process runs as: the thing that an owner recognises and can change.

use serde::{Deserialize, Serialize};

/// What a process belongs to. Untrusted where a container's own state is its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// Of which kind it is.
    pub kind: WorkloadKind,
    /// Its name within the kind: `nginx.service`, a container's name, `namespace/pod`; empty if
    /// it has none.
    pub name: String,
    /// The container, if it runs in one.
    pub container: Option<Container>,
    /// The Kubernetes pod, if it runs in one.
    pub pod: Option<Pod>,
}

/// The kinds of workload, by who starts and stops them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadKind {
    /// A unit of the system's systemd.
    Unit,
    /// A unit of a user's systemd.
    UserUnit,
    /// A login session.
    Session,
    /// A cron job.
    Cron,
    /// A container that no orchestrator is known to have started.
    Container,
    /// A container of an Amazon ECS task.
    EcsTask,
    /// A container of a Kubernetes pod.
    Pod,
    /// A cgroup that is none of these.
    Cgroup,
    /// Nothing is known.
    #[default]
    Unknown,
}

/// A container, as far as its runtime's state tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Container {
    /// Its id: 64 hexadecimal digits for most runtimes.
    pub id: String,
    /// `docker`, `containerd`, `cri-o`, `podman`, if known.
    pub runtime: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Name of its image, with tag or digest as the runtime has it.
    pub image: Option<String>,
}

/// A Kubernetes pod, and the container in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The container's name in the pod.
    pub container: Option<String>,
}
