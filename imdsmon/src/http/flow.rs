//! One connection: reassembly, requests and answers put together.

use super::call::{Call, HttpEvent, Response, Unparsed};
use super::reader::{Origin, Parsed, Reader};
use super::stream::{Stream, StreamChunk};
use super::{Counters, Limits};
use crate::event::{ConnectionId, Received, Sent};
use crate::http::response_matcher::ResponseMatcher;
use crate::time::Timestamp;

/// What every step needs beside the flow.
pub(super) struct Context<'a> {
    pub limits: &'a Limits,
    pub counters: &'a mut Counters,
    pub found: &'a mut Vec<HttpEvent>,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Flow {
    connection: ConnectionId,
    /// Sequence number of the first byte seen.
    start: u32,
    stream: Stream,
    /// Since when bytes are missing.
    hole_since: Option<Timestamp>,
    reader: Reader,
    exchange: ResponseMatcher,
    /// When its latest segment was seen.
    last: Timestamp,
}

impl Flow {
    /// A connection that is first seen with this segment, and whose next byte is `next`.
    pub(super) fn new(first: &Sent, next: u32, limits: &Limits) -> Self {
        Self {
            connection: first.connection,
            start: next,
            stream: Stream::new(next, limits.flow_bytes),
            hole_since: None,
            reader: Reader::new(limits.flow_bytes, at(first)),
            exchange: ResponseMatcher::default(),
            last: first.time,
        }
    }

    /// The client sent a segment.
    pub(super) fn sent(&mut self, sent: &Sent, context: &mut Context<'_>) {
        self.last = sent.time;
        if sent.urgent {
            self.reader.stop_reading(at(sent));
        }
        let seen = self.deliver(Some(sent.time), context, |stream, out| {
            stream.push(sent.seq, sent.len, &sent.bytes, at(sent), out)
        });
        context.counters.retransmitted_bytes += u64::from(seen);
        self.hole_since = match (self.stream.has_hole(), self.hole_since) {
            (true, None) => Some(sent.time),
            (true, since) => since,
            (false, _) => None,
        };
    }

    /// The server sent a segment.
    pub(super) fn received(&mut self, segment: &Received, context: &mut Context<'_>) {
        self.last = segment.time;
        if !segment.head.is_empty() && self.exchange.len() == 0 {
            // The server has what it answers, so that what is missing was sent and not captured.
            self.skip_holes(context);
        }
        self.exchange
            .received(segment, context.found, context.counters);
        if segment.fin && self.exchange.is_over(segment) {
            self.exchange.give_up(context.found, context.counters);
        }
    }

    /// Gives up what has waited too long.
    pub(super) fn expire(&mut self, now: Timestamp, context: &mut Context<'_>) {
        let answer_timeout = context.limits.answer_timeout;
        let is_due = |since: Timestamp| since + answer_timeout <= now;
        if self.hole_since.is_some_and(is_due) {
            self.skip_holes(context);
        }
        while self.exchange.since().is_some_and(is_due) {
            self.exchange.give_up_first(context.found, context.counters);
        }
        if self.idle_at(context.limits) <= now {
            self.end_reading(context);
        }
    }

    /// Nothing more is to come, or the flow is given up: everything in progress comes out.
    pub(super) fn close(&mut self, context: &mut Context<'_>) {
        self.skip_holes(context);
        self.exchange.give_up(context.found, context.counters);
        self.end_reading(context);
    }

    /// When [`Flow::expire`] would do something.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Timestamp> {
        let answer = self.exchange.since().into_iter().chain(self.hole_since);
        let answer = answer.map(|since| since + limits.answer_timeout);
        let idle = self.reader.is_incomplete().then(|| self.idle_at(limits));
        answer.chain(idle).min()
    }

    /// When the flow will have been silent for too long.
    pub(super) fn idle_at(&self, limits: &Limits) -> Timestamp {
        self.last + limits.idle
    }

    /// Sequence number of the first byte seen.
    pub(super) fn start(&self) -> u32 {
        self.start
    }

    /// Whether what it carries can no longer be read.
    pub(super) fn is_unreadable(&self) -> bool {
        self.reader.is_stopped()
    }

    /// What it carries can no longer be read, as was found before.
    pub(super) fn stop_reading(&mut self, first: &Sent) {
        self.reader.stop_reading(at(first));
    }

    /// Sequence number of the next byte.
    pub(super) fn next(&self) -> u32 {
        self.stream.next()
    }

    /// Bytes of memory that it buffers.
    pub(super) fn footprint(&self) -> usize {
        self.stream.footprint() + self.reader.footprint() + self.exchange.footprint()
    }

    fn skip_holes(&mut self, context: &mut Context<'_>) {
        while self.stream.has_hole() {
            self.deliver(None, context, |stream, out| stream.skip_hole(out));
        }
        self.hole_since = None;
    }

    /// Lets the stream hand out bytes and reads them. `now`: when the last bytes that were missing
    /// were sent, if they were seen.
    fn deliver<R>(
        &mut self,
        now: Option<Timestamp>,
        context: &mut Context<'_>,
        step: impl FnOnce(&mut Stream, &mut dyn FnMut(StreamChunk<'_>)) -> R,
    ) -> R {
        let Self {
            connection,
            stream,
            reader,
            exchange,
            ..
        } = self;
        step(stream, &mut |run| match run {
            StreamChunk::ByteString(bytes, at) => {
                let answered = exchange.len() == 0;
                reader.read(bytes, at, answered, &mut |item| {
                    take(item, *connection, now.unwrap_or(at.time), exchange, context);
                });
            }
            StreamChunk::Gap(bytes) => {
                context.counters.gaps += 1;
                context.counters.gap_bytes += bytes;
                reader.gap(bytes);
            }
        })
    }

    fn end_reading(&mut self, context: &mut Context<'_>) {
        let Self {
            connection,
            reader,
            exchange,
            last,
            ..
        } = self;
        reader.end(&mut |item| take(item, *connection, *last, exchange, context));
    }
}

fn at(sent: &Sent) -> Origin {
    Origin {
        time: sent.time,
        task: sent.task,
        server: sent.server,
    }
}

/// What the reader found becomes a request that waits, or a finding.
fn take(
    item: Parsed,
    connection: ConnectionId,
    now: Timestamp,
    exchange: &mut ResponseMatcher,
    context: &mut Context<'_>,
) {
    let (request, at) = match item {
        Parsed::Request(request, at) => (request, at),
        Parsed::Garbage(bytes, at) => {
            context.counters.unparsed += 1;
            context.counters.unparsed_bytes += bytes;
            context.found.push(HttpEvent::Unparsed(Unparsed {
                time: at.time,
                connection,
                task: at.task,
                server: at.server,
                bytes,
            }));
            return;
        }
    };
    let call = Call {
        time: at.time,
        connection,
        task: at.task,
        server: at.server,
        request,
        response: Response::None,
    };
    exchange.request(Box::new(call), now, context.found, context.counters);
    while exchange.len() > context.limits.pending {
        exchange.give_up_first(context.found, context.counters);
    }
}
