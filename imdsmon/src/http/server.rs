//! The server's half of a connection: which bytes came, and which are missing.
//!
//! Bytes are missing because a record was lost, or because others have overtaken them. Only one
//! hole is remembered, the latest: more than that is a loss, not a detour.

use super::stream::is_before;

/// Where a segment stands in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Its first byte had come before.
    Seen,
    /// Nothing is missing before it that was not missing before, or nothing is known of what came
    /// before it.
    Next,
    /// Bytes are missing before it.
    BeyondHole,
    /// It continues what came before the hole.
    AtHole,
}

/// Sequence numbers of what came.
#[derive(Debug, Default)]
pub(super) struct ServerBytes {
    /// Behind the last byte that came.
    next: Option<u32>,
    /// The bytes that are missing: from, to.
    hole: Option<(u32, u32)>,
}

impl ServerBytes {
    /// A segment came, from `seq` up to `stop`. `is_head`: a response begins with it.
    pub(super) fn arrive(&mut self, seq: u32, stop: u32, is_head: bool) -> Place {
        let Some(next) = self.next else {
            if !is_head {
                // No response begins here, so that what is before it may still come.
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

    /// Whether bytes are missing.
    pub(super) fn has_hole(&self) -> bool {
        self.hole.is_some()
    }

    /// Whether bytes are missing before `seq`, which has just come or is about to.
    pub(super) fn is_missing_before(&self, seq: u32) -> bool {
        self.has_hole() || self.next.is_some_and(|next| is_before(next, seq))
    }
}
