//! Copies what imdsmon needs of a TCP segment: requests whole, of responses the head only.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_socket_cookie, bpf_skb_load_bytes},
    programs::SkBuffContext,
};
use imdsmon_common::{
    CHUNKS, HEAD, IMDS_PORT, LARGE, SMALL, Segment, SegmentRecord, counter, flag, kind,
};

use crate::{field, packet::Network, ring, task};

/// Flags that say something about the connection even without payload.
const CONTROL: u8 = flag::FIN | flag::SYN | flag::RST;
/// Flags that are handed over.
const KEPT: u8 = CONTROL | flag::URG;

/// What the TCP header says, and where the payload is.
#[derive(Clone, Copy)]
struct Transport {
    source: u16,
    destination: u16,
    seq: u32,
    flags: u8,
    /// Where the payload begins, in bytes from the IP header.
    payload: u32,
    /// Payload bytes.
    len: u32,
}

#[inline(always)]
fn transport(ctx: &SkBuffContext, network: Network) -> Option<Transport> {
    let tcp: [u8; 20] = ctx.load(network.transport as usize).ok()?;
    let flags = tcp[13];
    let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    let payload = network.transport + u32::from(tcp[12] >> 4) * 4;
    let len = field!(ctx.skb.skb, len);
    Some(Transport {
        source: u16::from_be_bytes([tcp[0], tcp[1]]),
        destination: u16::from_be_bytes([tcp[2], tcp[3]]),
        // A SYN takes a number of its own; what rides in it (TCP Fast Open) comes after.
        seq: if flags & flag::SYN == 0 {
            seq
        } else {
            seq.wrapping_add(1)
        },
        flags: flags & KEPT,
        payload,
        len: len.checked_sub(payload)?,
    })
}

#[inline(always)]
fn cookie(ctx: &SkBuffContext) -> u64 {
    // SAFETY: the context is the one the kernel handed over.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// A packet to IMDS.
#[inline(always)]
pub fn sent(ctx: &SkBuffContext, network: Network) {
    let Some(tcp) = transport(ctx, network) else {
        return;
    };
    if tcp.destination != IMDS_PORT || (tcp.len == 0 && tcp.flags & CONTROL == 0) {
        return;
    }
    let cookie = cookie(ctx);
    let sender = if tcp.len == 0 {
        0
    } else {
        task::sends(ctx, network.ip, cookie)
    };
    let mut segment = Segment {
        header: ring::header(kind::SENT, network.ip, cookie),
        seq: tcp.seq,
        len: tcp.len,
        captured: 0,
        sender,
        flags: tcp.flags,
        reserved: [0; 7],
    };
    if tcp.len == 0 {
        bare(ctx, segment);
        return;
    }
    ring::count(counter::SEEN, 1);
    if tcp.len <= SMALL as u32 {
        copy::<SMALL>(ctx, segment, tcp.payload);
        return;
    }
    let mut at = tcp.payload;
    for chunk in 1..=CHUNKS {
        let left = segment.len;
        if left > LARGE as u32 && chunk < CHUNKS {
            segment.len = LARGE as u32;
        }
        copy::<LARGE>(ctx, segment, at);
        if left <= LARGE as u32 {
            return;
        }
        segment.flags &= !flag::SYN;
        segment.seq = segment.seq.wrapping_add(LARGE as u32);
        segment.len = left - LARGE as u32;
        at += LARGE as u32;
    }
    ring::count(counter::CUT, u64::from(segment.len));
}

/// A packet from IMDS.
#[inline(always)]
pub fn received(ctx: &SkBuffContext, network: Network) {
    let Some(tcp) = transport(ctx, network) else {
        return;
    };
    let flags = tcp.flags & (flag::FIN | flag::RST);
    if tcp.source != IMDS_PORT || (tcp.len == 0 && flags == 0) {
        return;
    }
    let segment = Segment {
        header: ring::header(kind::RECEIVED, network.ip, cookie(ctx)),
        seq: tcp.seq,
        len: tcp.len,
        captured: 0,
        sender: 0,
        flags,
        reserved: [0; 7],
    };
    if tcp.len != 0 {
        ring::count(counter::SEEN, 1);
    }
    let begin: [u8; 5] = ctx.load(tcp.payload as usize).unwrap_or_default();
    if tcp.len >= 5 && begin == *b"HTTP/" {
        head(ctx, segment, tcp.payload);
    } else {
        bare(ctx, segment);
    }
}

/// A record without payload.
#[inline(always)]
fn bare(ctx: &SkBuffContext, segment: Segment) {
    if let Some(mut entry) = ring::reserve::<Segment>(ctx) {
        entry.write(segment);
        ring::submit(entry);
    }
}

/// A record with the first `N` payload bytes.
#[inline(always)]
fn copy<const N: usize>(ctx: &SkBuffContext, mut segment: Segment, payload: u32) {
    let Some(mut entry) = ring::reserve::<SegmentRecord<N>>(ctx) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: `record` points to a reservation of its size.
    unsafe {
        let bytes = (&raw mut (*record).bytes).cast();
        segment.captured = load(ctx, payload, bytes, segment.len, N as u32);
        (&raw mut (*record).segment).write(segment);
    }
    ring::submit(entry);
}

/// A record with a response's head. What follows the head is blanked here: no byte of a body
/// leaves the kernel.
#[inline(always)]
fn head(ctx: &SkBuffContext, mut segment: Segment, payload: u32) {
    let Some(mut entry) = ring::reserve::<SegmentRecord<HEAD>>(ctx) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: `record` points to a reservation of its size.
    unsafe {
        let bytes = (&raw mut (*record).bytes).cast::<u8>();
        segment.captured = load(ctx, payload, bytes.cast(), segment.len, HEAD as u32);
        (&raw mut (*record).segment).write(segment);
        blank_body(bytes);
    }
    ring::submit(entry);
}

/// Overwrites what follows the first blank line (CRLF or bare LF) with zeros.
///
/// # Safety
///
/// `bytes` must point to [`HEAD`] bytes.
#[inline(always)]
unsafe fn blank_body(bytes: *mut u8) {
    let mut window = 0u32;
    let mut keep = u32::MAX;
    let mut step = |i: usize| {
        // SAFETY: `i` is below `HEAD`, and the reservation is readable and writable.
        unsafe {
            let at = bytes.add(i);
            let byte = at.read_volatile();
            at.write_volatile(byte & keep as u8);
            window = (window << 8) | u32::from(byte);
        }
        keep &= differs((window & 0xff_ffff) ^ 0x0a_0d_0a) & differs((window & 0xffff) ^ 0x0a_0a);
    };
    // Eight a round: the verifier compares what it knows at each round with all rounds before.
    for i in 0..HEAD / 8 {
        let i = i * 8;
        step(i);
        step(i + 1);
        step(i + 2);
        step(i + 3);
        step(i + 4);
        step(i + 5);
        step(i + 6);
        step(i + 7);
    }
}

/// All bits if a number is not 0, else none. Arithmetic and no branch: the verifier follows both
/// ways of each branch in each of the 512 rounds.
#[inline(always)]
fn differs(number: u32) -> u32 {
    let mut number = u64::from(number);
    // In assembly, because the compiler would make it a branch.
    #[cfg(target_arch = "bpf")]
    // SAFETY: only zero borrows from the top bit, which is then moved to the lowest; nothing but
    // this register is touched.
    unsafe {
        core::arch::asm!(
            "{n} += -1",
            "{n} >>= 63",
            n = inout(reg) number,
            options(pure, nomem, nostack)
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        number = number.wrapping_sub(1) >> 63;
    }
    (number as u32).wrapping_sub(1)
}

/// Copies `min(len, max)` payload bytes and gives their number. `max` is a power of two, and
/// `len` is not 0.
///
/// # Safety
///
/// `to` must point to `max` writable bytes.
#[inline(always)]
unsafe fn load(
    ctx: &SkBuffContext,
    from: u32,
    to: *mut core::ffi::c_void,
    len: u32,
    max: u32,
) -> u32 {
    let wanted = if len < max { len } else { max };
    // Verifiers up to 6.1 do not learn from comparisons with zero; the mask tells them.
    let n = ((wanted.wrapping_sub(1)) & (max - 1)) + 1;
    // SAFETY: `n` is at most `max`.
    if unsafe { bpf_skb_load_bytes(ctx.as_ptr(), from, to, n) } == 0 {
        n
    } else {
        0
    }
}
