//! Tells IMDS packets from all others.
//!
//! Every packet of the host takes this path, so it reads only the IP version and the words of one
//! address, by direct packet access: no map, no helper.

use aya_ebpf::programs::SkBuffContext;
use imdsmon_common::Family;

use crate::{IMDS_V4_WORD, IMDS_V6_WORDS, context::field};

const IPPROTO_TCP: u8 = 6;
/// IPv6 extension headers that may precede TCP: hop-by-hop options, routing, destination options.
const EXTENSION_HEADERS: [u8; 3] = [0, 43, 60];
/// Extension headers that are skipped; even one is unusual.
const MAX_EXTENSION_HEADERS: u32 = 4;

/// What the IP header says of a packet to or from IMDS.
#[derive(Clone, Copy)]
pub struct Network {
    /// 4 or 6. A [`Family`] would cost one instruction for each IPv6 packet of the host: the
    /// compiler would use its unused values for `None`.
    version: u8,
    /// Offset of the TCP header from the IP header, in bytes.
    pub tcp_offset: u32,
}

impl Network {
    #[inline(always)]
    pub fn family(self) -> Family {
        if self.version == 4 {
            Family::Inet
        } else {
            Family::Inet6
        }
    }
}

/// Offsets of an address in the IPv4 and in the IPv6 header.
struct AddressOffset {
    v4: usize,
    v6: usize,
}

/// Reads a TCP packet whose destination is IMDS.
#[inline(always)]
pub fn to_imds(ctx: &SkBuffContext) -> Option<Network> {
    network(ctx, &AddressOffset { v4: 16, v6: 24 })
}

/// Reads a TCP packet whose source is IMDS.
#[inline(always)]
pub fn from_imds(ctx: &SkBuffContext) -> Option<Network> {
    network(ctx, &AddressOffset { v4: 12, v6: 8 })
}

#[inline(always)]
fn network(ctx: &SkBuffContext, address: &AddressOffset) -> Option<Network> {
    let data = field!(ctx.skb.skb, data) as usize;
    let end = field!(ctx.skb.skb, data_end) as usize;
    if data + 20 > end {
        return None;
    }
    match load::<u8>(data) >> 4 {
        4 => (load::<u32>(data + address.v4) == IMDS_V4_WORD).then(|| v4(data))?,
        6 if data + 40 <= end => {
            // The last word differs most between addresses of one network.
            let address = data + address.v6;
            (load::<u32>(address + 12) == IMDS_V6_WORDS[3]
                && load::<u32>(address) == IMDS_V6_WORDS[0]
                && load::<u32>(address + 4) == IMDS_V6_WORDS[1]
                && load::<u32>(address + 8) == IMDS_V6_WORDS[2])
                .then(|| v6(ctx, data))?
        }
        _ => None,
    }
}

#[inline(always)]
fn v4(data: usize) -> Option<Network> {
    (load::<u8>(data + 9) == IPPROTO_TCP).then(|| Network {
        version: 4,
        tcp_offset: u32::from(load::<u8>(data) & 0xf) * 4,
    })
}

#[inline(always)]
fn v6(ctx: &SkBuffContext, data: usize) -> Option<Network> {
    let mut next_header = load::<u8>(data + 6);
    let mut network = Network {
        version: 6,
        tcp_offset: 40,
    };
    for _ in 0..MAX_EXTENSION_HEADERS {
        if next_header == IPPROTO_TCP {
            return Some(network);
        }
        if !EXTENSION_HEADERS.contains(&next_header) {
            return None;
        }
        let [next, len]: [u8; 2] = ctx.load(network.tcp_offset as usize).ok()?;
        next_header = next;
        network.tcp_offset += (u32::from(len) + 1) * 8;
    }
    (next_header == IPPROTO_TCP).then_some(network)
}

/// Reads packet memory that the caller has compared with `data_end`.
#[inline(always)]
fn load<T: Copy>(at: usize) -> T {
    // SAFETY: the verifier rejects the program unless `at` was compared with `data_end`; the
    // network stack keeps the headers aligned for their words.
    unsafe { (at as *const T).read() }
}
