//! The layout that imdsmon's kernel programs and its user space share.
//!
//! Every record in the ring buffer begins with a [`Header`] whose `kind` says which of the
//! structs below it is. All are `repr(C)` without padding, so that no kernel memory leaks
//! through a hole and user space can read them on any architecture of the same byte order.
#![no_std]

/// IMDS on IPv4, `169.254.169.254`, as the bytes stand on the wire.
pub const IMDS_V4: [u8; 4] = [169, 254, 169, 254];
/// IMDS on IPv6, `fd00:ec2::254`, as the bytes stand on the wire.
pub const IMDS_V6: [u8; 16] = [
    0xfd, 0, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54,
];
/// The TCP port IMDS listens on.
pub const IMDS_PORT: u16 = 80;

/// Bytes of `comm`, with its terminating NUL (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;
/// Bytes of argv that a snapshot holds; a power of two, because old verifiers want a mask.
pub const ARGV_LEN: usize = 512;
/// Bytes of the executable's file name that a snapshot holds, with its terminating NUL.
pub const EXE_LEN: usize = 64;
/// Ancestors that a snapshot holds.
pub const ANCESTORS: usize = 4;
/// Payload bytes of a small segment record: nearly every request fits.
pub const SMALL: usize = 512;
/// Payload bytes of a large segment record, and the step in which a longer segment is cut.
pub const LARGE: usize = 4096;
/// Large records per segment at most: 16 KiB of one segment are captured, the rest is a gap.
pub const CHUNKS: u32 = 4;
/// Bytes of a response head that are captured; what follows the head is blanked in the kernel.
pub const HEAD: usize = 512;

/// Values of [`Header::kind`].
pub mod kind {
    /// A [`super::Task`] that opened a connection to IMDS.
    pub const CONNECT: u32 = 1;
    /// A [`super::Task`] that sends on a connection which another task, or another program of
    /// the same task, used before, or that was open before the monitor started.
    pub const SENDER: u32 = 2;
    /// A [`super::Segment`] sent to IMDS.
    pub const SENT: u32 = 3;
    /// A [`super::Segment`] received from IMDS: the head of a response, or only its length.
    pub const RECEIVED: u32 = 4;
    /// A bare [`super::Header`]: the socket's last descriptor was closed.
    pub const RELEASE: u32 = 5;
}

/// Bits of [`Segment::flags`], as in the TCP header.
pub mod flag {
    /// The sender has finished.
    pub const FIN: u8 = 0x01;
    /// The connection begins.
    pub const SYN: u8 = 0x02;
    /// The connection is reset.
    pub const RST: u8 = 0x04;
    /// There are urgent data.
    pub const URG: u8 = 0x20;
}

/// The beginning of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u32,
    /// 4 or 6: the version of IP on the wire.
    pub ip: u32,
    /// `CLOCK_BOOTTIME`, in nanoseconds.
    pub time: u64,
    /// The socket cookie: names the connection on this host until reboot.
    pub cookie: u64,
}

/// A task as the kernel saw it at the moment of the event.
///
/// What needs kernel structs is zero where the host has no BTF: then `/proc` alone attributes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Task {
    /// `kind` is [`kind::CONNECT`] or [`kind::SENDER`].
    pub header: Header,
    /// Process id (`tgid`) in the initial pid namespace.
    pub pid: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// User id in the initial user namespace.
    pub uid: u32,
    /// Group id in the initial user namespace.
    pub gid: u32,
    /// Inode number of the cgroup v2 directory; 1 is the root.
    pub cgroup: u64,
    /// Start of the process (group leader), `CLOCK_BOOTTIME` nanoseconds; 0 if unknown.
    pub start: u64,
    /// Inode number of the task's network namespace; 0 if unknown.
    pub netns: u32,
    /// Bytes used in `argv`; [`ARGV_LEN`] or more means that it was longer.
    pub argv_len: u32,
    /// Number of `ancestors` in use.
    pub ancestors_len: u32,
    /// Device of the executable's file, as the kernel writes it (12 bits major, 20 minor); 0 if
    /// unknown.
    pub exe_device: u32,
    /// Inode number of the executable's file; 0 if unknown.
    pub exe_inode: u64,
    /// Name of the thread.
    pub comm: [u8; COMM_LEN],
    /// File name (last component) of the executable, NUL-terminated; empty if unknown.
    pub exe: [u8; EXE_LEN],
    /// Parent, its parent, and so on, until pid 1.
    pub ancestors: [Ancestor; ANCESTORS],
    /// The arguments, each ended by NUL.
    pub argv: [u8; ARGV_LEN],
}

/// One process above a [`Task`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ancestor {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Its name.
    pub comm: [u8; COMM_LEN],
}

/// A TCP segment, or a chunk of one, without its bytes: they follow in the record.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// `kind` is [`kind::SENT`] or [`kind::RECEIVED`].
    pub header: Header,
    /// Sequence number of the first payload byte (a SYN's own number is already added).
    pub seq: u32,
    /// Payload bytes that this record stands for; more than `captured` means a gap.
    pub len: u32,
    /// Payload bytes that follow.
    pub captured: u32,
    /// Process that sends, in the initial pid namespace; 0 if it cannot be known.
    pub sender: u32,
    /// Bits of [`flag`].
    pub flags: u8,
    /// Keeps the layout free of padding; always 0.
    pub reserved: [u8; 7],
}

/// A record of [`Segment`] with room for `N` payload bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SegmentRecord<const N: usize> {
    /// What the bytes are.
    pub segment: Segment,
    /// The bytes; those beyond `segment.captured` are not written and mean nothing.
    pub bytes: [u8; N],
}

/// Indices of the per-CPU counters.
pub mod counter {
    /// TCP segments to or from IMDS that carried payload.
    pub const SEEN: u32 = 0;
    /// Records handed to user space.
    pub const CAPTURED: u32 = 1;
    /// Records that the full ring buffer had no room for.
    pub const LOST: u32 = 2;
    /// Payload bytes beyond the captured part of a segment.
    pub const CUT: u32 = 3;
    /// How many counters there are.
    pub const COUNT: u32 = 4;
}

/// Offsets of the kernel struct members that the task snapshot reads, in bytes.
///
/// User space takes them from `/sys/kernel/btf/vmlinux` at load. Zero `valid` removes all code
/// that reads kernel structs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// 1 if the members below hold.
    pub valid: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.comm`
    pub task_comm: u32,
    /// `task_struct.mm`
    pub task_mm: u32,
    /// `task_struct.flags`
    pub task_flags: u32,
    /// `task_struct.self_exec_id`; of its 64 bits (32 before 5.7) the low 32 are enough
    pub task_self_exec_id: u32,
    /// `task_struct.real_parent`
    pub task_real_parent: u32,
    /// `task_struct.group_leader`
    pub task_group_leader: u32,
    /// `task_struct.start_boottime`
    pub task_start_boottime: u32,
    /// `task_struct.nsproxy`
    pub task_nsproxy: u32,
    /// `task_struct.cred`
    pub task_cred: u32,
    /// `cred.uid`
    pub cred_uid: u32,
    /// `cred.gid`
    pub cred_gid: u32,
    /// `mm_struct.arg_start`
    pub mm_arg_start: u32,
    /// `mm_struct.arg_end`
    pub mm_arg_end: u32,
    /// `mm_struct.exe_file`
    pub mm_exe_file: u32,
    /// `file.f_path.dentry`
    pub file_dentry: u32,
    /// `dentry.d_name.name`
    pub dentry_name: u32,
    /// `file.f_inode`
    pub file_inode: u32,
    /// `inode.i_ino`
    pub inode_ino: u32,
    /// `inode.i_sb`
    pub inode_sb: u32,
    /// `super_block.s_dev`
    pub sb_dev: u32,
    /// `nsproxy.net_ns`
    pub nsproxy_net: u32,
    /// `net.ns.inum`
    pub net_inum: u32,
    /// `sk_buff.sk`
    pub skb_sk: u32,
    /// `sock.sk_lock.owned`
    pub sock_owned: u32,
    /// `task_struct.cgroups`
    pub task_cgroups: u32,
    /// `css_set.dfl_cgrp`
    pub css_set_dfl_cgrp: u32,
    /// `cgroup.kn`
    pub cgroup_kn: u32,
    /// `kernfs_node.id`
    pub kernfs_node_id: u32,
}

const _: () = {
    assert!(size_of::<Header>() == 24);
    assert!(size_of::<Ancestor>() == 4 + COMM_LEN);
    assert!(
        size_of::<Task>() == 24 + 16 + 16 + 24 + COMM_LEN + EXE_LEN + ANCESTORS * 20 + ARGV_LEN
    );
    assert!(size_of::<Segment>() == 24 + 16 + 8);
    assert!(size_of::<SegmentRecord<SMALL>>() == size_of::<Segment>() + SMALL);
    assert!(ARGV_LEN.is_power_of_two() && SMALL.is_power_of_two() && LARGE.is_power_of_two());
};
