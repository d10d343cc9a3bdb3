//! From bytes to calls: per-connection TCP reassembly, HTTP/1 requests and their answers.
//!
//! Pure: no I/O, and no clock but the events' own time, so that a recording gives what the live
//! stream gave. What cannot be read is counted ([`call::Unparsed`]), never guessed, and memory is
//! bounded by [`Limits`] whatever comes.
//!
//! - `stream` puts segments in order, `reader` finds requests in the bytes, `request` reads one;
//! - `exchange` matches responses to requests, `server` knows which bytes came, `response` reads
//!   one;
//! - `flow` is one connection, `table` all of them.

pub mod call;
mod flow;
mod flow_table;
mod reader;
mod request;
mod response;
mod response_matcher;
mod server;
mod stream;

use std::time::Duration;

use self::call::HttpEvent;
use self::flow::{Context, Flow};
use self::stream::is_before;
use crate::event::{ConnectionId, Event, Received, Sent};
use crate::http::flow_table::FlowTable;
use crate::time::Timestamp;

/// What bounds the work on hostile or unlucky traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections under watch; one more and the least recently used is given up.
    pub flows: usize,
    /// Bytes of a request's head, and bytes held of a connection because earlier ones are
    /// missing. A longer head is unparsed; more held bytes give up the missing ones.
    pub flow_bytes: usize,
    /// Bytes buffered over all connections, waiting calls included; beyond that the least
    /// recently used connections are given up.
    pub total_bytes: usize,
    /// Requests of one connection that wait for an answer; beyond that the oldest is given up.
    pub pending: usize,
    /// How long a request waits for its answer from when its head was sent, and how long a
    /// connection waits for missing bytes.
    pub answer_timeout: Duration,
    /// After how long without a segment a connection is forgotten.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 8192,
            flow_bytes: 64 << 10,
            total_bytes: 8 << 20,
            pending: 1024,
            answer_timeout: Duration::from_secs(60),
            idle: Duration::from_secs(600),
        }
    }
}

/// What happened so far, in numbers that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// [`HttpEvent::Call`]s.
    pub calls: u64,
    /// [`HttpEvent::Unparsed`]s.
    pub unparsed: u64,
    /// Bytes in them, all captured.
    pub unparsed_bytes: u64,
    /// Holes in what clients sent.
    pub gaps: u64,
    /// Bytes in them, in no other counter. Those within a body do no harm; with others, requests
    /// may have been missed.
    pub gap_bytes: u64,
    /// Bytes that clients sent again.
    pub retransmitted_bytes: u64,
    /// Responses that came when no request waited: another request was not seen, or was hidden in
    /// what was taken for a body.
    pub unmatched_responses: u64,
    /// Responses that came after their request had been given up.
    pub late_responses: u64,
    /// Calls that were answered, or may well have been, by a response that was not seen: they are
    /// [`call::Response::Unseen`].
    pub doubtful_answers: u64,
    /// Connections given up because there were too many of them, or too many bytes.
    pub evicted_flows: u64,
    /// Records that the kernel had no room for.
    pub lost_records: u64,
}

impl Counters {
    /// What happened since `base`, an earlier reading.
    pub fn since(&self, base: &Self) -> Self {
        let Self {
            calls,
            unparsed,
            unparsed_bytes,
            gaps,
            gap_bytes,
            retransmitted_bytes,
            unmatched_responses,
            late_responses,
            doubtful_answers,
            evicted_flows,
            lost_records,
        } = self;
        Self {
            calls: calls.saturating_sub(base.calls),
            unparsed: unparsed.saturating_sub(base.unparsed),
            unparsed_bytes: unparsed_bytes.saturating_sub(base.unparsed_bytes),
            gaps: gaps.saturating_sub(base.gaps),
            gap_bytes: gap_bytes.saturating_sub(base.gap_bytes),
            retransmitted_bytes: retransmitted_bytes.saturating_sub(base.retransmitted_bytes),
            unmatched_responses: unmatched_responses.saturating_sub(base.unmatched_responses),
            late_responses: late_responses.saturating_sub(base.late_responses),
            doubtful_answers: doubtful_answers.saturating_sub(base.doubtful_answers),
            evicted_flows: evicted_flows.saturating_sub(base.evicted_flows),
            lost_records: lost_records.saturating_sub(base.lost_records),
        }
    }
}

/// All connections to IMDS, and what is known of their requests.
#[derive(Debug)]
pub struct Http {
    limits: Limits,
    counters: Counters,
    table: FlowTable,
}

impl Default for Http {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Http {
    /// Nothing seen yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            counters: Counters::default(),
            table: FlowTable::new(),
        }
    }

    /// Takes the next event. What it completes is appended to `found`: the calls of a connection
    /// in the order of its requests.
    pub fn feed(&mut self, event: &Event, found: &mut Vec<HttpEvent>) {
        match event {
            // The caller does not matter here, and such an event says nothing about the time.
            Event::Task(_) => {}
            Event::Lost { records, .. } => {
                self.counters.lost_records = self.counters.lost_records.saturating_add(*records);
            }
            Event::Start { time } | Event::Tick { time } | Event::End { time, .. } => {
                self.expire(*time, found);
            }
            Event::Sent(sent) => {
                self.expire(sent.time, found);
                self.sent(sent, found);
            }
            Event::Received(segment) => {
                self.expire(segment.time, found);
                self.received(segment, found);
            }
            Event::Closed { time, connection } => {
                self.expire(*time, found);
                self.retire(*connection, found);
            }
        }
    }

    /// The run ends: what waits comes out without an answer and what is incomplete as unparsed,
    /// connection by connection.
    pub fn finish(&mut self, found: &mut Vec<HttpEvent>) {
        for connection in self.table.connections() {
            self.retire(connection, found);
        }
        self.table.forget_past();
    }

    /// When an [`Event::Tick`] is worth sending; `None` as long as nothing waits.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.table.first_deadline().map(|(time, _)| time)
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn sent(&mut self, sent: &Sent, found: &mut Vec<HttpEvent>) {
        let connection = sent.connection;
        let flow = self.table.peek(connection);
        if sent.syn && flow.is_some_and(|flow| flow.start() != sent.seq) {
            // A socket can be disconnected and connected again.
            self.retire(connection, found);
        }
        if self.table.peek(connection).is_none() && !self.open(sent) {
            return;
        }
        self.with(connection, found, |flow, context| flow.sent(sent, context));
        if sent.rst {
            self.retire(connection, found);
        }
        self.keep_bounds(found);
    }

    /// Adds the flow that a segment begins; false if it begins none.
    fn open(&mut self, sent: &Sent) -> bool {
        let mut next = sent.seq;
        let mut unreadable = false;
        if !sent.syn {
            if sent.len == 0 && sent.bytes.is_empty() {
                return false;
            }
            if let Some(past) = self.table.past(sent.connection) {
                if !is_before(past.next, sent.seq.wrapping_add(sent.len)) {
                    self.counters.retransmitted_bytes += u64::from(sent.len);
                    return false;
                }
                next = past.next;
                unreadable = past.unreadable;
            }
        }
        let mut flow = Flow::new(sent, next, &self.limits);
        if unreadable {
            flow.stop_reading(sent);
        }
        self.table.insert(sent.connection, flow);
        true
    }

    fn received(&mut self, segment: &Received, found: &mut Vec<HttpEvent>) {
        let connection = segment.connection;
        let known = self.with(connection, found, |flow, context| {
            flow.received(segment, context);
        });
        if known.is_none() && !segment.head.is_empty() {
            self.counters.unmatched_responses += 1;
        }
        if segment.rst {
            self.retire(connection, found);
        }
        self.keep_bounds(found);
    }

    fn expire(&mut self, now: Timestamp, found: &mut Vec<HttpEvent>) {
        while let Some((time, connection)) = self.table.first_deadline()
            && time <= now
        {
            self.with(connection, found, |flow, context| flow.expire(now, context));
        }
        while let Some((connection, flow)) = self.table.oldest()
            && flow.idle_at(&self.limits) <= now
        {
            self.retire(connection, found);
        }
        self.keep_bounds(found);
    }

    fn keep_bounds(&mut self, found: &mut Vec<HttpEvent>) {
        while self.table.is_over(&self.limits)
            && let Some((connection, _)) = self.table.oldest()
        {
            self.counters.evicted_flows += 1;
            self.retire(connection, found);
        }
    }

    fn retire(&mut self, connection: ConnectionId, found: &mut Vec<HttpEvent>) {
        if let Some(mut flow) = self.table.retire(connection, &self.limits) {
            let mut context = Context {
                limits: &self.limits,
                counters: &mut self.counters,
                found,
            };
            flow.close(&mut context);
        }
    }

    fn with<R>(
        &mut self,
        connection: ConnectionId,
        found: &mut Vec<HttpEvent>,
        change: impl FnOnce(&mut Flow, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let mut context = Context {
            limits: &self.limits,
            counters: &mut self.counters,
            found,
        };
        self.table
            .with(connection, &self.limits, |flow| change(flow, &mut context))
    }
}

#[cfg(test)]
mod answer_tests;
#[cfg(test)]
mod any_traffic_tests;
#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod loss_tests;
#[cfg(test)]
mod shape_tests;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;
