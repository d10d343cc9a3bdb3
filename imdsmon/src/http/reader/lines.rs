//! The reader's states that work on lines.

use super::super::request::{self, Framing};
use super::{Buffered, HttpReader, Item, Origin, State, length};

impl HttpReader {
    pub(super) fn head(&mut self, bytes: &[u8], at: Origin, found: &mut impl FnMut(Item)) -> usize {
        let mut used = 0;
        if self.buffer.is_empty() {
            // RFC 9112, 2.2: blank lines before a request are ignored.
            used = request::blank_lines(bytes);
        }
        while used < bytes.len() {
            let (more, fill) = self.fill(&bytes[used..], at);
            used += more;
            match fill {
                Buffered::Partial => {}
                Buffered::Full => {
                    let mid_line = self.buffer.last() != Some(&b'\n');
                    self.discard(mid_line);
                    break;
                }
                Buffered::Line => {
                    if self.head_line(found) {
                        break;
                    }
                }
            }
        }
        used
    }

    /// Examines a line of a head; true if it was the last one, or not part of a head.
    fn head_line(&mut self, found: &mut impl FnMut(Item)) -> bool {
        let line = &self.buffer[self.line..];
        if self.line == 0 {
            match request::request_line(line).map(|line| line.protocol) {
                None => {
                    self.discard(false);
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
            Some((request, framing)) => {
                self.between_requests();
                if request.protocol == "0.9" {
                    self.state = State::After09;
                } else {
                    match framing {
                        Framing::None => {}
                        Framing::Length(rest) => self.state = State::Body { rest, begun: false },
                        Framing::Chunked => self.state = State::ChunkSize,
                    }
                }
                self.just_requested = true;
                found(Item::Request(request, at));
            }
            None => self.discard(false),
        }
        true
    }

    pub(super) fn undecided(&mut self, bytes: &[u8], at: Origin, rest: u64) -> usize {
        let (used, fill) = self.fill(bytes, at);
        let is_body = match fill {
            Buffered::Partial => !request::may_replace_body(&self.buffer),
            Buffered::Full => true,
            Buffered::Line => {
                !(request::may_replace_body(&self.buffer) && request::is_certain(&self.buffer))
            }
        };
        if is_body {
            self.reread = (std::mem::take(&mut self.buffer), 0);
            self.state = State::Body { rest, begun: true };
        } else if matches!(fill, Buffered::Line) {
            self.resume();
        }
        used
    }

    pub(super) fn chunk_line(&mut self, bytes: &[u8], at: Origin) -> usize {
        let (used, fill) = self.fill(bytes, at);
        match fill {
            Buffered::Partial => return used,
            Buffered::Full => {
                self.discard(true);
                return used;
            }
            Buffered::Line => {}
        }
        let line = request::trim_end(&self.buffer);
        let in_trailer = matches!(self.state, State::Trailer);
        if request::is_certain(line) {
            // The client omits the body: the request was rejected before the body was sent.
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
            self.discard(false);
        }
        used
    }

    pub(super) fn skip_line(&mut self, line: &[u8]) -> usize {
        let State::Discard {
            bytes, mid_line, ..
        } = &mut self.state
        else {
            return 0;
        };
        let end = line.iter().position(|&b| b == b'\n');
        *mid_line = end.is_none();
        let used = end.map_or(line.len(), |i| i + 1);
        *bytes += length(used);
        used
    }

    pub(super) fn discarded_line(
        &mut self,
        line: &[u8],
        at: Origin,
        found: &mut impl FnMut(Item),
    ) -> usize {
        let (used, fill) = self.fill(line, at);
        let State::Discard {
            bytes, at: since, ..
        } = self.state
        else {
            return used;
        };
        match fill {
            Buffered::Line if request::is_certain(&self.buffer) => {
                if bytes > 0 {
                    found(Item::Unparsed(bytes, since));
                }
                self.resume();
            }
            Buffered::Partial if request::may_be_certain(&self.buffer) => {}
            fill => {
                let mid_line = !matches!(fill, Buffered::Line);
                self.discard(mid_line);
            }
        }
        used
    }
}

/// The size of a chunk, in hexadecimal; an extension may follow.
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
