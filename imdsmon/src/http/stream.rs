//! TCP reassembly of the client's segments: each byte comes out once and in order.
//!
//! Segments are captured as they leave the host, so they are nearly always in order, except for
//! retransmissions and after segments that were not captured. A segment after a hole is held until
//! the missing bytes arrive or are given up.

use super::reader::Origin;

/// Approximate overhead of a held segment, in bytes.
const PIECE_COST: usize = 64;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum StreamChunk<'a> {
    Bytes(&'a [u8], Origin),
    /// Bytes that were sent but not captured.
    Gap(u64),
}

#[derive(Debug)]
struct Piece {
    seq: u32,
    /// Bytes on the wire, at least those in `bytes`.
    len: u32,
    bytes: Vec<u8>,
    at: Origin,
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Stream {
    /// Sequence number of the next byte to hand out.
    next: u32,
    /// Segments after a hole, by sequence number.
    held: Vec<Piece>,
    held_bytes: usize,
    limit: usize,
}

impl Stream {
    /// A stream that starts with the byte `next` and holds about `limit` bytes at most.
    pub(super) fn new(next: u32, limit: usize) -> Self {
        Self {
            next,
            held: Vec::new(),
            held_bytes: 0,
            limit,
        }
    }

    /// Adds a segment of `len` bytes, of which `bytes` were captured. Returns the number of
    /// retransmitted bytes.
    pub(super) fn push(
        &mut self,
        seq: u32,
        len: u32,
        bytes: &[u8],
        at: Origin,
        out: &mut dyn FnMut(StreamChunk<'_>),
    ) -> u32 {
        let len = len.max(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        if len == 0 {
            return 0;
        }
        if is_before(self.next, seq) {
            self.hold(Piece {
                seq,
                len,
                bytes: bytes.to_vec(),
                at,
            });
            while self.held_bytes > self.limit {
                self.skip_hole(out);
            }
            return 0;
        }
        let seen = self.pass(seq, len, bytes, at, out);
        self.release(out);
        seen
    }

    /// Gives up the missing bytes before the first held segment.
    pub(super) fn skip_hole(&mut self, out: &mut dyn FnMut(StreamChunk<'_>)) {
        let Some(first) = self.held.first() else {
            return;
        };
        out(StreamChunk::Gap(u64::from(
            first.seq.wrapping_sub(self.next),
        )));
        self.next = first.seq;
        self.release(out);
    }

    pub(super) fn has_hole(&self) -> bool {
        !self.held.is_empty()
    }

    /// Sequence number of the next byte to hand out.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Bytes of memory of the held segments.
    pub(super) fn footprint(&self) -> usize {
        self.held_bytes
    }

    /// Hands out the new bytes of a segment that starts at or before `next`.
    fn pass(
        &mut self,
        seq: u32,
        len: u32,
        bytes: &[u8],
        at: Origin,
        out: &mut dyn FnMut(StreamChunk<'_>),
    ) -> u32 {
        let seen = self.next.wrapping_sub(seq).min(len);
        let skip = usize::try_from(seen).unwrap_or(usize::MAX).min(bytes.len());
        let new = &bytes[skip..];
        if !new.is_empty() {
            out(StreamChunk::Bytes(new, at));
        }
        let captured = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let missing = len - seen.max(captured).min(len);
        if missing > 0 {
            out(StreamChunk::Gap(u64::from(missing)));
        }
        self.next = self.next.wrapping_add(len - seen);
        seen
    }

    fn hold(&mut self, piece: Piece) {
        let distance = |p: &Piece| p.seq.wrapping_sub(self.next);
        let place = self
            .held
            .partition_point(|p| distance(p) <= distance(&piece));
        self.held_bytes += piece.bytes.len() + PIECE_COST;
        self.held.insert(place, piece);
    }

    /// Hands out held segments that are no longer after a hole.
    fn release(&mut self, out: &mut dyn FnMut(StreamChunk<'_>)) {
        loop {
            let ready = self
                .held
                .iter()
                .take_while(|piece| !is_before(self.next, piece.seq))
                .count();
            if ready == 0 {
                return;
            }
            let behind = self.held.split_off(ready);
            // These may close the hole before others.
            for piece in std::mem::replace(&mut self.held, behind) {
                self.held_bytes -= piece.bytes.len() + PIECE_COST;
                self.pass(piece.seq, piece.len, &piece.bytes, piece.at, out);
            }
        }
    }
}

/// Whether `a` is before `b`, modulo 2^32 (RFC 9293, 3.4).
pub(super) fn is_before(a: u32, b: u32) -> bool {
    let distance = b.wrapping_sub(a);
    distance != 0 && distance < 1 << 31
}
