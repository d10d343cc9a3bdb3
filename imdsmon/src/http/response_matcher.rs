//! Requests that wait for their answers, and the answers.
//!
//! HTTP/1 answers in order, so the next response belongs to the request that waits longest. A
//! request whose wait was given up still owes the connection a response: when it comes after all
//! it must not be taken for the next request's.
//!
//! All that holds only if every response is seen. Where one may have been missed, the matching is
//! doubtful, and what is known instead is that clients hardly ever send a request before they
//! have the answer to the one before:
//!
//! - Bytes of the server are missing, other than within a body: the response that begins behind
//!   them belongs to the latest request, and nothing is owed any more.
//! - The first response on a connection may have lost others before it, which its sequence number
//!   does not tell. If several requests could be meant it is held until what follows tells:
//!   another response, and they come in order; another request, and it was the latest one's.
//! - Bytes came that no response known explains: requests that waited then may be answered.
//!
//! A request that was answered by what was not seen comes out as answered, without a status.
//!
//! An answer that is owed is thus swallowed only where the server's bytes are complete; and a
//! request that waits meanwhile, and is given up in its turn, owes none. So a connection on which
//! the count went wrong recovers.

use std::collections::VecDeque;

use crate::http::Counters;
use crate::http::call::{Call, HttpEvent, Request, Response};
use crate::http::response::ResponseHead;
use crate::http::server::{Place, ServerBytes};
use crate::http::stream::is_before;
use crate::time::Timestamp;

use crate::event::Received;

/// A request that waits.
#[derive(Debug)]
struct Waiting {
    /// When its head was complete.
    since: Timestamp,
    /// Bytes came that may have been its answer.
    maybe_answered: bool,
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

/// A final response, and when it came.
#[derive(Debug)]
struct Arrival {
    head: ResponseHead,
    time: Timestamp,
}

/// The exchange of requests and responses on a connection.
#[derive(Debug, Default)]
pub(super) struct ResponseMatcher {
    waiting: VecDeque<Waiting>,
    footprint: usize,
    /// Responses still to come for requests that were given up.
    owed: u32,
    server: ServerBytes,
    /// Where the current response ends, if that is known.
    end: Option<u32>,
    /// Responses may have been missed, and none has begun since.
    doubt: bool,
    /// A final response came: what may have been missed before the first is settled.
    anchored: bool,
    /// The first response, if it is not clear whose it is. Some requests wait then.
    held: Option<Box<Arrival>>,
}

impl ResponseMatcher {
    /// A request is complete.
    pub(super) fn request(
        &mut self,
        call: Box<Call>,
        since: Timestamp,
        out: &mut Vec<HttpEvent>,
        counters: &mut Counters,
    ) {
        if let Some(held) = self.held.take() {
            // The client goes on, so that it has the answer to its latest request.
            self.assign_to_last(*held, out, counters);
        }
        let waiting = Waiting {
            since,
            maybe_answered: false,
            call,
        };
        self.footprint += waiting.footprint();
        self.waiting.push_back(waiting);
    }

    /// How many requests wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Since when the first of them does.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.waiting.front().map(|w| w.since)
    }

    /// Bytes of memory that the waiting requests take.
    pub(super) fn footprint(&self) -> usize {
        let held = self.held.as_ref().map_or(0, |held| {
            size_of::<Arrival>() + held.head.server.as_ref().map_or(0, String::len)
        });
        self.footprint + held
    }

    /// The request that waits longest comes out without an answer, or without a status if it may
    /// have been answered.
    pub(super) fn give_up_first(&mut self, out: &mut Vec<HttpEvent>, counters: &mut Counters) {
        if let Some(held) = self.held.take() {
            self.assign_to_last_unless_owed(*held, out, counters);
            return;
        }
        let Some(Waiting {
            mut call,
            maybe_answered,
            ..
        }) = self.take()
        else {
            return;
        };
        if maybe_answered {
            call.response = Response::Unseen;
            counters.doubtful_answers += 1;
        } else {
            self.owed = self.owed.saturating_add(1);
        }
        counters.calls += 1;
        out.push(HttpEvent::Call(call));
    }

    /// All requests that wait come out, as in [`ResponseMatcher::give_up_first`].
    pub(super) fn give_up(&mut self, out: &mut Vec<HttpEvent>, counters: &mut Counters) {
        while !self.waiting.is_empty() {
            self.give_up_first(out, counters);
        }
        self.waiting = VecDeque::new();
    }

    /// A segment came from the server.
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
        let doubted = self.doubt;
        let within_body = self.end.is_some_and(|end| !is_before(end, segment.seq));
        match place {
            Place::BeyondHole if !within_body => {
                self.doubt = true;
                self.end = None;
            }
            // What was missing comes after all, so that its order is right.
            Place::AtHole => self.doubt = false,
            Place::Seen | Place::Next | Place::BeyondHole => {}
        }
        let new = place != Place::Seen;
        let in_body = self.end.is_some_and(|end| is_before(segment.seq, end));
        if new && is_head && !in_body {
            self.end = None;
            self.heads(segment, out, counters);
        } else if new && self.end.is_none() && self.first_is_http_09() {
            // Such an answer has no head: its first byte is the answer.
            self.assign(ResponseHead::default(), segment, out, counters);
        }
        if let Some(end) = self.end
            && is_before(end, stop)
        {
            // A response that begins within a segment is not captured; that it came is known, and
            // others may have come behind it.
            self.end = None;
            self.assign(ResponseHead::default(), segment, out, counters);
            self.may_be_answered(true);
        }
        if place == Place::AtHole {
            if doubted {
                // What came behind the hole is still unexplained unless the hole is gone.
                self.doubt = self.server.has_hole();
                self.may_be_answered(self.doubt);
            }
        } else if new && self.doubt {
            self.may_be_answered(true);
        }
    }

    /// Whether nothing more can come, given that this segment is the server's last.
    pub(super) fn is_over(&self, last: &Received) -> bool {
        !self
            .server
            .is_missing_before(last.seq.wrapping_add(last.len))
    }

    /// Reads the response at the beginning of a segment, and those behind it as far as they were
    /// captured.
    fn heads(&mut self, segment: &Received, out: &mut Vec<HttpEvent>, counters: &mut Counters) {
        let mut start = 0;
        loop {
            let head = ResponseHead::parse(&segment.head[start..]);
            let length = self.is_to_head().and_then(|to_head| head.length(to_head));
            let seq = segment.seq.wrapping_add(u32::try_from(start).unwrap_or(0));
            // Longer than half the circle of sequence numbers cannot be followed.
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

    /// A final response began.
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
            // Two responses and no request between them: they come in order.
            self.assign_to_first(*held, out, counters);
        }
        let anchored = std::mem::replace(&mut self.anchored, true);
        if std::mem::take(&mut self.doubt) {
            self.assign_to_last(arrival, out, counters);
        } else if !anchored && self.is_ambiguous() {
            self.held = Some(Box::new(arrival));
        } else {
            self.assign_to_first(arrival, out, counters);
        }
    }

    /// Whether a response could be meant for more than one request, sent one after another.
    fn is_ambiguous(&self) -> bool {
        let (Some(first), Some(last)) = (self.waiting.front(), self.waiting.back()) else {
            return false;
        };
        first.call.request.protocol != "0.9" && (self.owed > 0 || last.call.time > first.since)
    }

    /// The answer is that of the request which is the first to have one.
    fn assign_to_first(
        &mut self,
        arrival: Arrival,
        out: &mut Vec<HttpEvent>,
        counters: &mut Counters,
    ) {
        if self.owed > 0 {
            self.owed -= 1;
            counters.late_responses += 1;
            self.may_be_answered(true);
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

    /// The answer is that of the latest request: those to the others were missed.
    fn assign_to_last(
        &mut self,
        arrival: Arrival,
        out: &mut Vec<HttpEvent>,
        counters: &mut Counters,
    ) {
        self.owed = 0;
        while self.waiting.len() > 1 {
            self.finish_unseen(out, counters);
        }
        self.assign_to_first(arrival, out, counters);
    }

    /// The conversation goes no further, and the only answer is that of the latest request unless
    /// it came for one that was given up.
    fn assign_to_last_unless_owed(
        &mut self,
        arrival: Arrival,
        out: &mut Vec<HttpEvent>,
        counters: &mut Counters,
    ) {
        if self.owed == 0 {
            self.assign_to_last(arrival, out, counters);
            return;
        }
        self.owed = 0;
        while !self.waiting.is_empty() {
            self.finish_unseen(out, counters);
        }
    }

    /// The request that waits longest was answered, by what was not seen.
    fn finish_unseen(&mut self, out: &mut Vec<HttpEvent>, counters: &mut Counters) {
        if let Some(Waiting { mut call, .. }) = self.take() {
            call.response = Response::Unseen;
            counters.doubtful_answers += 1;
            counters.calls += 1;
            out.push(HttpEvent::Call(call));
        }
    }

    /// Whether bytes came that may have been the answers to all that wait.
    fn may_be_answered(&mut self, maybe: bool) {
        for waiting in &mut self.waiting {
            waiting.maybe_answered = maybe;
        }
    }

    fn take(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.footprint -= waiting.footprint();
        if self.waiting.is_empty() {
            // Most connections never have two requests under way.
            self.waiting = VecDeque::new();
        }
        Some(waiting)
    }

    /// Whether the next response is to a HEAD request; `None` if that is not clear.
    fn is_to_head(&self) -> Option<bool> {
        let mut waiting = self.waiting.iter();
        if self.doubt {
            return Some(waiting.next_back().is_some_and(Waiting::is_head));
        }
        if self.held.is_none() && (self.anchored || !self.is_ambiguous()) {
            return Some(self.owed == 0 && waiting.next().is_some_and(Waiting::is_head));
        }
        (!waiting.any(Waiting::is_head)).then_some(false)
    }

    fn first_is_http_09(&self) -> bool {
        self.owed == 0
            && self
                .waiting
                .front()
                .is_some_and(|w| w.call.request.protocol == "0.9")
    }
}
