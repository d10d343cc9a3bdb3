//! The client's half of a connection, in order: where requests begin, where their heads and
//! bodies end, and which bytes belong to no request.
//!
//! The reader is a state machine over the byte stream, so that it does not matter how the stream
//! is cut into segments. It buffers a head until its blank line and otherwise single lines;
//! bodies are counted, never kept. Bytes that are no request are discarded, line by line, until a
//! line is a request line beyond doubt: nothing is guessed.

use super::request::{self, Framing, Request};
use crate::capture::event::{Endpoint, TaskId, UnixNanos};

/// Where a byte came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub time: UnixNanos,
    pub task: TaskId,
    pub server: Endpoint,
}

/// What the reader finds; each with where its first byte came from.
#[derive(Debug)]
pub(super) enum Item {
    Request(Request, At),
    /// This many bytes that are no request.
    Garbage(u64, At),
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
    Discard { bytes: u64, at: At, hopeless: bool },
    /// Behind an HTTP/0.9 request: such a connection carries no other.
    Ignore,
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
    buffer_at: At,
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
    pub(super) fn new(limit: usize, at: At) -> Self {
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
        at: At,
        answered: bool,
        found: &mut impl FnMut(Item),
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

    /// Goes past bytes that were sent but not captured.
    pub(super) fn gap(&mut self, bytes: u64, at: At) {
        match &mut self.state {
            State::Body { rest, begun } if bytes <= *rest => {
                *rest -= bytes;
                *begun = true;
                if *rest == 0 {
                    self.state = State::Head;
                }
            }
            State::Chunk { rest } if bytes < *rest => *rest -= bytes,
            State::Body { rest, .. } | State::Chunk { rest } => {
                let beyond = bytes - *rest;
                self.discard(beyond, at, false);
            }
            State::Ignore => {}
            _ => {
                let at = if self.buffer.is_empty() {
                    at
                } else {
                    self.buffer_at
                };
                self.discard(bytes, at, false);
            }
        }
    }

    /// The stream ends here, or is given up: what is in progress comes out as garbage.
    pub(super) fn end(&mut self, found: &mut impl FnMut(Item)) {
        if self.is_incomplete() {
            let held = length(self.buffer.len());
            match self.state {
                State::Discard { bytes, at, .. } => found(Item::Garbage(bytes + held, at)),
                _ => found(Item::Garbage(held, self.buffer_at)),
            }
        }
        if !matches!(self.state, State::Ignore) {
            self.between_requests();
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
            State::Body { .. } | State::Chunk { .. } | State::Ignore => false,
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
        at: At,
        answered: bool,
        found: &mut impl FnMut(Item),
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
            State::Ignore => bytes.len(),
        }
    }

    fn head(&mut self, bytes: &[u8], at: At, found: &mut impl FnMut(Item)) -> usize {
        let mut used = 0;
        if self.buffer.is_empty() {
            // RFC 9112, 2.2: blank lines before a request mean nothing.
            used = bytes
                .iter()
                .position(|&b| b != b'\r' && b != b'\n')
                .unwrap_or(bytes.len());
        }
        while used < bytes.len() {
            let (more, fill) = self.fill(&bytes[used..], at);
            used += more;
            match fill {
                Fill::More => {}
                Fill::Full => {
                    let hopeless = self.buffer.last() != Some(&b'\n');
                    self.discard(0, self.buffer_at, hopeless);
                    break;
                }
                Fill::Line => {
                    if self.head_line(found) {
                        break;
                    }
                }
            }
        }
        used
    }

    /// Looks at a line of a head; true if it was the last one, or none at all.
    fn head_line(&mut self, found: &mut impl FnMut(Item)) -> bool {
        let line = &self.buffer[self.line..];
        if self.line == 0 {
            match request::request_line(line).map(|line| line.protocol) {
                None => {
                    self.discard(0, self.buffer_at, false);
                    return true;
                }
                Some("0.9") => {}
                Some(_) => {
                    self.line = self.buffer.len();
                    return false;
                }
            }
        } else if !request::trim_end(line).is_empty() {
            self.line = self.buffer.len();
            return false;
        }
        let at = self.buffer_at;
        match request::parse(&self.buffer) {
            Some(request) => {
                self.between_requests();
                if request.protocol == "0.9" {
                    self.state = State::Ignore;
                } else {
                    match request.body {
                        Framing::None => {}
                        Framing::Length(rest) => self.state = State::Body { rest, begun: false },
                        Framing::Chunked => self.state = State::ChunkSize,
                    }
                }
                self.fresh = true;
                found(Item::Request(request, at));
            }
            None => self.discard(0, at, false),
        }
        true
    }

    fn undecided(&mut self, bytes: &[u8], at: At, rest: u64) -> usize {
        let (used, fill) = self.fill(bytes, at);
        let is_body = match fill {
            Fill::More => !request::may_replace_body(&self.buffer),
            Fill::Full => true,
            Fill::Line => {
                !(request::may_replace_body(&self.buffer) && request::is_certain(&self.buffer))
            }
        };
        if is_body {
            self.again = (std::mem::take(&mut self.buffer), 0);
            self.state = State::Body { rest, begun: true };
        } else if matches!(fill, Fill::Line) {
            self.resume();
        }
        used
    }

    fn chunk_line(&mut self, bytes: &[u8], at: At) -> usize {
        let (used, fill) = self.fill(bytes, at);
        match fill {
            Fill::More => return used,
            Fill::Full => {
                self.discard(0, self.buffer_at, true);
                return used;
            }
            Fill::Line => {}
        }
        let line = request::trim_end(&self.buffer);
        let in_trailer = matches!(self.state, State::Trailer);
        if request::is_certain(line) {
            // The client has given up the body, as one does that was refused before sending it.
            self.resume();
        } else if line.is_empty() {
            self.buffer.clear();
            if in_trailer {
                self.between_requests();
            }
        } else if in_trailer {
            self.buffer.clear();
        } else if let Some(size) = chunk_size(line) {
            self.between_requests();
            self.state = match size {
                0 => State::Trailer,
                rest => State::Chunk { rest },
            };
        } else {
            self.discard(0, self.buffer_at, false);
        }
        used
    }

    fn skip_line(&mut self, line: &[u8]) -> usize {
        let State::Discard {
            bytes, hopeless, ..
        } = &mut self.state
        else {
            return 0;
        };
        let end = line.iter().position(|&b| b == b'\n');
        *hopeless = end.is_none();
        let used = end.map_or(line.len(), |i| i + 1);
        *bytes += length(used);
        used
    }

    fn discarded_line(&mut self, line: &[u8], at: At, found: &mut impl FnMut(Item)) -> usize {
        let (used, fill) = self.fill(line, at);
        let State::Discard {
            bytes, at: since, ..
        } = self.state
        else {
            return used;
        };
        match fill {
            Fill::Line if request::is_certain(&self.buffer) => {
                if bytes > 0 {
                    found(Item::Garbage(bytes, since));
                }
                self.resume();
            }
            Fill::More if request::may_be_certain(&self.buffer) => {}
            fill => {
                let hopeless = !matches!(fill, Fill::Line);
                self.discard(0, self.buffer_at, hopeless);
            }
        }
        used
    }

    /// Moves bytes to the buffer, to the end of the line or to the limit.
    fn fill(&mut self, bytes: &[u8], at: At) -> (usize, Fill) {
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

    /// Counts the buffer and `more` bytes as garbage. `hopeless`: the next byte is in the middle
    /// of a line.
    fn discard(&mut self, more: u64, at: At, hopeless: bool) {
        let held = more.saturating_add(length(self.buffer.len()));
        let (bytes, at) = match self.state {
            State::Discard { bytes, at, .. } if bytes > 0 => (bytes.saturating_add(held), at),
            _ => (held, at),
        };
        self.buffer = Vec::new();
        self.line = 0;
        self.state = State::Discard {
            bytes,
            at,
            hopeless,
        };
    }

    /// Frees the buffer: most connections carry a few requests and then wait for long.
    fn between_requests(&mut self) {
        self.buffer = Vec::new();
        self.line = 0;
        self.state = State::Head;
    }
}

/// Reads the size of a chunk, in hexadecimal; an extension may follow.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line
        .iter()
        .position(|b| b";\t ".contains(b))
        .unwrap_or(line.len());
    if end == 0 || end > 16 {
        return None;
    }
    line[..end].iter().try_fold(0_u64, |size, &b| {
        char::from(b)
            .to_digit(16)
            .map(|digit| size << 4 | u64::from(digit))
    })
}

/// A length as it is counted over a connection's life.
pub(super) fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
