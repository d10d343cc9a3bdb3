//! Matches the responses of a connection to its pending requests.
//!
//! HTTP/1 responds in order: the next response belongs to the oldest pending request. The response
//! to a request that was given up is outstanding: if it arrives late, it must not be assigned to
//! the next request.
//!
//! That holds only if every response is captured. Where one may be missing, the match is
//! uncertain, and another rule applies: clients hardly ever send a request before they have the
//! response to the previous one.
//!
//! - Bytes of the server are missing, other than within a body: the response after them belongs to
//!   the latest request, and none is outstanding any more.
//! - Before the first response of a connection others may be missing, which its sequence number
//!   does not show. If it could belong to several requests, it is held until the next event:
//!   another response shows that they arrive in order; another request shows that it was the
//!   latest one's.
//! - Bytes that no known response explains: pending requests may have a response.
//!
//! A request whose response was not captured gets [`Response::Unseen`].
//!
//! An outstanding response is therefore skipped only where the server's bytes are complete. A
//! request that was pending then and is given up later adds none, so a wrong count corrects itself.

use std::collections::VecDeque;

use crate::http::Counters;
use crate::http::call::{Call, HttpEvent, Request, Response};
use crate::http::response::ResponseHead;
use crate::http::server::{Place, ServerBytes};
use crate::http::stream::is_before;
use crate::time::Timestamp;

use crate::event::Received;

/// A pending request.
#[derive(Debug)]
struct Waiting {
    /// When its head was complete.
    since: Timestamp,
    /// Bytes arrived that may have been its response.
    maybe_responded: bool,
    call: Box<Call>,
}

impl Waiting {
    fn footprint(&self) -> usize {
        let Request {
            auth: _,
            method,
            path,
            query,
            protocol: _,
            user_agent,
        } = &self.call.request;
        size_of::<Self>()
            + size_of::<Call>()
            + method.len()
            + path.len()
            + query.as_ref().map_or(0, String::len)
            + user_agent.as_ref().map_or(0, String::len)
    }

    fn is_head(&self) -> bool {
        self.call.request.method == "HEAD"
    }
}

/// A final response, and when it arrived.
#[derive(Debug)]
struct Arrival {
    head: ResponseHead,
    time: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct ResponseMatcher {
    waiting: VecDeque<Waiting>,
    footprint: usize,
    /// Responses to come for requests that were given up.
    outstanding: u32,
    server: ServerBytes,
    /// Sequence number after the current response, if known.
    end: Option<u32>,
    /// Responses may be missing, and none has started since.
    is_uncertain: bool,
    /// A final response arrived: whether others are missing before the first is settled.
    has_final: bool,
    /// The first response while it could belong to several pending requests.
    held: Option<Box<Arrival>>,
}

impl ResponseMatcher {
    /// Adds a request; `since`: when its head was complete.
    pub(super) fn request(
        &mut self,
        call: Box<Call>,
        since: Timestamp,
        out: &mut Vec<HttpEvent>,
        counters: &mut Counters,
    ) {
        if let Some(held) = self.held.take() {
            // The client sends another request, so it has the response to its latest one.
            self.assign_to_last(*held, out, counters);
        }
        let waiting = Waiting {
            since,
            maybe_responded: false,
            call,
        };
        self.footprint += waiting.footprint();
        self.waiting.push_back(waiting);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Since when the oldest request is pending.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.waiting.front().map(|w| w.since)
    }

    /// Bytes of memory of the pending requests.
    pub(super) fn footprint(&self) -> usize {
        let held = self.held.as_ref().map_or(0, |held| {
            size_of::<Arrival>() + held.head.server.as_ref().map_or(0, String::len)
        });
        self.footprint + held
    }

    /// Gives up the oldest request. Its response is unseen if bytes arrived that may be the
    /// response, otherwise there is none.
    pub(super) fn give_up_first(&mut self, out: &mut Vec<HttpEvent>, counters: &mut Counters) {
        if let Some(held) = self.held.take() {
            self.assign_to_last_unless_outstanding(*held, out, counters);
            return;
        }
        let Some(Waiting {
            mut call,
            maybe_responded,
            ..
        }) = self.take()
        else {
            return;
        };
        if maybe_responded {
            call.response = Response::Unseen;
            counters.unseen_responses += 1;
        } else {
            self.outstanding = self.outstanding.saturating_add(1);
        }
        counters.calls += 1;
        out.push(HttpEvent::Call(call));
    }

    /// Gives up all pending requests, as [`ResponseMatcher::give_up_first`] does.
    pub(super) fn give_up(&mut self, out: &mut Vec<HttpEvent>, counters: &mut Counters) {
        while !self.waiting.is_empty() {
            self.give_up_first(out, counters);
        }
        self.waiting = VecDeque::new();
    }

    pub(super) fn received(
        &mut self,
        segment: &Received,
        out: &mut Vec<HttpEvent>,
        counters: &mut Counters,
    ) {
        if segment.len == 0 && segment.head.is_empty() {
            return;
        }
        let is_head = !segment.head.is_empty();
        let captured = u32::try_from(segment.head.len()).unwrap_or(u32::MAX);
        let stop = segment.seq.wrapping_add(segment.len.max(captured));
        let place = self.server.arrive(segment.seq, stop, is_head);
        let was_uncertain = self.is_uncertain;
        let within_body = self.end.is_some_and(|end| !is_before(end, segment.seq));
        match place {
            Place::BeyondHole if !within_body => {
                self.is_uncertain = true;
                self.end = None;
            }
            // The missing bytes arrived: the order is certain again.
            Place::AtHole => self.is_uncertain = false,
            Place::Seen | Place::Next | Place::BeyondHole => {}
        }
        let new = place != Place::Seen;
        let in_body = self.end.is_some_and(|end| is_before(segment.seq, end));
        if new && is_head && !in_body {
            self.end = None;
            self.heads(segment, out, counters);
        } else if new && self.end.is_none() && self.first_is_http_09() {
            // Such a response has no head: it starts with its first byte.
            self.assign(ResponseHead::default(), segment, out, counters);
        }
        if let Some(end) = self.end
            && is_before(end, stop)
        {
            // A response that starts within a segment is not captured: it arrived, and others may
            // have followed it.
            self.end = None;
            self.assign(ResponseHead::default(), segment, out, counters);
            self.set_maybe_responded(true);
        }
        if place == Place::AtHole {
            if was_uncertain {
                // Bytes after the hole stay unexplained until the hole is filled.
                self.is_uncertain = self.server.has_hole();
                self.set_maybe_responded(self.is_uncertain);
            }
        } else if new && self.is_uncertain {
            self.set_maybe_responded(true);
        }
    }

    /// Whether nothing more can arrive if this segment is the server's last.
    pub(super) fn is_over(&self, last: &Received) -> bool {
        !self
            .server
            .is_missing_before(last.seq.wrapping_add(last.len))
    }

    /// Reads the response at the start of a segment, and those after it that were captured.
    fn heads(&mut self, segment: &Received, out: &mut Vec<HttpEvent>, counters: &mut Counters) {
        let mut start = 0;
        loop {
            let head = ResponseHead::parse(&segment.head[start..]);
            let length = self.is_to_head().and_then(|to_head| head.length(to_head));
            let seq = segment.seq.wrapping_add(u32::try_from(start).unwrap_or(0));
            // A response longer than half of the sequence numbers cannot be followed.
            self.end = length
                .and_then(|l| u32::try_from(l).ok())
                .filter(|&l| l < 1 << 31)
                .map(|l| seq.wrapping_add(l));
            if !head.is_interim() {
                self.assign(head, segment, out, counters);
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

    /// Assigns a final response, or holds it.
    fn assign(
        &mut self,
        head: ResponseHead,
        segment: &Received,
        out: &mut Vec<HttpEvent>,
        counters: &mut Counters,
    ) {
        let time = segment.time;
        let arrival = Arrival { head, time };
        if let Some(held) = self.held.take() {
            // Two responses without a request between them arrive in order.
            self.assign_to_first(*held, out, counters);
        }
        let had_final = std::mem::replace(&mut self.has_final, true);
        if std::mem::take(&mut self.is_uncertain) {
            self.assign_to_last(arrival, out, counters);
        } else if !had_final && self.is_ambiguous() {
            self.held = Some(Box::new(arrival));
        } else {
            self.assign_to_first(arrival, out, counters);
        }
    }

    /// Whether a response could belong to more than one request, sent one after another.
    fn is_ambiguous(&self) -> bool {
        let (Some(first), Some(last)) = (self.waiting.front(), self.waiting.back()) else {
            return false;
        };
        first.call.request.protocol != "0.9"
            && (self.outstanding > 0 || last.call.time > first.since)
    }

    /// Assigns a response to the oldest request, or to one that was given up.
    fn assign_to_first(
        &mut self,
        arrival: Arrival,
        out: &mut Vec<HttpEvent>,
        counters: &mut Counters,
    ) {
        if self.outstanding > 0 {
            self.outstanding -= 1;
            counters.late_responses += 1;
            self.set_maybe_responded(true);
            return;
        }
        let Some(Waiting {
            since, mut call, ..
        }) = self.take()
        else {
            counters.unmatched_responses += 1;
            return;
        };
        let Arrival { head, time } = arrival;
        call.response = Response::Seen {
            status: head.status,
            server: head.server,
            latency: time.since(since),
        };
        counters.calls += 1;
        out.push(HttpEvent::Call(call));
    }

    /// Assigns a response to the latest request: those to the others were not captured.
    fn assign_to_last(
        &mut self,
        arrival: Arrival,
        out: &mut Vec<HttpEvent>,
        counters: &mut Counters,
    ) {
        self.outstanding = 0;
        while self.waiting.len() > 1 {
            self.finish_unseen(out, counters);
        }
        self.assign_to_first(arrival, out, counters);
    }

    /// The connection has ended: the only response is the latest request's, unless it may belong to
    /// one that was given up.
    fn assign_to_last_unless_outstanding(
        &mut self,
        arrival: Arrival,
        out: &mut Vec<HttpEvent>,
        counters: &mut Counters,
    ) {
        if self.outstanding == 0 {
            self.assign_to_last(arrival, out, counters);
            return;
        }
        self.outstanding = 0;
        while !self.waiting.is_empty() {
            self.finish_unseen(out, counters);
        }
    }

    /// Finishes the oldest request with an unseen response.
    fn finish_unseen(&mut self, out: &mut Vec<HttpEvent>, counters: &mut Counters) {
        if let Some(Waiting { mut call, .. }) = self.take() {
            call.response = Response::Unseen;
            counters.unseen_responses += 1;
            counters.calls += 1;
            out.push(HttpEvent::Call(call));
        }
    }

    /// Records whether bytes arrived that may be the responses to all pending requests.
    fn set_maybe_responded(&mut self, maybe: bool) {
        for waiting in &mut self.waiting {
            waiting.maybe_responded = maybe;
        }
    }

    fn take(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.footprint -= waiting.footprint();
        if self.waiting.is_empty() {
            // Frees the memory: most connections never have two pending requests.
            self.waiting = VecDeque::new();
        }
        Some(waiting)
    }

    /// Whether the next response is to a HEAD request; `None` if uncertain.
    fn is_to_head(&self) -> Option<bool> {
        let mut waiting = self.waiting.iter();
        if self.is_uncertain {
            return Some(waiting.next_back().is_some_and(Waiting::is_head));
        }
        if self.held.is_none() && (self.has_final || !self.is_ambiguous()) {
            return Some(self.outstanding == 0 && waiting.next().is_some_and(Waiting::is_head));
        }
        (!waiting.any(Waiting::is_head)).then_some(false)
    }

    fn first_is_http_09(&self) -> bool {
        self.outstanding == 0
            && self
                .waiting
                .front()
                .is_some_and(|w| w.call.request.protocol == "0.9")
    }
}
