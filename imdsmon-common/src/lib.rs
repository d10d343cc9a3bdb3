//! The records that imdsmon's kernel programs write and its user space reads.
//!
//! Every record in the ring buffer begins with a [`Header`], whose `record_type` names the struct
//! that follows. All structs are `repr(C)` without padding: no kernel memory leaks through a
//! hole, and both sides agree on the layout on every architecture of the same byte order.
#![no_std]

mod offsets;

pub use offsets::Offsets;

/// The IPv4 address of IMDS, `169.254.169.254`, in network byte order.
pub const IMDS_V4: [u8; 4] = [169, 254, 169, 254];
/// The IPv6 address of IMDS, `fd00:ec2::254`, in network byte order.
pub const IMDS_V6: [u8; 16] = [
    0xfd, 0, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54,
];
/// The TCP port of IMDS.
pub const IMDS_PORT: u16 = 80;

/// Bytes of a thread's name with its terminating NUL (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;
/// Bytes of a process's arguments that are copied; a power of two for the verifier.
pub const ARGV_LEN: usize = 512;
/// Bytes of an executable's file name that are copied, with the terminating NUL.
pub const EXE_LEN: usize = 64;
/// Ancestors of a process that are reported.
pub const MAX_ANCESTORS: usize = 4;
/// Payload bytes of a small segment record; nearly every request fits.
pub const SMALL_PAYLOAD_LEN: usize = 512;
/// Payload bytes of a large segment record. A longer segment becomes several records.
pub const LARGE_PAYLOAD_LEN: usize = 4096;
/// Large records per segment. Together they hold 16 KiB; the rest of the segment is truncated.
pub const MAX_CHUNKS: u32 = 4;
/// Bytes of a response head that are copied. What follows the head is blanked in the kernel.
pub const RESPONSE_HEAD_LEN: usize = 512;

/// Plain old data: any bytes of the right length are a valid value.
///
/// # Safety
///
/// The type must be an integer, an array of such types, or a `repr(C)` struct of them without
/// padding.
pub unsafe trait Pod: Copy + 'static {
    /// Reads a value from the beginning of `bytes`; `None` if there are too few.
    #[must_use]
    fn read_from(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..size_of::<Self>())?;
        // SAFETY: `bytes` is as long as the type, any bytes are a valid value of it, and the read
        // does not need alignment.
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }
}

/// What a record is: the value of [`Header::record_type`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordType {
    /// A task connects a socket to IMDS: a [`TaskRecord`].
    Connect = 1,
    /// A task is new on a connection on which it sends, because another task or another program of
    /// the same task used it before, or because it is older than the monitor: a [`TaskRecord`].
    Sender = 2,
    /// A TCP segment to IMDS: a [`SegmentRecord`], or a [`Segment`] if it has no payload.
    Sent = 3,
    /// A TCP segment from IMDS: a [`SegmentRecord`] with the response head if one begins in it,
    /// else a [`Segment`].
    Received = 4,
    /// The last descriptor of a socket is closed: a [`Header`].
    Release = 5,
}

impl TryFrom<u32> for RecordType {
    /// The number that is no record type.
    type Error = u32;

    fn try_from(number: u32) -> Result<Self, u32> {
        [
            Self::Connect,
            Self::Sender,
            Self::Sent,
            Self::Received,
            Self::Release,
        ]
        .into_iter()
        .find(|known| *known as u32 == number)
        .ok_or(number)
    }
}

/// The address family of the packets: the value of [`Header::family`].
///
/// It is that of the network, not that of the socket: an `AF_INET6` socket that is connected to
/// `::ffff:169.254.169.254` sends IPv4 packets.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `AF_INET`
    Inet = 2,
    /// `AF_INET6`
    Inet6 = 10,
}

/// Bits of [`Segment::flags`], as in the TCP header (RFC 9293, section 3.1).
pub mod tcp_flag {
    /// The sender has sent its last byte.
    pub const FIN: u8 = 0x01;
    /// The connection begins.
    pub const SYN: u8 = 0x02;
    /// The connection is reset.
    pub const RST: u8 = 0x04;
    /// The segment carries urgent data.
    pub const URG: u8 = 0x20;
}

/// Indices of the per-CPU counters.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// TCP segments to or from IMDS that carried payload.
    Segments = 0,
    /// Records handed to user space.
    Captured = 1,
    /// Records that the full ring buffer had no room for.
    Dropped = 2,
    /// Payload bytes of sent segments beyond [`MAX_CHUNKS`] records.
    Truncated = 3,
}

impl Counter {
    /// How many counters there are.
    pub const COUNT: u32 = Self::Truncated as u32 + 1;
}

/// The beginning of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// A [`RecordType`].
    pub record_type: u32,
    /// A [`Family`].
    pub family: u16,
    /// Fills the hole before `time`; always 0.
    pub reserved: u16,
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub time: u64,
    /// The socket cookie: identifies the connection on this host until reboot.
    pub cookie: u64,
}

/// A task as the kernel knows it at the moment of the event.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Of type [`RecordType::Connect`] or [`RecordType::Sender`].
    pub header: Header,
    /// Process ID (`tgid`) in the initial PID namespace.
    pub pid: u32,
    /// Thread ID in the initial PID namespace.
    pub tid: u32,
    /// User ID in the initial user namespace.
    pub uid: u32,
    /// Group ID in the initial user namespace.
    pub gid: u32,
    /// Inode number of the cgroup v2 directory; 1 is the root.
    pub cgroup: u64,
    /// Name of the thread.
    pub comm: [u8; COMM_LEN],
    /// What has to be read from kernel structs.
    pub snapshot: Snapshot,
}

/// What only kernel structs tell about a task; each number is 0 if unknown.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// Start of the process (its group leader), `CLOCK_BOOTTIME` in nanoseconds.
    pub start: u64,
    /// Inode number of the executable.
    pub exe_inode: u64,
    /// Device of the executable (12 bits major, 20 minor).
    pub exe_device: u32,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Bytes of the arguments; more than [`ARGV_LEN`] if they were truncated.
    pub argv_len: u32,
    /// Number of ancestors.
    pub ancestors_len: u32,
}

impl Snapshot {
    /// The snapshot where the layout of kernel structs is unknown ([`Offsets::valid`]).
    pub const UNKNOWN: Self = Self {
        start: 0,
        exe_inode: 0,
        exe_device: 0,
        netns: 0,
        argv_len: 0,
        ancestors_len: 0,
    };
}

/// A [`Task`] with what varies in length. Bytes beyond the used part are of older records.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TaskRecord {
    /// The task.
    pub task: Task,
    /// File name of the executable, without directories, up to NUL; empty if unknown.
    pub exe: [u8; EXE_LEN],
    /// The parent, its parent and so on up to pid 1; `snapshot.ancestors_len` are used.
    pub ancestors: [Ancestor; MAX_ANCESTORS],
    /// The arguments, each ended by NUL; `snapshot.argv_len` bytes are used.
    pub argv: [u8; ARGV_LEN],
}

/// A process above a [`Task`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Ancestor {
    /// Process ID in the initial PID namespace.
    pub pid: u32,
    /// Name of its main thread.
    pub comm: [u8; COMM_LEN],
}

/// A TCP segment, or a part of one.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Of type [`RecordType::Sent`] or [`RecordType::Received`].
    pub header: Header,
    /// Sequence number of the first payload byte; the number that a SYN takes is added.
    pub seq: u32,
    /// Payload bytes that this record stands for; those beyond `captured` are missing.
    pub len: u32,
    /// Payload bytes in the [`SegmentRecord`].
    pub captured: u32,
    /// Process that sends, in the initial PID namespace; 0 if unknown.
    pub sender: u32,
    /// Bits of [`tcp_flag`].
    pub flags: u8,
    /// Fills the hole at the end; always 0.
    pub reserved: [u8; 7],
}

/// A [`Segment`] with up to `N` payload bytes. Bytes beyond `captured` are of older records.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SegmentRecord<const N: usize> {
    /// The segment.
    pub segment: Segment,
    /// The payload; `segment.captured` bytes are used.
    pub bytes: [u8; N],
}

// SAFETY: an integer.
unsafe impl Pod for u32 {}
// SAFETY: an integer.
unsafe impl Pod for u64 {}
// SAFETY: an array of integers.
unsafe impl<const N: usize> Pod for [u8; N] {}
// SAFETY: a `repr(C)` struct of integers; the assertions below rule out padding.
unsafe impl Pod for Header {}
// SAFETY: as above.
unsafe impl Pod for Task {}
// SAFETY: as above.
unsafe impl Pod for TaskRecord {}
// SAFETY: as above.
unsafe impl Pod for Segment {}
// SAFETY: as above.
unsafe impl<const N: usize> Pod for SegmentRecord<N> {}

const _: () = {
    // The sums of the fields: no padding.
    assert!(size_of::<Header>() == 4 + 2 + 2 + 8 + 8);
    assert!(size_of::<Snapshot>() == 2 * 8 + 4 * 4);
    assert!(
        size_of::<Task>() == size_of::<Header>() + 4 * 4 + 8 + COMM_LEN + size_of::<Snapshot>()
    );
    assert!(size_of::<Ancestor>() == 4 + COMM_LEN);
    assert!(
        size_of::<TaskRecord>()
            == size_of::<Task>() + EXE_LEN + MAX_ANCESTORS * size_of::<Ancestor>() + ARGV_LEN
    );
    assert!(size_of::<Segment>() == size_of::<Header>() + 4 * 4 + 1 + 7);
    assert!(
        size_of::<SegmentRecord<SMALL_PAYLOAD_LEN>>() == size_of::<Segment>() + SMALL_PAYLOAD_LEN
    );
};
