//! The kernel side of imdsmon: match, copy, submit.
//!
//! Five programs at the cgroup v2 root. Every one returns 1 (allow) on every path, changes no
//! packet, and knows nothing of HTTP or of processes' names. What is not IMDS leaves after a
//! look at the address: no map, no helper.
//!
//! | program | hook | kernel |
//! | --- | --- | --- |
//! | `connect4`, `connect6` | `cgroup/connect4`, `cgroup/connect6` | 4.17 |
//! | `egress`, `ingress` | `cgroup_skb/egress`, `cgroup_skb/ingress` | 4.10 |
//! | `release` | `cgroup/sock_release` | 5.9 |
//!
//! The ring buffer wants 5.8, and `bpf_ktime_get_boot_ns` 5.8.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![cfg_attr(
    not(target_arch = "bpf"),
    expect(
        dead_code,
        reason = "on the host this crate is only checked and linted"
    )
)]
#![expect(
    clippy::inline_always,
    reason = "a call between BPF functions loses what the verifier knows of the context"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the signature that aya's macros call"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "helpers give two 32-bit numbers in 64 bits, and the sizes are small constants"
)]

mod capture;
mod packet;
mod ring;
mod task;

use aya_ebpf::{
    macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr},
    programs::{SkBuffContext, SockAddrContext, SockContext},
};
use imdsmon_common::{IMDS_PORT, IMDS_V4, IMDS_V6};

/// Every program's answer: the kernel goes on as if we were not there.
const ALLOW: i32 = 1;
/// `SOCK_STREAM`; an MPTCP socket is one too.
const STREAM: u32 = 1;

/// An IPv4 address as the kernel's contexts hold it: network order in a native word.
const V4: u32 = u32::from_ne_bytes(IMDS_V4);
/// An IPv6 address in the same way.
const V6: [u32; 4] = words(IMDS_V6);
/// The third word of `::ffff:a.b.c.d`.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);
/// The port as the kernel's contexts hold it.
const PORT: u32 = IMDS_PORT.to_be() as u32;

const fn words(b: [u8; 16]) -> [u32; 4] {
    [
        u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
        u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
        u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
    ]
}

/// A context field, read where it is: the verifier knows fields, not copies of the struct.
macro_rules! field {
    ($context:expr, $($path:tt)+) => {{
        // SAFETY: the kernel hands a valid context to every program; the verifier checks the
        // offset and the size of the load.
        unsafe { core::ptr::read_volatile(&raw const (*$context).$($path)+) }
    }};
}
use field;

/// Is the destination of this IPv6 `connect` IMDS, natively or IPv4-mapped? Gives the version
/// of IP that will be on the wire.
#[inline(always)]
fn connect6_ip(address: [u32; 4]) -> Option<u32> {
    if address == V6 {
        Some(6)
    } else if address == [0, 0, MAPPED, V4] {
        Some(4)
    } else {
        None
    }
}

/// A task connects an IPv4 socket.
#[cgroup_sock_addr(connect4)]
fn connect4(ctx: SockAddrContext) -> i32 {
    let sock = ctx.sock_addr;
    if field!(sock, user_ip4) == V4
        && field!(sock, user_port) & 0xffff == PORT
        && field!(sock, type_) == STREAM
    {
        task::connects(&ctx, 4);
    }
    ALLOW
}

/// A task connects an IPv6 socket, perhaps to an IPv4-mapped address.
#[cgroup_sock_addr(connect6)]
fn connect6(ctx: SockAddrContext) -> i32 {
    let sock = ctx.sock_addr;
    if field!(sock, user_port) & 0xffff == PORT && field!(sock, type_) == STREAM {
        let address = [
            field!(sock, user_ip6[0]),
            field!(sock, user_ip6[1]),
            field!(sock, user_ip6[2]),
            field!(sock, user_ip6[3]),
        ];
        if let Some(ip) = connect6_ip(address) {
            task::connects(&ctx, ip);
        }
    }
    ALLOW
}

/// A packet leaves a local socket.
#[cgroup_skb]
fn egress(ctx: SkBuffContext) -> i32 {
    if let Some(network) = packet::to_imds(&ctx) {
        capture::sent(&ctx, network);
    }
    ALLOW
}

/// A packet reaches a local socket.
#[cgroup_skb]
fn ingress(ctx: SkBuffContext) -> i32 {
    if let Some(network) = packet::from_imds(&ctx) {
        capture::received(&ctx, network);
    }
    ALLOW
}

/// The last descriptor of a socket is closed.
#[cgroup_sock(sock_release)]
fn release(ctx: SockContext) -> i32 {
    let sock = ctx.sock;
    // Older kernels have a 32-bit port here and refuse a narrower load.
    #[expect(
        clippy::cast_ptr_alignment,
        reason = "the kernel's field is 32 bits wide and aligned"
    )]
    // SAFETY: as in `field!`; the two bytes behind `dst_port` belong to the context.
    let port = unsafe { (&raw const (*sock).dst_port).cast::<u32>().read_volatile() };
    if port & 0xffff != PORT {
        return ALLOW;
    }
    let ip = if field!(sock, dst_ip4) == V4 {
        4
    } else if [
        field!(sock, dst_ip6[0]),
        field!(sock, dst_ip6[1]),
        field!(sock, dst_ip6[2]),
        field!(sock, dst_ip6[3]),
    ] == V6
    {
        6
    } else {
        return ALLOW;
    };
    if field!(sock, type_) == STREAM {
        task::releases(&ctx, ip);
    }
    ALLOW
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lends its GPL-only helpers to programs under a compatible license.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
