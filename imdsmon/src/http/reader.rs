//! The client's half of a connection, in order: where requests begin, where their heads and
//! bodies end, and which bytes belong to no request.
//!
//! The reader is a state machine over the byte stream, so that it does not matter how the stream
//! is cut into segments. It buffers a head until its blank line and otherwise single lines;
//! bodies are counted, never kept. Bytes that are no request are discarded, line by line, until a
//! line is a request line beyond doubt: nothing is guessed.

mod lines;

use super::call::Request;
use super::request;
use crate::event::{Endpoint, TaskId};
use crate::time::Timestamp;

/// Where a byte came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub time: Timestamp,
    pub task: Option<TaskId>,
    pub server: Endpoint,
}

/// What the reader finds; each with where its first byte came from.
#[derive(Debug)]
pub(super) enum Parsed {
    Request(Request, Origin),
    /// This many bytes that are no request.
    Garbage(u64, Origin),
}

#[derive(Debug)]
enum State {
    /// In a head, or before one: `buffer` holds it so far.
    Head,
    /// In a body with this many bytes to come; whether any of them has come.
    Body { rest: u64, begun: bool },
    /// The request was answered before its body began, so that the next bytes may be the body or
    /// a request in its place: `buffer` holds them until that is clear.
    Undecided { rest: u64 },
    /// Before or in a chunk-size line, which `buffer` holds.
    ChunkSize,
    /// In a chunk with this many bytes to come.
    Chunk { rest: u64 },
    /// Behind the last chunk; `buffer` holds a trailer line.
    Trailer,
    /// In bytes that are no request. `buffer` holds a line that may turn out to be a request
    /// line, unless that is hopeless for the current one.
    Discard {
        bytes: u64,
        at: Origin,
        hopeless: bool,
    },
    /// Behind an HTTP/0.9 request: such a connection should carry no other.
    Behind09,
    /// What the server reads is not what was sent: no byte counts as a request any more.
    Stopped { bytes: u64, at: Origin },
}

/// How filling the buffer ended.
enum Fill {
    Line,
    More,
    Full,
}

#[derive(Debug)]
pub(super) struct Reader {
    state: State,
    buffer: Vec<u8>,
    /// Where the first byte of `buffer` came from.
    buffer_at: Origin,
    /// Where the line in progress begins in `buffer`: what is before was looked at.
    line: usize,
    /// Bytes to read once more, and how many of them have been.
    again: (Vec<u8>, usize),
    /// A request was found in the bytes being read: it cannot have been answered yet.
    fresh: bool,
    limit: usize,
}

impl Reader {
    /// `limit` bounds a head and any other line, in bytes.
    pub(super) fn new(limit: usize, at: Origin) -> Self {
        Self {
            state: State::Head,
            buffer: Vec::new(),
            buffer_at: at,
            line: 0,
            again: (Vec::new(), 0),
            fresh: false,
            limit,
        }
    }

    /// Reads the next bytes. `answered` says that no request on the connection waits for an
    /// answer. Every item goes to `found` as soon as its last byte is read.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        at: Origin,
        answered: bool,
        found: &mut impl FnMut(Parsed),
    ) {
        let mut rest = bytes;
        self.fresh = false;
        loop {
            let (again, read) = std::mem::take(&mut self.again);
            if read < again.len() {
                let used = read + self.step(&again[read..], at, answered, found);
                if self.again.0.is_empty() {
                    self.again = (again, used);
                } else {
                    // Bytes to read once more were found among just those: they come first.
                    self.again.0.extend_from_slice(&again[used..]);
                }
                continue;
            }
            if rest.is_empty() {
                return;
            }
            let used = self.step(rest, at, answered, found);
            rest = &rest[used..];
        }
    }

    /// Goes past bytes that were sent but not captured. What they cut short is garbage; they
    /// themselves are not, since they were never captured.
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
            State::Behind09 | State::Stopped { .. } => {}
            _ => self.discard(false),
        }
    }

    /// From here on nothing can be read; what is incomplete is garbage. `at` is where the next
    /// byte comes from.
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

    /// Whether nothing can be read any more.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped { .. })
    }

    /// The stream ends here, or is given up: what is in progress comes out as garbage.
    pub(super) fn end(&mut self, found: &mut impl FnMut(Parsed)) {
        if self.is_incomplete() {
            let held = length(self.buffer.len());
            match self.state {
                State::Discard { bytes, at, .. } if bytes > 0 => {
                    found(Parsed::Garbage(bytes.saturating_add(held), at));
                }
                State::Stopped { bytes, at } => found(Parsed::Garbage(bytes, at)),
                _ => found(Parsed::Garbage(held, self.buffer_at)),
            }
        }
        match &mut self.state {
            State::Behind09 => {}
            State::Stopped { bytes, .. } => *bytes = 0,
            _ => self.between_requests(),
        }
    }

    /// Whether [`Reader::end`] would find something.
    pub(super) fn is_incomplete(&self) -> bool {
        match self.state {
            State::Head | State::Undecided { .. } => !self.buffer.is_empty(),
            State::Discard { bytes, .. } => bytes > 0 || !self.buffer.is_empty(),
            State::ChunkSize | State::Trailer => {
                !self.buffer.is_empty() && request::may_replace_body(&self.buffer)
            }
            State::Stopped { bytes, .. } => bytes > 0,
            State::Body { .. } | State::Chunk { .. } | State::Behind09 => false,
        }
    }

    /// Bytes of memory that the buffers take.
    pub(super) fn footprint(&self) -> usize {
        self.buffer.capacity() + self.again.0.capacity()
    }

    /// Reads at least one byte, or changes the state such that the next step does.
    fn step(
        &mut self,
        bytes: &[u8],
        at: Origin,
        answered: bool,
        found: &mut impl FnMut(Parsed),
    ) -> usize {
        if let State::Body { rest, begun: false } = self.state {
            self.state = if answered && !self.fresh {
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
            State::Discard { hopeless: true, .. } => self.skip_line(bytes),
            State::Discard { .. } => self.discarded_line(bytes, at, found),
            State::Behind09 => {
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

    /// Moves bytes to the buffer, to the end of the line or to the limit.
    fn fill(&mut self, bytes: &[u8], at: Origin) -> (usize, Fill) {
        if self.buffer.is_empty() {
            self.buffer_at = at;
            self.line = 0;
        }
        let room = self.limit.saturating_sub(self.buffer.len());
        let window = &bytes[..bytes.len().min(room)];
        let (used, fill) = match window.iter().position(|&b| b == b'\n') {
            Some(i) => (i + 1, Fill::Line),
            None if window.len() < bytes.len() => (window.len(), Fill::Full),
            None => (window.len(), Fill::More),
        };
        self.buffer.extend_from_slice(&window[..used]);
        (used, fill)
    }

    /// The line in the buffer is the first of a request.
    fn resume(&mut self) {
        self.state = State::Head;
        self.line = self.buffer.len();
    }

    /// Counts the buffer as garbage. `hopeless`: the next byte is in the middle of a line.
    fn discard(&mut self, hopeless: bool) {
        let held = length(self.buffer.len());
        let (bytes, at) = match self.state {
            State::Discard { bytes, at, .. } if bytes > 0 => (bytes.saturating_add(held), at),
            _ => (held, self.buffer_at),
        };
        self.clear();
        self.state = State::Discard {
            bytes,
            at,
            hopeless,
        };
    }

    fn between_requests(&mut self) {
        self.clear();
        self.state = State::Head;
    }

    /// Frees the buffer: most connections carry a few requests and then wait for long.
    fn clear(&mut self) {
        self.buffer = Vec::new();
        self.line = 0;
    }
}

/// A length as it is counted over a connection's life.
pub(super) fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
