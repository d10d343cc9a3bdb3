//! Splits the bytes of a connection into requests, without I/O.
//!
//! Keeps at most [`MAX_HEAD_LEN`] bytes and one read of a connection in memory; skips bodies.

use super::request::{BodyFraming, HttpRequest, RequestHead, parse};

/// Largest request head, in bytes; longer ones are rejected with 431.
pub(super) const MAX_HEAD_LEN: usize = 8 * 1024;

/// Largest request body, in bytes; longer ones are rejected with 413.
const MAX_BODY_LEN: u64 = 1024 * 1024;

/// Longest line of a chunked body, in bytes.
const MAX_CHUNK_LINE_LEN: usize = 1024;

/// Longest method, in bytes: other data is detected before its line ends.
const MAX_METHOD_LEN: usize = 16;

/// The result of reading the bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Incomplete: feed more bytes.
    NeedsBytes,
    /// The client waits for `100 Continue`: send it and advance again.
    Continue,
    Request(HttpRequest),
    /// Not HTTP, or too large: respond with this status and close.
    Malformed(u16),
}

/// Position in the body of the request in `RequestReader::pending`, with the bytes left.
enum BodyState {
    Sized(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
}

#[derive(Default)]
pub(super) struct RequestReader {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are consumed.
    used: usize,
    /// Bytes after `used` without the end of a head.
    searched: usize,
    pending: Option<(HttpRequest, BodyState)>,
    /// Bytes of body still allowed for the pending request.
    allowance: u64,
}

impl RequestReader {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.buffer.extend_from_slice(bytes);
    }

    pub(super) fn advance(&mut self) -> Progress {
        if self.pending.is_some() {
            return self.skip_body();
        }
        let blank = self
            .rest()
            .iter()
            .take_while(|b| matches!(b, b'\r' | b'\n'))
            .count();
        self.used += blank;
        if !looks_like_a_request(self.rest()) {
            return Progress::Malformed(400);
        }
        let Some(end) = self.head_end() else {
            return if self.rest().len() > MAX_HEAD_LEN {
                Progress::Malformed(431)
            } else {
                Progress::NeedsBytes
            };
        };
        if end > MAX_HEAD_LEN {
            return Progress::Malformed(431);
        }
        let head = &self.buffer[self.used..self.used + end];
        let parsed = parse(head);
        self.used += end;
        self.searched = 0;
        let Some(RequestHead {
            request,
            body,
            expects_continue,
        }) = parsed
        else {
            return Progress::Malformed(400);
        };
        let body = match body {
            BodyFraming::None => return Progress::Request(request),
            BodyFraming::Length(length) => BodyState::Sized(length),
            BodyFraming::Chunked => BodyState::ChunkSize,
        };
        self.pending = Some((request, body));
        self.allowance = MAX_BODY_LEN;
        if expects_continue {
            Progress::Continue
        } else {
            self.skip_body()
        }
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Length of the head with its empty line, once that is there.
    fn head_end(&mut self) -> Option<usize> {
        let rest = &self.buffer[self.used..];
        let first = rest.iter().position(|b| *b == b'\n')? + 1;
        if !has_version(&rest[..first]) {
            return Some(first);
        }
        // The end may begin up to three bytes before the new bytes.
        let from = self.searched.saturating_sub(3).max(first - 1);
        let found = (from..rest.len()).find_map(|at| match &rest[at..] {
            [b'\n', b'\n', ..] => Some(at + 2),
            [b'\n', b'\r', b'\n', ..] => Some(at + 3),
            _ => None,
        });
        self.searched = rest.len();
        found
    }

    fn skip_body(&mut self) -> Progress {
        while let Some((_, body)) = &mut self.pending {
            let rest = &self.buffer[self.used..];
            let (used, next) = match body {
                BodyState::Sized(0) => (0, None),
                BodyState::Sized(left) | BodyState::Chunk(left) if *left > 0 => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    if here == 0 {
                        return Progress::NeedsBytes;
                    }
                    *left -= here as u64;
                    let Some(allowance) = self.allowance.checked_sub(here as u64) else {
                        return Progress::Malformed(413);
                    };
                    self.allowance = allowance;
                    self.used += here;
                    continue;
                }
                BodyState::Sized(_) | BodyState::Chunk(_) => (0, Some(BodyState::ChunkEnd)),
                BodyState::ChunkSize | BodyState::ChunkEnd | BodyState::Trailer => {
                    let Some(end) = rest.iter().position(|b| *b == b'\n') else {
                        return if rest.len() > MAX_CHUNK_LINE_LEN {
                            Progress::Malformed(400)
                        } else {
                            Progress::NeedsBytes
                        };
                    };
                    let line = rest[..end].trim_ascii();
                    let next = match body {
                        BodyState::ChunkSize => match chunk_size(line) {
                            Some(0) => Some(BodyState::Trailer),
                            Some(size) => Some(BodyState::Chunk(size)),
                            None => return Progress::Malformed(400),
                        },
                        BodyState::ChunkEnd if line.is_empty() => Some(BodyState::ChunkSize),
                        BodyState::Trailer if line.is_empty() => None,
                        BodyState::Trailer => Some(BodyState::Trailer),
                        _ => return Progress::Malformed(400),
                    };
                    // Lines count toward the limit of the body.
                    let Some(allowance) = self.allowance.checked_sub(end as u64 + 1) else {
                        return Progress::Malformed(413);
                    };
                    self.allowance = allowance;
                    (end + 1, next)
                }
            };
            self.used += used;
            match next {
                Some(next) => *body = next,
                None => break,
            }
        }
        match self.pending.take() {
            Some((request, _)) => Progress::Request(request),
            None => Progress::NeedsBytes,
        }
    }
}

/// Also true for an empty buffer.
fn looks_like_a_request(bytes: &[u8]) -> bool {
    let method = bytes.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    method <= MAX_METHOD_LEN && (method == bytes.len() || (method > 0 && bytes[method] == b' '))
}

fn has_version(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    line.rsplit(|b| *b == b' ')
        .next()
        .is_some_and(|last| last.starts_with(b"HTTP/"))
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|b| *b == b';').next()?.trim_ascii();
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::{
        super::request::{HttpMethod, HttpVersion},
        *,
    };

    /// Feeds pieces of `size` bytes and collects the results.
    fn read(bytes: &[u8], size: usize) -> Vec<Progress> {
        let (mut reader, mut steps) = (RequestReader::default(), Vec::new());
        for piece in bytes.chunks(size) {
            reader.feed(piece);
            loop {
                match reader.advance() {
                    Progress::NeedsBytes => break,
                    malformed @ Progress::Malformed(_) => {
                        steps.push(malformed);
                        return steps;
                    }
                    step => steps.push(step),
                }
            }
        }
        steps
    }

    fn paths(bytes: &[u8]) -> Vec<String> {
        let whole = read(bytes, bytes.len());
        for size in [1, 2, 3, 7, 64] {
            assert_eq!(read(bytes, size), whole, "in pieces of {size}");
        }
        whole
            .into_iter()
            .map(|step| match step {
                Progress::Request(request) => request.path,
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn requests_end_where_their_framing_says() {
        for (bytes, expected) in [
            (&b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\n\r\n"[..], &["/a", "/b"][..]),
            (b"GET /a HTTP/1.1\nHost: x\n\nGET /b HTTP/1.0\n\n", &["/a", "/b"]),
            (b"\r\n\r\nGET /a b c HTTP/1.1\r\n\r\n", &["/a b c"]),
            (b"GET /a?token=1 HTTP/1.1\r\n\r\n", &["/a"]),
            (b"GET http://169.254.169.254/a HTTP/1.1\r\n\r\n", &["/a"]),
            (b"GET /a\r\nGET /b\n", &["/a", "/b"]),
            (b"PUT /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n\r\n", &["/a", "/b"]),
            (
                b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
                &["/a", "/b"],
            ),
            (b"PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na", &["Continue", "/a"]),
            (b"PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n", &["/a"]),
            (b"GET /a HTTP/1.1\r\nX: \xff\xfe\r\n\r\n", &["/a"]),
            (b"GET /a HTTP/1.1\r\nno colon\r\n\r\n", &["Malformed(400)"]),
            (b"GET /a HTTP/2.0\r\n\r\n", &["Malformed(400)"]),
            (b"PUT /a\r\n", &["Malformed(400)"]),
            (b"GET a HTTP/1.1\r\n\r\n", &["Malformed(400)"]),
            (b"\x16\x03\x01\x02\x00\x01", &["Malformed(400)"]),
            (b"PUT /a HTTP/1.1\r\nContent-Length: -1\r\n\r\n", &["Malformed(400)"]),
            (b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", &["Malformed(400)"]),
        ] {
            assert_eq!(paths(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn header_names_are_case_insensitive() {
        let [Progress::Request(request)] = &read(
            b"PUT /latest/api/token HTTP/1.0\r\nx-aws-EC2-metadata-token:v\r\nX-Forwarded-For: 1\r\n\
              X-aws-ec2-metadata-token-ttl-seconds: 60 \r\nConnection: Keep-Alive\r\n\r\n",
            16,
        )[..] else {
            panic!("one request");
        };
        assert_eq!(request.token.as_deref(), Some(&b"v"[..]));
        assert_eq!(request.ttl.as_deref(), Some(&b"60"[..]));
        assert!(request.forwarded && request.keep_alive);
        assert_eq!(
            (request.method, request.version),
            (HttpMethod::Put, HttpVersion::Http10)
        );
    }

    #[test]
    fn endless_heads_and_bodies_are_rejected() {
        let mut endless = b"GET /a HTTP/1.1\r\nX: ".to_vec();
        endless.resize(3 * MAX_HEAD_LEN, b'a');
        assert_eq!(read(&endless, 1000), [Progress::Malformed(431)]);
        let mut body = b"PUT /a HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n".to_vec();
        body.resize(2_000_000, b'a');
        assert_eq!(read(&body, 4096), [Progress::Malformed(413)]);
        let mut chunks = b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        chunks.extend(b"1\r\na\r\n".repeat(400_000));
        assert_eq!(read(&chunks, 4096), [Progress::Malformed(413)]);
    }
}
