//! Who connects, and who sends.
//!
//! The snapshot reads kernel structs whose offsets user space puts into [`OFFSETS`] at load.
//! While they are zero, the verifier removes that code and only stable helpers remain.

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_ANY,
    helpers::generated::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid,
        bpf_get_current_task, bpf_get_current_uid_gid, bpf_get_socket_cookie,
        bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user,
    },
    macros::map,
    maps::LruHashMap,
    programs::{SkBuffContext, SockAddrContext, SockContext},
};
use imdsmon_common::{
    ANCESTORS, ARGV_LEN, Ancestor, COMM_LEN, EXE_LEN, Header, Offsets, Task, kind,
};

use crate::ring;

/// Set by user space at load.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets {
    valid: 0,
    task_tgid: 0,
    task_pid: 0,
    task_comm: 0,
    task_mm: 0,
    task_flags: 0,
    task_self_exec_id: 0,
    task_real_parent: 0,
    task_group_leader: 0,
    task_start_boottime: 0,
    task_nsproxy: 0,
    task_cred: 0,
    cred_uid: 0,
    cred_gid: 0,
    mm_arg_start: 0,
    mm_arg_end: 0,
    mm_exe_file: 0,
    file_dentry: 0,
    dentry_name: 0,
    file_inode: 0,
    inode_ino: 0,
    inode_sb: 0,
    sb_dev: 0,
    nsproxy_net: 0,
    net_inum: 0,
    skb_sk: 0,
    sock_owned: 0,
    task_cgroups: 0,
    css_set_dfl_cgrp: 0,
    cgroup_kn: 0,
    kernfs_node_id: 0,
};

/// One member of [`OFFSETS`]: the verifier reads it as a constant.
macro_rules! offset {
    ($member:ident) => {
        constant(&raw const OFFSETS.$member)
    };
}

#[inline(always)]
fn constant(member: *const u32) -> u64 {
    // SAFETY: `offset!` gives a member of a static; volatile, because the value is set after
    // compilation.
    u64::from(unsafe { member.read_volatile() })
}

/// The program that a connection's last known user runs.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Owner {
    /// Address of its `mm_struct`: another program after `execve` has another one. 0 if unknown.
    mm: u64,
    /// Its process id.
    pid: u32,
    /// How often the process has called `execve`: the address may be used again.
    execs: u32,
}

/// Who was last seen to use a connection, by socket cookie.
#[map]
static OWNERS: LruHashMap<u64, Owner> = LruHashMap::with_max_entries(8192, 0);

/// `PF_KTHREAD` in `task_struct.flags`, the same since 2.6.27.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// A pointer to a kernel struct: a number, only ever read through `bpf_probe_read_kernel`.
#[derive(Clone, Copy)]
struct Kernel(u64);

impl Kernel {
    /// Reads a member; zero if that faults.
    #[inline(always)]
    fn read<T: Copy + Default>(self, offset: u64) -> T {
        let mut value = T::default();
        // SAFETY: the helper checks the address and writes no more than the size of `value`.
        let failed = unsafe {
            bpf_probe_read_kernel(
                (&raw mut value).cast(),
                size_of::<T>() as u32,
                (self.0.wrapping_add(offset)) as *const _,
            )
        };
        if failed == 0 { value } else { T::default() }
    }

    /// Follows a pointer.
    #[inline(always)]
    fn follow(self, offset: u64) -> Self {
        Self(self.read(offset))
    }
}

#[inline(always)]
fn current() -> Kernel {
    // SAFETY: the helper takes nothing and gives an address.
    Kernel(unsafe { bpf_get_current_task() })
}

/// The current task connects a socket to IMDS.
#[inline(always)]
pub fn connects(ctx: &SockAddrContext, ip: u32) {
    // SAFETY: these helpers take nothing, or the context the kernel handed over.
    let (pid_tgid, uid_gid, cgroup, cookie) = unsafe {
        (
            bpf_get_current_pid_tgid(),
            bpf_get_current_uid_gid(),
            bpf_get_current_cgroup_id(),
            bpf_get_socket_cookie(ctx.as_ptr()),
        )
    };
    let pid = (pid_tgid >> 32) as u32;
    let current = current();
    let owner = if offset!(valid) == 0 {
        Owner {
            mm: 0,
            pid,
            execs: 0,
        }
    } else {
        owner(current, pid)
    };
    let Some(mut entry) = ring::reserve::<Task>(ctx) else {
        // Nobody learns of this task, so that the first send has to report it.
        disown(cookie);
        return;
    };
    own(cookie, owner);
    let task = entry.as_mut_ptr();
    // SAFETY: `task` points to a reservation of its size, of which every byte is written.
    unsafe {
        (*task).header = ring::header(kind::CONNECT, ip, cookie);
        (*task).pid = pid;
        (*task).tid = pid_tgid as u32;
        (*task).uid = uid_gid as u32;
        (*task).gid = (uid_gid >> 32) as u32;
        (*task).cgroup = cgroup;
        let comm = &raw mut (*task).comm;
        if bpf_get_current_comm(comm.cast(), COMM_LEN as u32) != 0 {
            *comm = [0; COMM_LEN];
        }
        if offset!(valid) == 0 {
            blank(task);
        } else {
            snapshot(task, current, Kernel(owner.mm));
        }
    }
    ring::submit(entry);
}

/// Who sends this packet? Gives the process id, or 0 if the packet leaves from an interrupt or
/// the kernel's structs are unknown. A user that is new to the connection is reported first.
#[inline(always)]
pub fn sends(ctx: &SkBuffContext, ip: u32, cookie: u64) -> u32 {
    if offset!(valid) == 0 {
        return 0;
    }
    // A task that sends owns the socket's lock; softirqs put their work aside while it does.
    // So `current` is the sender exactly while the lock is owned (`sock_owned_by_user`).
    let socket = Kernel(ctx.as_ptr() as u64).follow(offset!(skb_sk));
    if socket.read::<u32>(offset!(sock_owned)) == 0 {
        return 0;
    }
    let current = current();
    let pid: u32 = current.read(offset!(task_tgid));
    let owner = owner(current, pid);
    let flags: u32 = current.read(offset!(task_flags));
    if owner.mm == 0 || flags & KERNEL_THREAD != 0 {
        return 0; // a kernel thread works for somebody else
    }
    // SAFETY: the value may change under us; then the sender is reported once more.
    if unsafe { OWNERS.get(cookie) } == Some(&owner) {
        return pid;
    }
    let Some(mut entry) = ring::reserve::<Task>(ctx) else {
        return pid; // the next send reports it
    };
    own(cookie, owner);
    let task = entry.as_mut_ptr();
    let cred = current.follow(offset!(task_cred));
    let group = current
        .follow(offset!(task_cgroups))
        .follow(offset!(css_set_dfl_cgrp));
    // SAFETY: `task` points to a reservation of its size, of which every byte is written.
    unsafe {
        (*task).header = ring::header(kind::SENDER, ip, cookie);
        (*task).pid = pid;
        (*task).tid = current.read(offset!(task_pid));
        (*task).uid = cred.read(offset!(cred_uid));
        (*task).gid = cred.read(offset!(cred_gid));
        (*task).cgroup = group
            .follow(offset!(cgroup_kn))
            .read(offset!(kernfs_node_id));
        (*task).comm = current.read(offset!(task_comm));
        snapshot(task, current, Kernel(owner.mm));
    }
    ring::submit(entry);
    pid
}

/// The socket's last descriptor is closed.
#[inline(always)]
pub fn releases(ctx: &SockContext, ip: u32) {
    // SAFETY: the context is the one the kernel handed over.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    disown(cookie);
    if let Some(mut entry) = ring::reserve::<Header>(ctx) {
        entry.write(ring::header(kind::RELEASE, ip, cookie));
        ring::submit(entry);
    }
}

/// The program that a task runs.
#[inline(always)]
fn owner(task: Kernel, pid: u32) -> Owner {
    Owner {
        mm: task.read(offset!(task_mm)),
        pid,
        execs: task.read(offset!(task_self_exec_id)),
    }
}

#[inline(always)]
fn disown(cookie: u64) {
    // Not there means that the map was full, or that the connection is older than we are.
    let _ = OWNERS.remove(cookie);
}

#[inline(always)]
fn own(cookie: u64, owner: Owner) {
    // A full LRU map evicts; should it fail all the same, the sender is reported again.
    let _ = OWNERS.insert(cookie, owner, u64::from(BPF_ANY));
}

/// Without offsets: what the snapshot would have filled stays empty.
///
/// # Safety
///
/// `task` must point to a writable record.
#[inline(always)]
unsafe fn blank(task: *mut Task) {
    // SAFETY: the caller vouches for `task`.
    unsafe {
        (*task).start = 0;
        (*task).netns = 0;
        (*task).argv_len = 0;
        (*task).ancestors_len = 0;
        (*task).exe_device = 0;
        (*task).exe_inode = 0;
        (*task).exe[0] = 0;
    }
}

/// What only the kernel's structs tell.
///
/// # Safety
///
/// `task` must point to a writable record, `current` and `mm` must be those of a live task.
#[inline(always)]
unsafe fn snapshot(task: *mut Task, current: Kernel, mm: Kernel) {
    let leader = current.follow(offset!(task_group_leader));
    let net = current
        .follow(offset!(task_nsproxy))
        .follow(offset!(nsproxy_net));
    let file = mm.follow(offset!(mm_exe_file));
    let inode = file.follow(offset!(file_inode));
    let name = file
        .follow(offset!(file_dentry))
        .follow(offset!(dentry_name));
    // SAFETY: the caller vouches for `task`; the helpers check the addresses they read.
    unsafe {
        (*task).start = leader.read(offset!(task_start_boottime));
        (*task).netns = net.read(offset!(net_inum));
        (*task).exe_device = inode.follow(offset!(inode_sb)).read(offset!(sb_dev));
        (*task).exe_inode = inode.read(offset!(inode_ino));
        let exe = (&raw mut (*task).exe).cast();
        if bpf_probe_read_kernel_str(exe, EXE_LEN as u32, name.0 as *const _) < 0 {
            (*task).exe[0] = 0;
        }
        (*task).argv_len = argv((&raw mut (*task).argv).cast(), mm);
        (*task).ancestors_len = ancestors(&raw mut (*task).ancestors, leader);
    }
}

/// Copies the arguments and gives their length, which may be more than was copied.
///
/// # Safety
///
/// `to` must point to [`ARGV_LEN`] writable bytes.
#[inline(always)]
unsafe fn argv(to: *mut core::ffi::c_void, mm: Kernel) -> u32 {
    let start: u64 = mm.read(offset!(mm_arg_start));
    let end: u64 = mm.read(offset!(mm_arg_end));
    let len = end.wrapping_sub(start);
    if start == 0 || len == 0 || len > u64::from(u32::MAX) {
        return 0;
    }
    let wanted = if len < ARGV_LEN as u64 {
        len as u32
    } else {
        ARGV_LEN as u32
    };
    let n = (wanted.wrapping_sub(1) & (ARGV_LEN as u32 - 1)) + 1;
    // SAFETY: `n` is at most `ARGV_LEN`; the helper checks the address it reads.
    if unsafe { bpf_probe_read_user(to, n, start as *const _) } == 0 {
        len as u32
    } else {
        0
    }
}

/// Writes the processes above `leader` and gives their number.
///
/// # Safety
///
/// `to` must point to a writable array.
#[inline(always)]
unsafe fn ancestors(to: *mut [Ancestor; ANCESTORS], leader: Kernel) -> u32 {
    let mut task = leader;
    let mut found = 0;
    for i in 0..ANCESTORS {
        // The parent may be a thread; its leader is the process.
        task = task
            .follow(offset!(task_real_parent))
            .follow(offset!(task_group_leader));
        let pid: u32 = task.read(offset!(task_tgid));
        if pid == 0 {
            break;
        }
        // SAFETY: `i` is below `ANCESTORS`.
        unsafe {
            (*to)[i].pid = pid;
            (*to)[i].comm = task.read(offset!(task_comm));
        }
        found += 1;
        if pid == 1 {
            break;
        }
    }
    found
}
