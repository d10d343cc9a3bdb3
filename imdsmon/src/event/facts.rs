//! Facts about a task's process, container and ancestors, read from `/proc` and from files when
//! the kernel's record arrived.

use serde::{Deserialize, Serialize};

use super::bytes::ByteString;

/// A clock tick of `/proc`, in nanoseconds: `USER_HZ` is 100 on x86_64 and arm64
/// (`include/uapi/asm-generic/param.h`).
pub(crate) const TICK_NANOS: u64 = 10_000_000;

/// A container's state on disk. Untrusted: the user that starts the container chooses it. Each text
/// is at most 256 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerFacts {
    pub(crate) id: String,
    /// `docker`, `containerd`, `cri-o` or `podman`.
    pub(crate) runtime: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<PodFacts>,
    /// Family of the Amazon ECS task definition, and the container's name in it:
    /// `family/container`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ecs: Option<String>,
    /// `project/service` with Compose, `service` with Swarm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodFacts {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Container name; `None` for the pause container, which holds the namespaces open.
    pub(crate) container: Option<String>,
}

/// A file, identified by device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// Number of the device, as stat(2) gives it.
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// An ancestor of a [`Task`](super::Task)'s process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    pub name: ByteString,
    /// Arguments of a near ancestor (at most 256 bytes), token values blanked; empty if unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<ByteString>,
}

/// Facts from `/proc/PID`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcFacts {
    /// Target of `/proc/PID/exe`.
    pub(crate) exe: Option<ByteString>,
    /// Arguments (up to 2 KiB in all), token values blanked.
    pub(crate) argv: Vec<ByteString>,
    /// Parent's process id.
    pub(crate) parent: u32,
    /// Ancestors up to pid 1, at most 16.
    pub(crate) ancestors: Vec<Ancestor>,
    /// Path of the cgroup, below the v2 root (or systemd's own hierarchy on hybrid hosts).
    pub(crate) cgroup: Option<ByteString>,
    /// Inode number of the network namespace.
    pub(crate) netns: Option<u32>,
    /// User ID, which the socket does not show.
    pub(crate) uid: Option<u32>,
    /// Name of the main thread.
    pub(crate) comm: Option<ByteString>,
    /// Start of the process in nanoseconds since boot, a multiple of 10 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started: Option<u64>,
}
