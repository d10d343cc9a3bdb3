//! Reports the tasks that connect to IMDS and that send to it, and the release of their sockets.
//!
//! What stable helpers tell about a task is always reported, the rest only while the layout of
//! kernel structs [is known](kernel::is_known).

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_ANY,
    helpers::generated::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid,
        bpf_get_current_uid_gid, bpf_get_socket_cookie, bpf_probe_read_kernel_str,
        bpf_probe_read_user,
    },
    macros::map,
    maps::LruHashMap,
    programs::{SkBuffContext, SockAddrContext, SockContext},
};
use imdsmon_common::{
    ARGV_LEN, Ancestor, COMM_LEN, EXE_LEN, Family, Header, MAX_ANCESTORS, RecordType, Snapshot,
    Task, TaskRecord,
};

use crate::{
    kernel::{self, KernelPtr, offset},
    ring,
    verifier::at_most,
};

/// The program that was last seen to use a connection.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Owner {
    /// Address of its `mm_struct`, which `execve` replaces; 0 if unknown.
    mm: u64,
    pid: u32,
    /// Number of `execve` calls of the process: the kernel may reuse the address.
    execs: u32,
}

/// Owners by socket cookie. User space removes the entries of connections that it forgets.
#[map]
static OWNERS: LruHashMap<u64, Owner> = LruHashMap::with_max_entries(8192, 0);

/// `task_struct.flags` of a kernel thread, the same on 5.10 and 6.12:
/// <https://elixir.bootlin.com/linux/v5.10.251/source/include/linux/sched.h#L1553>
/// <https://elixir.bootlin.com/linux/v6.12.43/source/include/linux/sched.h#L1691>
const PF_KTHREAD: u32 = 0x0020_0000;

/// Reports that the current task connects a socket to IMDS.
#[inline(always)]
pub fn report_connect(ctx: &SockAddrContext, family: Family) {
    // SAFETY: these helpers take no argument or the context that the kernel passed.
    let (pid_tgid, uid_gid, cgroup, cookie) = unsafe {
        (
            bpf_get_current_pid_tgid(),
            bpf_get_current_uid_gid(),
            bpf_get_current_cgroup_id(),
            bpf_get_socket_cookie(ctx.as_ptr()),
        )
    };
    let pid = (pid_tgid >> 32) as u32;
    let current = KernelPtr::current_task();
    let owner = if kernel::is_known() {
        owner(current, pid)
    } else {
        Owner {
            mm: 0,
            pid,
            execs: 0,
        }
    };
    let Some(mut record) = ring::reserve::<TaskRecord>(ctx) else {
        // The record of this task is dropped, so the first send must report it.
        forget_owner(cookie);
        return;
    };
    remember_owner(cookie, owner);
    let snapshot = if kernel::is_known() {
        snapshot(&mut record, current, KernelPtr(owner.mm))
    } else {
        record.exe[0] = 0;
        Snapshot::UNKNOWN
    };
    record.task = Task {
        header: ring::header(RecordType::Connect, family, cookie),
        pid,
        tid: pid_tgid as u32,
        uid: uid_gid as u32,
        gid: (uid_gid >> 32) as u32,
        cgroup,
        comm: [0; COMM_LEN],
        snapshot,
    };
    let comm = record.task.comm.as_mut_ptr();
    // SAFETY: the helper writes at most `COMM_LEN` bytes, and zeros if it fails.
    unsafe { bpf_get_current_comm(comm.cast(), COMM_LEN as u32) };
    record.submit();
}

/// Gives the process that sends this packet; 0 if the packet leaves from a softirq, or the layout
/// of kernel structs is unknown. Reports the sender first if it is new to the connection.
///
/// A task that sends owns the lock of the socket, and a softirq that finds the lock owned defers
/// its work to the owner. So `current` is the sender exactly while the lock is owned.
/// <https://elixir.bootlin.com/linux/v6.12.43/source/include/net/sock.h#L1751> (the owner)
/// <https://elixir.bootlin.com/linux/v6.12.43/source/net/ipv4/tcp_ipv4.c#L2350> (received segments)
/// <https://elixir.bootlin.com/linux/v6.12.43/source/net/ipv4/tcp_output.c#L1092> (queued segments)
/// <https://elixir.bootlin.com/linux/v6.12.43/source/net/ipv4/tcp_timer.c#L721> (retransmissions)
#[inline(always)]
pub fn report_sender(ctx: &SkBuffContext, family: Family, cookie: u64) -> u32 {
    if !kernel::is_known() {
        return 0;
    }
    let socket = KernelPtr(ctx.as_ptr() as u64).follow(offset!(skb_sk));
    if socket.read::<u32>(offset!(sock_owned)) == 0 {
        return 0;
    }
    let current = KernelPtr::current_task();
    let pid: u32 = current.read(offset!(task_tgid));
    let owner = owner(current, pid);
    let flags: u32 = current.read(offset!(task_flags));
    // A kernel thread sends on behalf of another task.
    if owner.mm == 0 || flags & PF_KTHREAD != 0 {
        return 0;
    }
    // SAFETY: another CPU may change the value meanwhile; then the sender is reported once more.
    if unsafe { OWNERS.get(cookie) } == Some(&owner) {
        return pid;
    }
    let Some(mut record) = ring::reserve::<TaskRecord>(ctx) else {
        return pid; // the next send reports it
    };
    remember_owner(cookie, owner);
    let cred = current.follow(offset!(task_cred));
    let cgroup = current
        .follow(offset!(task_cgroups))
        .follow(offset!(css_set_dfl_cgrp))
        .follow(offset!(cgroup_kn));
    record.task = Task {
        header: ring::header(RecordType::Sender, family, cookie),
        pid,
        tid: current.read(offset!(task_pid)),
        uid: cred.read(offset!(cred_uid)),
        gid: cred.read(offset!(cred_gid)),
        cgroup: cgroup.read(offset!(kernfs_node_id)),
        comm: [0; COMM_LEN],
        snapshot: snapshot(&mut record, current, KernelPtr(owner.mm)),
    };
    current.read_to(offset!(task_comm), &mut record.task.comm);
    record.submit();
    pid
}

/// Reports that the last descriptor of a socket was closed.
#[inline(always)]
pub fn report_release(ctx: &SockContext, family: Family) {
    // SAFETY: the kernel passed this context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    forget_owner(cookie);
    if let Some(mut record) = ring::reserve::<Header>(ctx) {
        *record = ring::header(RecordType::Release, family, cookie);
        record.submit();
    }
}

/// The program that a task runs.
#[inline(always)]
fn owner(task: KernelPtr, pid: u32) -> Owner {
    Owner {
        mm: task.read(offset!(task_mm)),
        pid,
        // The low 32 of its 64 bits are enough to tell two programs apart.
        execs: task.read(offset!(task_self_exec_id)),
    }
}

#[inline(always)]
fn remember_owner(cookie: u64, owner: Owner) {
    // A full LRU map evicts an entry. If the insertion fails, the sender is reported again.
    let _ = OWNERS.insert(cookie, owner, u64::from(BPF_ANY));
}

#[inline(always)]
fn forget_owner(cookie: u64) {
    // There is no entry if it was evicted, or if the connection is older than the monitor.
    let _ = OWNERS.remove(cookie);
}

/// Reads what only kernel structs tell about a task.
#[inline(always)]
fn snapshot(record: &mut TaskRecord, task: KernelPtr, mm: KernelPtr) -> Snapshot {
    let leader = task.follow(offset!(task_group_leader));
    let net = task
        .follow(offset!(task_nsproxy))
        .follow(offset!(nsproxy_net));
    let file = mm.follow(offset!(mm_exe_file));
    let inode = file.follow(offset!(file_inode));
    let super_block = inode.follow(offset!(inode_sb));
    copy_exe_name(&mut record.exe, file);
    Snapshot {
        start: leader.read(offset!(task_start_boottime)),
        exe_inode: inode.read(offset!(inode_ino)),
        exe_device: super_block.read(offset!(super_block_dev)),
        netns: net.read(offset!(net_inum)),
        argv_len: copy_argv(&mut record.argv, mm),
        ancestors_len: copy_ancestors(&mut record.ancestors, leader),
    }
}

/// Copies the last component of a file's path.
#[inline(always)]
fn copy_exe_name(to: &mut [u8; EXE_LEN], file: KernelPtr) {
    let name = file
        .follow(offset!(file_dentry))
        .follow(offset!(dentry_name));
    // SAFETY: the helper checks the address and writes at most `EXE_LEN` bytes.
    let len = unsafe {
        bpf_probe_read_kernel_str(to.as_mut_ptr().cast(), EXE_LEN as u32, name.0 as *const _)
    };
    if len < 0 {
        to[0] = 0;
    }
}

/// Copies the arguments and gives their length, which may be more than was copied.
#[inline(always)]
fn copy_argv(to: &mut [u8; ARGV_LEN], mm: KernelPtr) -> u32 {
    let start: u64 = mm.read(offset!(mm_arg_start));
    let end: u64 = mm.read(offset!(mm_arg_end));
    let len = end.wrapping_sub(start);
    if start == 0 || len == 0 || len > u64::from(u32::MAX) {
        return 0;
    }
    let n = at_most::<ARGV_LEN>(len as u32);
    // SAFETY: the helper checks the address and writes `n` bytes, at most `ARGV_LEN`.
    if unsafe { bpf_probe_read_user(to.as_mut_ptr().cast(), n, start as *const _) } == 0 {
        len as u32
    } else {
        0
    }
}

/// Writes the processes above `leader` and gives their number.
#[inline(always)]
fn copy_ancestors(to: &mut [Ancestor; MAX_ANCESTORS], leader: KernelPtr) -> u32 {
    let mut task = leader;
    let mut found = 0;
    for ancestor in to {
        // The parent may be a thread; its leader is the process.
        task = task
            .follow(offset!(task_real_parent))
            .follow(offset!(task_group_leader));
        let pid: u32 = task.read(offset!(task_tgid));
        if pid == 0 {
            break;
        }
        ancestor.pid = pid;
        task.read_to(offset!(task_comm), &mut ancestor.comm);
        found += 1;
        if pid == 1 {
            break;
        }
    }
    found
}
