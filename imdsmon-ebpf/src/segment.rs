//! Reports TCP segments to and from IMDS: requests whole, of responses only the head.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_socket_cookie, bpf_skb_load_bytes},
    programs::SkBuffContext,
};
use imdsmon_common::{
    Counter, IMDS_PORT, LARGE_PAYLOAD_LEN, MAX_CHUNKS, RESPONSE_HEAD_LEN, RecordType,
    SMALL_PAYLOAD_LEN, Segment, SegmentRecord, tcp_flag,
};

use crate::{
    context::field,
    packet::Network,
    ring, task,
    verifier::{at_most, mask_if_not_zero},
};

/// Flags that are reported even for a segment without payload.
const CONTROL_FLAGS: u8 = tcp_flag::FIN | tcp_flag::SYN | tcp_flag::RST;
const REPORTED_FLAGS: u8 = CONTROL_FLAGS | tcp_flag::URG;

/// What the TCP header says, and where the payload is.
#[derive(Clone, Copy)]
struct Transport {
    source: u16,
    destination: u16,
    seq: u32,
    flags: u8,
    /// Offset of the payload from the IP header, in bytes.
    payload: u32,
    /// Bytes of the payload.
    len: u32,
}

#[inline(always)]
fn transport(ctx: &SkBuffContext, network: Network) -> Option<Transport> {
    let tcp: [u8; 20] = ctx.load(network.tcp_offset as usize).ok()?;
    let flags = tcp[13];
    let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    let payload = network.tcp_offset + u32::from(tcp[12] >> 4) * 4;
    let len = field!(ctx.skb.skb, len);
    Some(Transport {
        source: u16::from_be_bytes([tcp[0], tcp[1]]),
        destination: u16::from_be_bytes([tcp[2], tcp[3]]),
        // A SYN takes one sequence number; its payload (TCP Fast Open) follows.
        seq: if flags & tcp_flag::SYN == 0 {
            seq
        } else {
            seq.wrapping_add(1)
        },
        flags: flags & REPORTED_FLAGS,
        payload,
        len: len.checked_sub(payload)?,
    })
}

#[inline(always)]
fn cookie(ctx: &SkBuffContext) -> u64 {
    // SAFETY: the kernel passed this context.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// Reports a segment to IMDS, and its sender before it if that is new to the connection.
#[inline(always)]
pub fn report_sent(ctx: &SkBuffContext, network: Network) {
    let Some(tcp) = transport(ctx, network) else {
        return;
    };
    if tcp.destination != IMDS_PORT || (tcp.len == 0 && tcp.flags & CONTROL_FLAGS == 0) {
        return;
    }
    let cookie = cookie(ctx);
    let sender = if tcp.len == 0 {
        0
    } else {
        task::report_sender(ctx, network.family(), cookie)
    };
    let mut segment = Segment {
        header: ring::header(RecordType::Sent, network.family(), cookie),
        seq: tcp.seq,
        len: tcp.len,
        captured: 0,
        sender,
        flags: tcp.flags,
        reserved: [0; 7],
    };
    if tcp.len == 0 {
        without_payload(ctx, segment);
        return;
    }
    ring::count(Counter::Segments, 1);
    if tcp.len <= SMALL_PAYLOAD_LEN as u32 {
        with_payload::<SMALL_PAYLOAD_LEN>(ctx, segment, tcp.payload);
        return;
    }
    let mut payload = tcp.payload;
    for chunk in 1..=MAX_CHUNKS {
        let left = segment.len;
        if left > LARGE_PAYLOAD_LEN as u32 && chunk < MAX_CHUNKS {
            segment.len = LARGE_PAYLOAD_LEN as u32;
        }
        with_payload::<LARGE_PAYLOAD_LEN>(ctx, segment, payload);
        if left <= LARGE_PAYLOAD_LEN as u32 {
            return;
        }
        segment.flags &= !tcp_flag::SYN;
        segment.seq = segment.seq.wrapping_add(LARGE_PAYLOAD_LEN as u32);
        segment.len = left - LARGE_PAYLOAD_LEN as u32;
        payload += LARGE_PAYLOAD_LEN as u32;
    }
    ring::count(Counter::Truncated, u64::from(segment.len));
}

/// Reports a segment from IMDS.
#[inline(always)]
pub fn report_received(ctx: &SkBuffContext, network: Network) {
    let Some(tcp) = transport(ctx, network) else {
        return;
    };
    let flags = tcp.flags & (tcp_flag::FIN | tcp_flag::RST);
    if tcp.source != IMDS_PORT || (tcp.len == 0 && flags == 0) {
        return;
    }
    let segment = Segment {
        header: ring::header(RecordType::Received, network.family(), cookie(ctx)),
        seq: tcp.seq,
        len: tcp.len,
        captured: 0,
        sender: 0,
        flags,
        reserved: [0; 7],
    };
    if tcp.len != 0 {
        ring::count(Counter::Segments, 1);
    }
    let start: [u8; 5] = ctx.load(tcp.payload as usize).unwrap_or_default();
    if tcp.len >= 5 && start == *b"HTTP/" {
        with_response_head(ctx, segment, tcp.payload);
    } else {
        without_payload(ctx, segment);
    }
}

#[inline(always)]
fn without_payload(ctx: &SkBuffContext, segment: Segment) {
    if let Some(mut record) = ring::reserve::<Segment>(ctx) {
        *record = segment;
        record.submit();
    }
}

/// Reports the first `N` payload bytes.
#[inline(always)]
fn with_payload<const N: usize>(ctx: &SkBuffContext, segment: Segment, payload: u32) {
    if let Some(mut record) = ring::reserve::<SegmentRecord<N>>(ctx) {
        record.segment = segment;
        record.segment.captured = load(ctx, payload, &mut record.bytes, segment.len);
        record.submit();
    }
}

/// Reports a response head. No byte of the body leaves the kernel.
#[inline(always)]
fn with_response_head(ctx: &SkBuffContext, segment: Segment, payload: u32) {
    if let Some(mut record) = ring::reserve::<SegmentRecord<RESPONSE_HEAD_LEN>>(ctx) {
        record.segment = segment;
        record.segment.captured = load(ctx, payload, &mut record.bytes, segment.len);
        blank_body(&mut record.bytes);
        record.submit();
    }
}

/// Overwrites what follows the first blank line (ended by CRLF or LF) with zeros.
#[inline(always)]
fn blank_body(bytes: &mut [u8; RESPONSE_HEAD_LEN]) {
    /// Bytes per round: at the end of each round the verifier compares its state with those of all
    /// rounds before.
    const ROUND: usize = 8;
    let mut last_bytes = 0u32;
    let mut keep = u32::MAX;
    for round in bytes.as_chunks_mut::<ROUND>().0 {
        for byte in round {
            let at = &raw mut *byte;
            // SAFETY: `at` points to a byte of `bytes`. Volatile, so that the compiler keeps the
            // loop as it is.
            let byte = unsafe { at.read_volatile() };
            // SAFETY: as above.
            unsafe { at.write_volatile(byte & keep as u8) };
            last_bytes = (last_bytes << 8) | u32::from(byte);
            keep &= mask_if_not_zero((last_bytes & 0xff_ffff) ^ 0x0a_0d_0a)
                & mask_if_not_zero((last_bytes & 0xffff) ^ 0x0a_0a);
        }
    }
}

/// Copies up to `N` payload bytes to `bytes` and gives their number. `len` must not be 0.
#[inline(always)]
fn load<const N: usize>(ctx: &SkBuffContext, from: u32, bytes: &mut [u8; N], len: u32) -> u32 {
    let n = at_most::<N>(len);
    // SAFETY: `n` is at most `N`.
    let error = unsafe { bpf_skb_load_bytes(ctx.as_ptr(), from, bytes.as_mut_ptr().cast(), n) };
    // No branch: the verifier would follow the loop of `blank_body` once for each way.
    n & !mask_if_not_zero(error.cast_unsigned() as u32)
}
