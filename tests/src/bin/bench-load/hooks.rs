//! Programs that look at every packet, and putting them there and away again within a
//! millisecond: what is compared must be measured side by side.
//!
//! The floor is the least that any monitor at these hooks can cost: two programs that only say
//! "allow". Those of imdsmon are the ones that the running monitor has loaded; the kernel gives out a
//! descriptor of each, which outlives the monitor. Done with bpf(2) itself.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

/// Hooks and numbers of `include/uapi/linux/bpf.h`.
const PROG_LOAD: libc::c_long = 5;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const PROG_QUERY: libc::c_long = 16;
const LINK_CREATE: libc::c_long = 28;
const CGROUP_SKB: u32 = 8;
const INGRESS: u32 = 0;
const EGRESS: u32 = 1;

/// `r0 = 1; exit`, as 64-bit instructions.
const ALLOW: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

/// `union bpf_attr` of [`PROG_LOAD`], as far as it is used here.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The same of [`LINK_CREATE`].
#[repr(C)]
struct LinkCreate {
    prog_fd: i32,
    target_fd: i32,
    attach_type: u32,
    flags: u32,
}

/// The same of [`PROG_QUERY`].
#[repr(C)]
struct ProgQuery {
    target_fd: i32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    reserved: u32,
}

/// The same of [`PROG_GET_FD_BY_ID`].
#[repr(C)]
struct GetById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// A program for packets that arrive, and one for those that leave.
pub struct Programs([OwnedFd; 2]);

/// Attached programs; away when this is dropped.
pub struct Attached {
    _links: [OwnedFd; 2],
}

impl Programs {
    /// Loads two that only return 1.
    pub fn floor() -> io::Result<Self> {
        let load = |attach_type| {
            let mut program = ProgLoad {
                prog_type: CGROUP_SKB,
                insn_cnt: 2,
                insns: ALLOW.as_ptr() as u64,
                license: c"GPL".as_ptr() as u64,
                log_level: 0,
                log_size: 0,
                log_buf: 0,
                kern_version: 0,
                prog_flags: 0,
                prog_name: *b"bench_floor\0\0\0\0\0",
                prog_ifindex: 0,
                expected_attach_type: attach_type,
            };
            bpf(PROG_LOAD, &mut program).map(descriptor)
        };
        Ok(Self([load(INGRESS)?, load(EGRESS)?]))
    }

    /// Those that are attached to `cgroup`, if they are one of each.
    pub fn of(cgroup: BorrowedFd<'_>) -> io::Result<Self> {
        let get = |attach_type| match query(cgroup, attach_type)? {
            (1, id) => {
                let mut wanted = GetById {
                    id,
                    next_id: 0,
                    open_flags: 0,
                };
                bpf(PROG_GET_FD_BY_ID, &mut wanted).map(descriptor)
            }
            (count, _) => Err(io::Error::other(format!(
                "{count} programs are attached instead of one"
            ))),
        };
        Ok(Self([get(INGRESS)?, get(EGRESS)?]))
    }

    /// Attaches both to `cgroup`.
    pub fn attach(&self, cgroup: BorrowedFd<'_>) -> io::Result<Attached> {
        let Self([ingress, egress]) = self;
        let link = |program: &OwnedFd, attach_type| {
            let mut link = LinkCreate {
                prog_fd: program.as_raw_fd(),
                target_fd: cgroup.as_raw_fd(),
                attach_type,
                flags: 0,
            };
            bpf(LINK_CREATE, &mut link).map(descriptor)
        };
        Ok(Attached {
            _links: [link(ingress, INGRESS)?, link(egress, EGRESS)?],
        })
    }
}

/// How many programs look at packets that arrive at and that leave `cgroup`.
pub fn attached(cgroup: BorrowedFd<'_>) -> io::Result<[u32; 2]> {
    Ok([query(cgroup, INGRESS)?.0, query(cgroup, EGRESS)?.0])
}

/// How many programs are attached, and the id of the first.
fn query(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<(u32, u32)> {
    let mut ids = [0_u32; 64];
    let mut query = ProgQuery {
        target_fd: cgroup.as_raw_fd(),
        attach_type,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: 64,
        reserved: 0,
    };
    bpf(PROG_QUERY, &mut query)?;
    Ok((query.prog_cnt, ids[0]))
}

fn descriptor(raw: i32) -> OwnedFd {
    // SAFETY: the kernel has just made the descriptor for the caller, who keeps it only here.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: `attributes` is a live `repr(C)` value of the given size; addresses in it are those
    // of constants, or of the array that lives as long as the query and is as long as it says.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
