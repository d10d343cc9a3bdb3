//! One connection: its stream, the reader of its requests and the matcher of its responses.

use super::call::{Call, HttpEvent, Response, Unparsed};
use super::reader::{HttpReader, Item, Origin};
use super::stream::{Stream, StreamChunk};
use super::{Counters, HttpLimits};
use crate::event::{ConnectionId, Received, Sent};
use crate::http::response_matcher::ResponseMatcher;
use crate::time::Timestamp;

pub(super) struct Context<'a> {
    pub(crate) limits: &'a HttpLimits,
    pub(crate) counters: &'a mut Counters,
    pub(crate) found: &'a mut Vec<HttpEvent>,
}

#[derive(Debug)]
pub(super) struct Flow {
    connection: ConnectionId,
    /// Sequence number of the first captured byte.
    start: u32,
    stream: Stream,
    /// When the first segment after the missing bytes was sent.
    hole_since: Option<Timestamp>,
    reader: HttpReader,
    matcher: ResponseMatcher,
    last: Timestamp,
}

impl Flow {
    /// `next`: sequence number of the next byte.
    pub(super) fn new(first: &Sent, next: u32, limits: &HttpLimits) -> Self {
        Self {
            connection: first.connection,
            start: next,
            stream: Stream::new(next, limits.flow_bytes),
            hole_since: None,
            reader: HttpReader::new(limits.flow_bytes, at(first)),
            matcher: ResponseMatcher::default(),
            last: first.time,
        }
    }

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

    pub(super) fn received(&mut self, segment: &Received, context: &mut Context<'_>) {
        self.last = segment.time;
        if !segment.head.is_empty() && self.matcher.len() == 0 {
            // The server responds, so it has the whole request: the missing bytes were sent and
            // not captured.
            self.skip_holes(context);
        }
        self.matcher
            .received(segment, context.found, context.counters);
        if segment.fin && self.matcher.is_over(segment) {
            self.matcher.give_up(context.found, context.counters);
        }
    }

    /// Gives up missing bytes and pending requests after the timeout.
    pub(super) fn expire(&mut self, now: Timestamp, context: &mut Context<'_>) {
        let response_timeout = context.limits.response_timeout;
        let is_due = |since: Timestamp| since + response_timeout <= now;
        if self.hole_since.is_some_and(is_due) {
            self.skip_holes(context);
        }
        while self.matcher.since().is_some_and(is_due) {
            self.matcher.give_up_first(context.found, context.counters);
        }
        if self.idle_at(context.limits) <= now {
            self.end_reading(context);
        }
    }

    /// Flushes everything pending: the connection has ended or is given up.
    pub(super) fn close(&mut self, context: &mut Context<'_>) {
        self.skip_holes(context);
        self.matcher.give_up(context.found, context.counters);
        self.end_reading(context);
    }

    /// When [`Flow::expire`] is due.
    pub(super) fn deadline(&self, limits: &HttpLimits) -> Option<Timestamp> {
        let pending = self.matcher.since().into_iter().chain(self.hole_since);
        let pending = pending.map(|since| since + limits.response_timeout);
        let idle = self.reader.is_incomplete().then(|| self.idle_at(limits));
        pending.chain(idle).min()
    }

    /// When the connection reaches the idle limit.
    pub(super) fn idle_at(&self, limits: &HttpLimits) -> Timestamp {
        self.last + limits.idle
    }

    pub(super) fn start(&self) -> u32 {
        self.start
    }

    pub(super) fn is_unreadable(&self) -> bool {
        self.reader.is_stopped()
    }

    pub(super) fn stop_reading(&mut self, first: &Sent) {
        self.reader.stop_reading(at(first));
    }

    /// Sequence number of the next byte.
    pub(super) fn next(&self) -> u32 {
        self.stream.next()
    }

    /// Bytes of memory in its buffers.
    pub(super) fn footprint(&self) -> usize {
        self.stream.footprint() + self.reader.footprint() + self.matcher.footprint()
    }

    fn skip_holes(&mut self, context: &mut Context<'_>) {
        while self.stream.has_hole() {
            self.deliver(None, context, |stream, out| stream.skip_hole(out));
        }
        self.hole_since = None;
    }

    /// Reads the bytes that `step` takes from the stream. `now`: send time of the segment that
    /// completed them, if any.
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
            matcher,
            ..
        } = self;
        step(stream, &mut |run| match run {
            StreamChunk::Bytes(bytes, at) => {
                let none_pending = matcher.len() == 0;
                reader.read(bytes, at, none_pending, &mut |item| {
                    take(item, *connection, now.unwrap_or(at.time), matcher, context);
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
            matcher,
            last,
            ..
        } = self;
        reader.end(&mut |item| take(item, *connection, *last, matcher, context));
    }
}

fn at(sent: &Sent) -> Origin {
    Origin {
        time: sent.time,
        task: sent.task,
        server: sent.server,
    }
}

/// Adds a request to the pending ones, and reports bytes that are not a request.
fn take(
    item: Item,
    connection: ConnectionId,
    now: Timestamp,
    matcher: &mut ResponseMatcher,
    context: &mut Context<'_>,
) {
    let (request, at) = match item {
        Item::Request(request, at) => (request, at),
        Item::Unparsed(bytes, at) => {
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
    matcher.request(Box::new(call), now, context.found, context.counters);
    while matcher.len() > context.limits.pending {
        matcher.give_up_first(context.found, context.counters);
    }
}
