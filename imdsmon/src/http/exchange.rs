//! Requests that wait for their answers, and the server's half of a connection.
//!
//! HTTP/1 answers in order, so the next response belongs to the request that waits longest.
//! A request whose wait was given up still owes the connection a response: when it comes after
//! all it must not be taken for the next request's.

use std::collections::VecDeque;

use super::Counters;
use super::call::{Call, Finding, Outcome};
use super::response::Response;
use super::stream::is_before;

use crate::capture::event::{Received, UnixNanos};

/// A request that waits.
#[derive(Debug)]
struct Waiting {
    /// When its head was complete.
    since: UnixNanos,
    call: Box<Call>,
}

impl Waiting {
    fn footprint(&self) -> usize {
        let Call {
            method,
            path,
            query,
            user_agent,
            ..
        } = &*self.call;
        size_of::<Self>()
            + size_of::<Call>()
            + method.len()
            + path.len()
            + query.as_ref().map_or(0, String::len)
            + user_agent.as_ref().map_or(0, String::len)
    }
}

/// The exchange of requests and responses on a connection.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    waiting: VecDeque<Waiting>,
    footprint: usize,
    /// Responses still to come for requests that were given up.
    owed: u32,
    /// Sequence number behind the last byte that came.
    next: Option<u32>,
    /// Bytes that others have overtaken: from, to.
    hole: Option<(u32, u32)>,
    /// Where the current response ends, if that is known.
    end: Option<u32>,
}

impl Exchange {
    /// A request is complete.
    pub(super) fn request(&mut self, call: Box<Call>, since: UnixNanos) {
        let waiting = Waiting { since, call };
        self.footprint += waiting.footprint();
        self.waiting.push_back(waiting);
    }

    /// How many requests wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Since when the first of them does.
    pub(super) fn since(&self) -> Option<UnixNanos> {
        self.waiting.front().map(|w| w.since)
    }

    /// Bytes of memory that the waiting requests take.
    pub(super) fn footprint(&self) -> usize {
        self.footprint
    }

    /// The request that waits longest comes out without an answer.
    pub(super) fn give_up_first(&mut self, out: &mut Vec<Finding>, counters: &mut Counters) {
        if let Some(call) = self.take() {
            self.owed = self.owed.saturating_add(1);
            counters.calls += 1;
            out.push(Finding::Call(call));
        }
    }

    /// All requests that wait come out without an answer.
    pub(super) fn give_up(&mut self, out: &mut Vec<Finding>, counters: &mut Counters) {
        while !self.waiting.is_empty() {
            self.give_up_first(out, counters);
        }
        self.waiting = VecDeque::new();
    }

    /// A segment came from the server.
    pub(super) fn received(
        &mut self,
        segment: &Received,
        out: &mut Vec<Finding>,
        counters: &mut Counters,
    ) {
        if segment.len == 0 && segment.head.is_empty() {
            return;
        }
        let captured = u32::try_from(segment.head.len()).unwrap_or(u32::MAX);
        let stop = segment.seq.wrapping_add(segment.len.max(captured));
        if self.next.is_none() && segment.head.is_empty() {
            // No response begins here, so that what is before it may still come.
            self.hole = Some((segment.seq.wrapping_sub(1 << 30), segment.seq));
        }
        let new = self.advance(segment.seq, stop);
        let in_body = self.end.is_some_and(|end| is_before(segment.seq, end));
        if new && !segment.head.is_empty() && !in_body {
            self.end = None;
            self.heads(segment, out, counters);
        } else if new && self.end.is_none() && self.first_is_http_09() {
            // Such an answer has no head: its first byte is the answer.
            self.answer(Response::default(), segment, out, counters);
        }
        if let Some(end) = self.end
            && is_before(end, stop)
        {
            // A response that begins within a segment is not captured; that it came is known.
            self.end = None;
            if !self.waiting.is_empty() {
                self.answer(Response::default(), segment, out, counters);
            }
        }
    }

    /// Reads the response at the beginning of a segment, and those behind it as far as they were
    /// captured.
    fn heads(&mut self, segment: &Received, out: &mut Vec<Finding>, counters: &mut Counters) {
        let mut start = 0;
        loop {
            let response = Response::parse(&segment.head[start..]);
            let to_head = self.owed == 0
                && self
                    .waiting
                    .front()
                    .is_some_and(|w| w.call.method == "HEAD");
            let length = response.length(to_head);
            let seq = segment.seq.wrapping_add(u32::try_from(start).unwrap_or(0));
            // Longer than half the circle of sequence numbers cannot be followed.
            self.end = length
                .and_then(|l| u32::try_from(l).ok())
                .filter(|&l| l < 1 << 31)
                .map(|l| seq.wrapping_add(l));
            if !response.is_interim() {
                self.answer(response, segment, out, counters);
            }
            let next = length.and_then(|l| start.checked_add(usize::try_from(l).ok()?));
            match next {
                Some(next)
                    if segment
                        .head
                        .get(next..)
                        .is_some_and(|b| b.starts_with(b"HTTP/")) =>
                {
                    start = next;
                }
                _ => return,
            }
        }
    }

    /// A final response began.
    fn answer(
        &mut self,
        response: Response,
        segment: &Received,
        out: &mut Vec<Finding>,
        counters: &mut Counters,
    ) {
        if self.owed > 0 {
            self.owed -= 1;
            counters.late_responses += 1;
            return;
        }
        let Some(since) = self.since() else {
            counters.unmatched_responses += 1;
            return;
        };
        if let Some(mut call) = self.take() {
            let Response { status, server, .. } = response;
            call.outcome = Outcome::Answered;
            call.status = status;
            call.imds_server = server;
            // A clock that was set back must not make an answer come before its question.
            let latency = segment.time.saturating_sub(since).max(0) / 1000;
            call.latency_us = u64::try_from(latency).ok();
            counters.calls += 1;
            out.push(Finding::Call(call));
        }
    }

    fn take(&mut self) -> Option<Box<Call>> {
        let waiting = self.waiting.pop_front()?;
        self.footprint -= waiting.footprint();
        if self.waiting.is_empty() {
            // Most connections never have two requests under way.
            self.waiting = VecDeque::new();
        }
        Some(waiting.call)
    }

    fn first_is_http_09(&self) -> bool {
        self.owed == 0
            && self
                .waiting
                .front()
                .is_some_and(|w| w.call.protocol == "0.9")
    }

    /// Notes that bytes came; false if the first of them had come before.
    fn advance(&mut self, seq: u32, stop: u32) -> bool {
        let Some(next) = self.next else {
            self.next = Some(stop);
            return true;
        };
        if is_before(seq, next) {
            let filled = self
                .hole
                .take_if(|(from, to)| !is_before(seq, *from) && is_before(seq, *to));
            if let Some((_, to)) = filled
                && is_before(stop, to)
            {
                self.hole = Some((stop, to));
            }
            if is_before(next, stop) {
                self.next = Some(stop);
            }
            return filled.is_some();
        }
        if is_before(next, seq) {
            self.hole = Some((next, seq));
        }
        self.next = Some(stop);
        true
    }
}
