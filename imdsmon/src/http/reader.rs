//! Finds requests in the client's half of a connection: where they start, where their heads and
//! bodies end, and which bytes belong to none.
//!
//! A state machine over the byte stream, independent of segment boundaries. It buffers a head up to
//! its blank line, otherwise single lines; bodies are only counted. Bytes that are not a request
//! are discarded line by line, until a line is certain to be a request line.

mod lines;

use super::call::Request;
use super::request;
use crate::event::{Endpoint, TaskId};
use crate::time::Timestamp;

/// The segment of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(crate) time: Timestamp,
    pub(crate) task: Option<TaskId>,
    pub(crate) server: Endpoint,
}

/// A result of the reader, with the segment of its first byte.
#[derive(Debug)]
pub(super) enum Item {
    Request(Request, Origin),
    /// Number of bytes that are not a request.
    Unparsed(u64, Origin),
}

#[derive(Debug)]
enum State {
    /// In a head, or before one; `buffer` holds it so far.
    Head,
    /// In a body with `rest` bytes to come. `begun`: some have arrived.
    Body { rest: u64, begun: bool },
    /// The response arrived before the body: the next bytes are the body or another request.
    /// `buffer` holds them until that is certain.
    Undecided { rest: u64 },
    /// Before or in a chunk-size line, which `buffer` holds.
    ChunkSize,
    /// In a chunk with `rest` bytes to come.
    Chunk { rest: u64 },
    /// After the last chunk; `buffer` holds a trailer line.
    Trailer,
    /// In bytes that are not a request. `buffer` holds a line that may be a request line, unless
    /// `mid_line`: the rest of the current line cannot be one.
    Discard {
        bytes: u64,
        at: Origin,
        mid_line: bool,
    },
    /// After an HTTP/0.9 request: such a connection carries no other.
    After09,
    /// The server may read bytes other than the captured ones: none counts as a request.
    Stopped { bytes: u64, at: Origin },
}

/// State of the buffer after filling it.
enum Buffered {
    Line,
    Partial,
    Full,
}

#[derive(Debug)]
pub(super) struct HttpReader {
    state: State,
    buffer: Vec<u8>,
    /// The segment of the first byte of `buffer`.
    buffer_at: Origin,
    /// Start of the current line in `buffer`; the lines before it have been examined.
    line: usize,
    /// Bytes to read again, and the number already read.
    reread: (Vec<u8>, usize),
    /// A request was found in the bytes being read, so it has no response yet.
    just_requested: bool,
    limit: usize,
}

impl HttpReader {
    /// `limit`: bytes of a head, and of any other line.
    pub(super) fn new(limit: usize, at: Origin) -> Self {
        Self {
            state: State::Head,
            buffer: Vec::new(),
            buffer_at: at,
            line: 0,
            reread: (Vec::new(), 0),
            just_requested: false,
            limit,
        }
    }

    /// Reads the next bytes and passes each item to `found` once its last byte is read.
    /// `none_pending`: no request of the connection is pending.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        at: Origin,
        none_pending: bool,
        found: &mut impl FnMut(Item),
    ) {
        let mut rest = bytes;
        self.just_requested = false;
        loop {
            let (again, read) = std::mem::take(&mut self.reread);
            if read < again.len() {
                let used = read + self.step(&again[read..], at, none_pending, found);
                if self.reread.0.is_empty() {
                    self.reread = (again, used);
                } else {
                    // These bytes have produced others to read again, which come first.
                    self.reread.0.extend_from_slice(&again[used..]);
                }
                continue;
            }
            if rest.is_empty() {
                return;
            }
            let used = self.step(rest, at, none_pending, found);
            rest = &rest[used..];
        }
    }

    /// Skips bytes that were sent but not captured. A request that they truncate is unparsed; the
    /// skipped bytes do not count.
    pub(super) fn gap(&mut self, bytes: u64) {
        match &mut self.state {
            State::Body { rest, begun } if bytes <= *rest => {
                *rest -= bytes;
                *begun = true;
                if *rest == 0 {
                    self.state = State::Head;
                }
            }
            State::Chunk { rest } if bytes <= *rest => {
                *rest -= bytes;
                if *rest == 0 {
                    self.state = State::ChunkSize;
                }
            }
            State::After09 | State::Stopped { .. } => {}
            _ => self.discard(false),
        }
    }

    /// Stops reading; an incomplete request is unparsed. `at`: the segment of the next byte.
    pub(super) fn stop_reading(&mut self, at: Origin) {
        if self.is_stopped() {
            return;
        }
        let (bytes, at) = match self.state {
            State::Discard { bytes, at, .. } if bytes > 0 => (bytes, at),
            _ if self.buffer.is_empty() => (0, at),
            _ => (0, self.buffer_at),
        };
        let bytes = bytes.saturating_add(length(self.buffer.len()));
        self.clear();
        self.state = State::Stopped { bytes, at };
    }

    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped { .. })
    }

    /// Ends the stream; an incomplete request is unparsed.
    pub(super) fn end(&mut self, found: &mut impl FnMut(Item)) {
        if self.is_incomplete() {
            let held = length(self.buffer.len());
            match self.state {
                State::Discard { bytes, at, .. } if bytes > 0 => {
                    found(Item::Unparsed(bytes.saturating_add(held), at));
                }
                State::Stopped { bytes, at } => found(Item::Unparsed(bytes, at)),
                _ => found(Item::Unparsed(held, self.buffer_at)),
            }
        }
        match &mut self.state {
            State::After09 => {}
            State::Stopped { bytes, .. } => *bytes = 0,
            _ => self.between_requests(),
        }
    }

    /// Whether [`HttpReader::end`] has something to report.
    pub(super) fn is_incomplete(&self) -> bool {
        match self.state {
            State::Head | State::Undecided { .. } => !self.buffer.is_empty(),
            State::Discard { bytes, .. } => bytes > 0 || !self.buffer.is_empty(),
            State::ChunkSize | State::Trailer => {
                !self.buffer.is_empty() && request::may_replace_body(&self.buffer)
            }
            State::Stopped { bytes, .. } => bytes > 0,
            State::Body { .. } | State::Chunk { .. } | State::After09 => false,
        }
    }

    /// Bytes of memory in its buffers.
    pub(super) fn footprint(&self) -> usize {
        self.buffer.capacity() + self.reread.0.capacity()
    }

    /// Reads at least one byte, or changes to a state that does.
    fn step(
        &mut self,
        bytes: &[u8],
        at: Origin,
        none_pending: bool,
        found: &mut impl FnMut(Item),
    ) -> usize {
        if let State::Body { rest, begun: false } = self.state {
            self.state = if none_pending && !self.just_requested {
                State::Undecided { rest }
            } else {
                State::Body { rest, begun: true }
            };
        }
        match &mut self.state {
            State::Head => self.head(bytes, at, found),
            State::Body { rest, .. } | State::Chunk { rest } => {
                let used = bytes
                    .len()
                    .min(usize::try_from(*rest).unwrap_or(usize::MAX));
                *rest -= length(used);
                if *rest == 0 {
                    self.state = match self.state {
                        State::Chunk { .. } => State::ChunkSize,
                        _ => State::Head,
                    };
                }
                used
            }
            State::Undecided { rest } => {
                let rest = *rest;
                self.undecided(bytes, at, rest)
            }
            State::ChunkSize | State::Trailer => self.chunk_line(bytes, at),
            State::Discard { mid_line: true, .. } => self.skip_line(bytes),
            State::Discard { .. } => self.discarded_line(bytes, at, found),
            State::After09 => {
                let blank = request::blank_lines(bytes);
                if blank < bytes.len() {
                    self.discard(false);
                }
                blank
            }
            State::Stopped {
                bytes: count,
                at: since,
            } => {
                if *count == 0 {
                    *since = at;
                }
                *count = count.saturating_add(length(bytes.len()));
                bytes.len()
            }
        }
    }

    /// Moves bytes to the buffer, up to the end of the line or to the limit.
    fn fill(&mut self, bytes: &[u8], at: Origin) -> (usize, Buffered) {
        if self.buffer.is_empty() {
            self.buffer_at = at;
            self.line = 0;
        }
        let room = self.limit.saturating_sub(self.buffer.len());
        let window = &bytes[..bytes.len().min(room)];
        let (used, fill) = match window.iter().position(|&b| b == b'\n') {
            Some(i) => (i + 1, Buffered::Line),
            None if window.len() < bytes.len() => (window.len(), Buffered::Full),
            None => (window.len(), Buffered::Partial),
        };
        self.buffer.extend_from_slice(&window[..used]);
        (used, fill)
    }

    /// Treats the buffered line as the first of a request.
    fn resume(&mut self) {
        self.state = State::Head;
        self.line = self.buffer.len();
    }

    /// Counts the buffer as unparsed. `mid_line`: the next byte is in the middle of a line.
    fn discard(&mut self, mid_line: bool) {
        let held = length(self.buffer.len());
        let (bytes, at) = match self.state {
            State::Discard { bytes, at, .. } if bytes > 0 => (bytes.saturating_add(held), at),
            _ => (held, self.buffer_at),
        };
        self.clear();
        self.state = State::Discard {
            bytes,
            at,
            mid_line,
        };
    }

    fn between_requests(&mut self) {
        self.clear();
        self.state = State::Head;
    }

    /// Frees the buffer: most connections carry a few requests and then idle.
    fn clear(&mut self) {
        self.buffer = Vec::new();
        self.line = 0;
    }
}

pub(super) fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
