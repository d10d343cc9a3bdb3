//! From bytes to calls: TCP reassembly for each connection, HTTP/1 requests and their responses.
//!
//! No I/O and no clock other than event times: a recording gives the same result as the live
//! stream. Bytes that are not HTTP are only counted ([`call::Unparsed`]). [`HttpLimits`] bound the
//! memory.
//!
//! - `stream` puts segments in order, `reader` finds requests in the bytes, `request` parses one;
//! - `response_matcher` matches responses to requests, `server` tracks which bytes of the server
//!   arrived, `response` parses a head;
//! - `flow` is one connection, `flow_table` all of them.

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

/// Bounds on memory and time, for hostile and for incomplete traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections; beyond that the least recently used is evicted.
    pub(crate) flows: usize,
    /// Bytes of a request's head, and bytes of a connection held behind missing ones. A longer head
    /// is unparsed; beyond the limit the missing bytes are given up.
    pub(crate) flow_bytes: usize,
    /// Bytes buffered in all connections, pending calls included; beyond that the least recently
    /// used connections are evicted.
    pub(crate) total_bytes: usize,
    /// Pending requests of one connection; beyond that the oldest is given up.
    pub(crate) pending: usize,
    /// Timeout of a response, from the end of the request's head, and of missing bytes.
    pub(crate) response_timeout: Duration,
    /// A connection without a segment for this time is dropped.
    pub(crate) idle: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            flows: 8192,
            flow_bytes: 64 << 10,
            total_bytes: 8 << 20,
            pending: 1024,
            response_timeout: Duration::from_secs(60),
            idle: Duration::from_secs(600),
        }
    }
}

/// Counters since the start; they never decrease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) calls: u64,
    /// [`HttpEvent::Unparsed`]s.
    pub(crate) unparsed: u64,
    /// Captured bytes in them.
    pub(crate) unparsed_bytes: u64,
    /// Holes in the clients' streams.
    pub(crate) gaps: u64,
    /// Bytes in them, in no other counter. Outside a body they may contain requests.
    pub(crate) gap_bytes: u64,
    /// Bytes that clients retransmitted.
    pub(crate) retransmitted_bytes: u64,
    /// Responses without a pending request: a request was not captured, or was taken for a body.
    pub(crate) unmatched_responses: u64,
    /// Responses to requests that had been given up.
    pub(crate) late_responses: u64,
    /// Calls with [`call::Response::Unseen`].
    pub(crate) unseen_responses: u64,
    /// Connections evicted because of [`HttpLimits`].
    pub(crate) evicted_flows: u64,
    /// Records dropped from the ring buffer.
    pub(crate) lost_records: u64,
}

impl Counters {
    /// Increase since `base`, an earlier reading.
    pub(crate) fn since(&self, base: &Self) -> Self {
        let Self {
            calls,
            unparsed,
            unparsed_bytes,
            gaps,
            gap_bytes,
            retransmitted_bytes,
            unmatched_responses,
            late_responses,
            unseen_responses,
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
            unseen_responses: unseen_responses.saturating_sub(base.unseen_responses),
            evicted_flows: evicted_flows.saturating_sub(base.evicted_flows),
            lost_records: lost_records.saturating_sub(base.lost_records),
        }
    }
}

/// All connections to IMDS with their pending requests.
#[derive(Debug)]
pub struct Http {
    limits: HttpLimits,
    counters: Counters,
    table: FlowTable,
}

impl Default for Http {
    fn default() -> Self {
        Self::new(HttpLimits::default())
    }
}

impl Http {
    pub fn new(limits: HttpLimits) -> Self {
        Self {
            limits,
            counters: Counters::default(),
            table: FlowTable::new(),
        }
    }

    /// Processes the next event and appends completed results to `found`, the calls of a connection
    /// in the order of its requests.
    pub fn feed(&mut self, event: &Event, found: &mut Vec<HttpEvent>) {
        match event {
            // Task events are not in time order: a holder is found late.
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

    /// Ends the run: pending requests get no response, and incomplete ones are unparsed.
    pub fn finish(&mut self, found: &mut Vec<HttpEvent>) {
        for connection in self.table.connections() {
            self.retire(connection, found);
        }
        self.table.forget_past();
    }

    /// When an [`Event::Tick`] is due; `None` if nothing is pending.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.table.first_deadline().map(|(time, _)| time)
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    fn sent(&mut self, sent: &Sent, found: &mut Vec<HttpEvent>) {
        let connection = sent.connection;
        let flow = self.table.peek(connection);
        if sent.syn && flow.is_some_and(|flow| flow.start() != sent.seq) {
            // A socket can be disconnected and connected again (connect(2), `AF_UNSPEC`).
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

    /// Adds a flow if the segment can start one, else returns `false`.
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
