//! Is this packet IMDS? The path every packet of the host takes: addresses first, by direct
//! packet access, and away.

use aya_ebpf::programs::SkBuffContext;

use crate::{V4, V6, field};

const TCP: u8 = 6;
/// IPv6 extension headers that may stand before TCP: hop-by-hop, routing, destination options.
const EXTENSIONS: [u8; 3] = [0, 43, 60];
/// Extension headers that are skipped at most; one would be unusual.
const EXTENSIONS_MAX: u32 = 4;

/// What the IP header says of a packet to or from IMDS.
#[derive(Clone, Copy)]
pub struct Network {
    /// 4 or 6.
    pub ip: u32,
    /// Where TCP begins, in bytes from the IP header.
    pub transport: u32,
}

/// Where the address to compare stands in the IPv4 and in the IPv6 header.
struct Side {
    v4: usize,
    v6: usize,
}

/// A TCP packet whose destination is IMDS.
#[inline(always)]
pub fn to_imds(ctx: &SkBuffContext) -> Option<Network> {
    imds(ctx, &Side { v4: 16, v6: 24 })
}

/// A TCP packet whose source is IMDS.
#[inline(always)]
pub fn from_imds(ctx: &SkBuffContext) -> Option<Network> {
    imds(ctx, &Side { v4: 12, v6: 8 })
}

#[inline(always)]
fn imds(ctx: &SkBuffContext, side: &Side) -> Option<Network> {
    let data = field!(ctx.skb.skb, data) as usize;
    let end = field!(ctx.skb.skb, data_end) as usize;
    if data + 20 > end {
        return None;
    }
    match load::<u8>(data) >> 4 {
        4 => (load::<u32>(data + side.v4) == V4).then(|| v4(data))?,
        6 if data + 40 <= end => {
            // The last word differs most between addresses of one network.
            let address = data + side.v6;
            (load::<u32>(address + 12) == V6[3]
                && load::<u32>(address) == V6[0]
                && load::<u32>(address + 4) == V6[1]
                && load::<u32>(address + 8) == V6[2])
                .then(|| v6(ctx, data))?
        }
        _ => None,
    }
}

#[inline(always)]
fn v4(data: usize) -> Option<Network> {
    (load::<u8>(data + 9) == TCP).then(|| Network {
        ip: 4,
        transport: u32::from(load::<u8>(data) & 0xf) * 4,
    })
}

#[inline(always)]
fn v6(ctx: &SkBuffContext, data: usize) -> Option<Network> {
    let mut next = load::<u8>(data + 6);
    let mut transport = 40;
    for _ in 0..EXTENSIONS_MAX {
        if next == TCP {
            return Some(Network { ip: 6, transport });
        }
        if !EXTENSIONS.contains(&next) {
            return None;
        }
        let [after, len]: [u8; 2] = ctx.load(transport as usize).ok()?;
        next = after;
        transport += (u32::from(len) + 1) * 8;
    }
    (next == TCP).then_some(Network { ip: 6, transport })
}

/// Reads packet memory that the caller has compared with `data_end`.
#[inline(always)]
fn load<T: Copy>(at: usize) -> T {
    // SAFETY: the verifier refuses the program unless `at` was checked against `data_end`; the
    // packet's headers are aligned for their words as the network stack keeps them.
    unsafe { (at as *const T).read() }
}
