//! Tracks which bytes of the server arrived, and which are missing.
//!
//! Bytes are missing because a record was dropped or segments arrived out of order. Only the latest
//! hole is kept: reordering leaves no more than one.

use super::stream::is_before;

/// The place of a segment in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Its first byte had arrived before.
    Seen,
    /// It adds no missing bytes, or it is the first.
    Next,
    /// Bytes are missing before it.
    BeyondHole,
    /// It starts where the hole starts.
    AtHole,
}

#[derive(Debug, Default)]
pub(super) struct ServerBytes {
    /// After the last byte that arrived.
    next: Option<u32>,
    /// The missing bytes: first, and after the last.
    hole: Option<(u32, u32)>,
}

impl ServerBytes {
    /// Adds a segment from `seq` up to `stop`. `is_head`: a response starts with it.
    pub(super) fn arrive(&mut self, seq: u32, stop: u32, is_head: bool) -> Place {
        let Some(next) = self.next else {
            if !is_head {
                // No response starts here: bytes before it may still arrive.
                self.hole = Some((seq.wrapping_sub(1 << 30), seq));
            }
            self.next = Some(stop);
            return Place::Next;
        };
        if is_before(next, seq) {
            self.hole = Some((next, seq));
            self.next = Some(stop);
            return Place::BeyondHole;
        }
        if next == seq {
            self.next = Some(stop);
            return Place::Next;
        }
        if is_before(next, stop) {
            self.next = Some(stop);
        }
        let filled = self
            .hole
            .take_if(|(from, to)| !is_before(seq, *from) && is_before(seq, *to));
        let Some((from, to)) = filled else {
            return Place::Seen;
        };
        if is_before(stop, to) {
            self.hole = Some((stop, to));
        }
        if seq == from {
            Place::AtHole
        } else {
            Place::Next
        }
    }

    pub(super) fn has_hole(&self) -> bool {
        self.hole.is_some()
    }

    /// Whether bytes are missing before `seq`.
    pub(super) fn is_missing_before(&self, seq: u32) -> bool {
        self.has_hole() || self.next.is_some_and(|next| is_before(next, seq))
    }
}
