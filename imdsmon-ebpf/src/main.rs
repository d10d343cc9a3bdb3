//! The kernel side of imdsmon: programs that match IMDS traffic, copy it and submit the copy.
//!
//! Five programs at the cgroup v2 root. Each returns 1 (allow) on every path, changes no packet and
//! parses no HTTP. For a packet that is not IMDS, a program compares the address and returns: no
//! map, no helper.
//!
//! | program | hook | kernel |
//! | --- | --- | --- |
//! | `connect4`, `connect6` | `cgroup/connect4`, `cgroup/connect6` | 4.17 |
//! | `egress`, `ingress` | `cgroup_skb/egress`, `cgroup_skb/ingress` | 4.10 |
//! | `release` | `cgroup/sock_release` | 5.9 |
//!
//! The ring buffer and `bpf_ktime_get_boot_ns` need 5.8.
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

mod context;
mod kernel;
mod packet;
mod ring;
mod segment;
mod task;
mod verifier;

use aya_ebpf::{
    macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr},
    programs::{SkBuffContext, SockAddrContext, SockContext},
};
use imdsmon_common::{Family, IMDS_PORT, IMDS_V4, IMDS_V6};

use crate::context::field;

/// What every program returns: the kernel goes on.
const ALLOW: i32 = 1;
/// The type of a TCP socket, and of an MPTCP socket.
const SOCK_STREAM: u32 = 1;

/// An IPv4 address as contexts and packets hold it: network byte order in a native word.
const IMDS_V4_WORD: u32 = u32::from_ne_bytes(IMDS_V4);
/// An IPv6 address, likewise.
const IMDS_V6_WORDS: [u32; 4] = words(IMDS_V6);
/// The third word of `::ffff:a.b.c.d`.
const MAPPED_WORD: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);
/// The port as `bpf_sock_addr` holds it.
const IMDS_PORT_WORD: u32 = IMDS_PORT.to_be() as u32;

const fn words(b: [u8; 16]) -> [u32; 4] {
    [
        u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
        u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
        u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
    ]
}

/// The family of the packets if this destination of an IPv6 `connect` is IMDS.
#[inline(always)]
fn imds_family(address: [u32; 4]) -> Option<Family> {
    if address == IMDS_V6_WORDS {
        Some(Family::Inet6)
    } else if address == [0, 0, MAPPED_WORD, IMDS_V4_WORD] {
        Some(Family::Inet)
    } else {
        None
    }
}

/// A task connects an IPv4 socket.
#[cgroup_sock_addr(connect4)]
fn connect4(ctx: SockAddrContext) -> i32 {
    let sock = ctx.sock_addr;
    if field!(sock, user_ip4) == IMDS_V4_WORD
        && field!(sock, user_port) & 0xffff == IMDS_PORT_WORD
        && field!(sock, type_) == SOCK_STREAM
    {
        task::report_connect(&ctx, Family::Inet);
    }
    ALLOW
}

/// A task connects an IPv6 socket, possibly to an IPv4-mapped address.
#[cgroup_sock_addr(connect6)]
fn connect6(ctx: SockAddrContext) -> i32 {
    let sock = ctx.sock_addr;
    if field!(sock, user_port) & 0xffff == IMDS_PORT_WORD && field!(sock, type_) == SOCK_STREAM {
        let address = [
            field!(sock, user_ip6[0]),
            field!(sock, user_ip6[1]),
            field!(sock, user_ip6[2]),
            field!(sock, user_ip6[3]),
        ];
        if let Some(family) = imds_family(address) {
            task::report_connect(&ctx, family);
        }
    }
    ALLOW
}

/// A packet leaves a local socket.
#[cgroup_skb]
fn egress(ctx: SkBuffContext) -> i32 {
    if let Some(network) = packet::to_imds(&ctx) {
        segment::report_sent(&ctx, network);
    }
    ALLOW
}

/// A packet reaches a local socket.
#[cgroup_skb]
fn ingress(ctx: SkBuffContext) -> i32 {
    if let Some(network) = packet::from_imds(&ctx) {
        segment::report_received(&ctx, network);
    }
    ALLOW
}

/// The last descriptor of a socket is closed.
#[cgroup_sock(sock_release)]
fn release(ctx: SockContext) -> i32 {
    let sock = ctx.sock;
    // Older kernels declare 32 bits here, and accept a load of 16 bits all the same:
    // https://github.com/torvalds/linux/commit/4421a582718ab81608d8486734c18083b822390d
    if field!(sock, dst_port) != IMDS_PORT.to_be() {
        return ALLOW;
    }
    let family = if field!(sock, dst_ip4) == IMDS_V4_WORD {
        Family::Inet
    } else if [
        field!(sock, dst_ip6[0]),
        field!(sock, dst_ip6[1]),
        field!(sock, dst_ip6[2]),
        field!(sock, dst_ip6[3]),
    ] == IMDS_V6_WORDS
    {
        Family::Inet6
    } else {
        return ALLOW;
    };
    if field!(sock, type_) == SOCK_STREAM {
        task::report_release(&ctx, family);
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

/// The kernel gives its GPL-only helpers to programs under a compatible license only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
