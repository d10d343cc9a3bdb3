//! Capture events, in kernel order.
//!
//! The live source and a recording give the same values. Token values are already blanked.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::{NonZeroU64, TryFromIntError},
};

use serde::{Deserialize, Serialize};

pub mod bytes;
pub mod facts;

use bytes::ByteString;
use facts::{Ancestor, ContainerFacts, FileId, ProcFacts};

use crate::time::Timestamp;

/// Number of a connection, unique in a run, counted from 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ConnectionId(pub u64);

/// Number of a [`Task`], unique in a run, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(NonZeroU64);

impl TaskId {
    /// `None` for 0.
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The first of a run.
impl Default for TaskId {
    fn default() -> Self {
        Self(NonZeroU64::MIN)
    }
}

impl From<TaskId> for u64 {
    fn from(TaskId(number): TaskId) -> Self {
        number.get()
    }
}

impl TryFrom<u64> for TaskId {
    type Error = TryFromIntError;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        number.try_into().map(Self)
    }
}

/// Recordings encode an unknown number as 0.
mod zero_is_none {
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<T: Copy + Into<u64>, S: Serializer>(
        number: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(number.map_or(0, Into::into))
    }

    pub(super) fn deserialize<'de, T: TryFrom<u64>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        Ok(u64::deserialize(deserializer)?.try_into().ok())
    }
}

/// A capture event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// The programs are attached and capture calls.
    Start { time: Timestamp },
    /// A task opened a connection to IMDS, or uses one that another task opened.
    Task(Box<Task>),
    /// A TCP segment went to IMDS.
    Sent(Sent),
    /// A TCP segment came from IMDS.
    Received(Received),
    /// The last descriptor of the socket was closed: no response is expected.
    Closed {
        time: Timestamp,
        connection: ConnectionId,
    },
    /// No other event occurred before this time: pending requests may expire.
    Tick { time: Timestamp },
    /// The kernel dropped records because the ring buffer was full.
    Lost {
        /// When user space detected the drop.
        time: Timestamp,
        /// Records dropped since the last such event.
        records: u64,
    },
    /// The monitor stopped cleanly; the stream is complete.
    End {
        time: Timestamp,
        /// Counters of the kernel programs.
        totals: CaptureTotals,
    },
}

/// Counters of the kernel programs since they were attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureTotals {
    /// TCP segments with payload to or from IMDS.
    pub(crate) segments: u64,
    /// Records handed to user space.
    pub(crate) captured: u64,
    /// Records dropped because the ring buffer was full.
    pub(crate) lost: u64,
    /// Payload bytes of long segments that were not captured.
    #[serde(rename = "cut")]
    pub(crate) truncated: u64,
    /// Records of an unknown kind; 0 unless the eBPF object is of another version.
    pub(crate) unknown: u64,
}

impl CaptureTotals {
    /// Increase since `base`, an earlier reading.
    pub(crate) fn since(&self, base: &Self) -> Self {
        let Self {
            segments,
            captured,
            lost,
            truncated,
            unknown,
        } = self;
        Self {
            segments: segments.saturating_sub(base.segments),
            captured: captured.saturating_sub(base.captured),
            lost: lost.saturating_sub(base.lost),
            truncated: truncated.saturating_sub(base.truncated),
            unknown: unknown.saturating_sub(base.unknown),
        }
    }
}

/// IMDS by IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Endpoint {
    /// `169.254.169.254`
    #[serde(rename = "ipv4")]
    V4,
    /// `fd00:ec2::254`
    #[serde(rename = "ipv6")]
    V6,
}

impl Endpoint {
    pub(crate) fn address(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from(imdsmon_common::IMDS_V4).into(),
            Self::V6 => Ipv6Addr::from(imdsmon_common::IMDS_V6).into(),
        }
    }
}

/// A segment to IMDS, or a part of one.
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags of the TCP header, each its own"
)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// When it was sent.
    pub time: Timestamp,
    pub connection: ConnectionId,
    /// The latest task known to send on this connection.
    #[serde(with = "zero_is_none")]
    pub task: Option<TaskId>,
    /// The IMDS address.
    pub server: Endpoint,
    /// TCP sequence number of the first payload byte.
    pub seq: u32,
    /// Payload bytes on the wire. If more than `bytes.len()`, the rest was not captured.
    pub len: u32,
    /// First segment of the connection: `seq` is its first byte.
    #[serde(default, skip_serializing_if = "is_false")]
    pub syn: bool,
    /// The client has sent its last byte.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fin: bool,
    /// The client has reset the connection.
    #[serde(default, skip_serializing_if = "is_false")]
    pub rst: bool,
    /// The connection has urgent data (`MSG_OOB`): the server may read other bytes than those
    /// captured.
    #[serde(default, skip_serializing_if = "is_false")]
    pub urgent: bool,
    /// The payload, token values blanked.
    pub bytes: ByteString,
}

/// A segment from IMDS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Received {
    /// When it arrived.
    pub time: Timestamp,
    pub connection: ConnectionId,
    /// TCP sequence number of the first payload byte.
    pub seq: u32,
    /// Payload bytes on the wire.
    pub len: u32,
    /// IMDS has sent its last byte.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fin: bool,
    /// IMDS has reset the connection.
    #[serde(default, skip_serializing_if = "is_false")]
    pub rst: bool,
    /// Response head if the segment starts a response, otherwise empty; never the body.
    pub head: ByteString,
}

/// How a task uses its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Opened the connection.
    #[default]
    Connector,
    /// Sends on a connection that another task or another program opened.
    Sender,
    /// Holds the socket of a connection that is older than the monitor.
    Holder,
}

/// A task that uses a connection to IMDS: the kernel's record, and `/proc` read right after it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// When it connected, sent or was found.
    pub time: Timestamp,
    /// `time` in nanoseconds since boot, unless the task was only found. Not recorded.
    #[serde(skip)]
    pub boot: Option<u64>,
    pub connection: ConnectionId,
    /// Number of the task.
    pub task: TaskId,
    /// How it uses the connection.
    pub role: Role,
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    /// Group id in the initial user namespace.
    pub gid: u32,
    /// Name of the thread.
    pub comm: ByteString,
    /// Inode number of the cgroup v2 directory; 1 is the root.
    #[serde(with = "zero_is_none")]
    pub cgroup_id: Option<NonZeroU64>,
    /// Start of the process, `CLOCK_BOOTTIME` nanoseconds.
    pub start: Option<u64>,
    /// Inode number of the network namespace.
    pub netns: Option<u32>,
    /// File name of the executable in the kernel.
    pub exe_name: Option<ByteString>,
    /// Device and inode of the executable.
    pub exe_file: Option<FileId>,
    /// Path of that file, found without the process, which may have exited.
    pub exe: Option<ByteString>,
    /// Arguments (up to 512 bytes in all), token values blanked.
    pub argv: Option<Vec<ByteString>>,
    /// Ancestors, nearest first; empty if unknown.
    pub ancestors: Vec<Ancestor>,
    /// Name of the user in the host's `/etc/passwd`.
    pub user: Option<String>,
    /// Path of the cgroup `cgroup_id`, below the v2 root.
    pub cgroup: Option<ByteString>,
    /// Facts from `/proc`, if the process still existed when the event was read.
    pub proc: Option<ProcFacts>,
    /// Name of the user that owns the slice of the cgroup (`user-1000.slice`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice_user: Option<String>,
    /// Container of the cgroup, from the runtime's state on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerFacts>,
    /// The package that owns the executable, and its version: `curl 7.88.1-10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Whether the network namespace is that of the host's pid 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_network: Option<bool>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(b: &bool) -> bool {
    !*b
}

#[cfg(test)]
mod tests {
    use crate::event::*;

    #[test]
    fn a_task_of_an_older_recording_reads() {
        let line = r#"{"event":"task","time":1,"connection":1,"task":1,"role":"connector","pid":7,
            "tid":7,"uid":0,"gid":0,"comm":"curl","cgroup_id":1,"start":5,"netns":9,
            "exe_name":"curl","exe_file":null,"exe":null,"argv":["curl"],
            "ancestors":[{"pid":1,"name":"init"}],"user":"root","cgroup":"/","proc":{"exe":null,
            "argv":[],"parent":1,"ancestors":[{"pid":1,"name":"init"}],"cgroup":null,"netns":9,
            "uid":0,"comm":"curl"}}"#;
        let Event::Task(task) = serde_json::from_str(line).unwrap() else {
            panic!("it is a task");
        };
        assert_eq!((task.pid, task.container, task.package), (7, None, None));
        assert!(task.ancestors[0].argv.is_empty());
        assert_eq!(task.proc.unwrap().started, None);
    }

    #[test]
    fn an_unknown_number_is_recorded_as_0() {
        let line = r#"{"event":"sent","time":1,"connection":2,"task":0,"server":"ipv4","seq":1,"len":0,"bytes":""}"#;
        let event: Event = serde_json::from_str(line).unwrap();
        assert!(matches!(&event, Event::Sent(sent) if sent.task.is_none()));
        assert_eq!(serde_json::to_string(&event).unwrap(), line);
        let known = line.replace(r#""task":0"#, r#""task":7"#);
        let event: Event = serde_json::from_str(&known).unwrap();
        assert!(matches!(&event, Event::Sent(sent) if sent.task == TaskId::new(7)));
        assert_eq!(serde_json::to_string(&event).unwrap(), known);
    }
}
