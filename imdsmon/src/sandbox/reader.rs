//! Cuts what a connection carries into requests: bytes in, requests out, no I/O.
//!
//! Keeps at most [`MAX_HEAD`] bytes and one read of a connection in memory; bodies are skipped.

use super::request::{BodyFraming, HttpRequest, RequestHead, parse};

/// The longest request head, in bytes. More is answered 431.
pub(super) const MAX_HEAD: usize = 8 * 1024;

/// The longest request body, in bytes. More is answered 413.
const MAX_BODY: u64 = 1024 * 1024;

/// The longest line that frames a chunk of a body, in bytes.
const MAX_CHUNK_LINE: usize = 1024;

/// The longest method, in bytes: tells a request from noise before its line ends.
const MAX_METHOD: usize = 16;

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing yet; feed more bytes.
    More,
    /// The client waits for `100 Continue`; send it and step again.
    Continue,
    /// A request.
    Request(HttpRequest),
    /// Not HTTP, or too large: answer with this status and close.
    Bad(u16),
}

/// What is left of the body of the request in `RequestReader::pending`.
enum Body {
    Sized(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
}

/// Reads the requests of one connection.
#[derive(Default)]
pub(super) struct RequestReader {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are done with.
    used: usize,
    /// Bytes after `used` that hold no end of a head.
    searched: usize,
    pending: Option<(HttpRequest, Body)>,
    /// Bytes of body still allowed for the pending request.
    allowance: u64,
}

impl RequestReader {
    /// Takes the next bytes of the connection.
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
            return Progress::Bad(400);
        }
        let Some(end) = self.head_end() else {
            return if self.rest().len() > MAX_HEAD {
                Progress::Bad(431)
            } else {
                Progress::More
            };
        };
        if end > MAX_HEAD {
            return Progress::Bad(431);
        }
        let head = &self.buffer[self.used..self.used + end];
        let parsed = parse(head);
        self.used += end;
        self.searched = 0;
        let Some(RequestHead {
            request,
            body,
            expects,
        }) = parsed
        else {
            return Progress::Bad(400);
        };
        let body = match body {
            BodyFraming::None => return Progress::Request(request),
            BodyFraming::Length(length) => Body::Sized(length),
            BodyFraming::Chunked => Body::ChunkSize,
        };
        self.pending = Some((request, body));
        self.allowance = MAX_BODY;
        if expects {
            Progress::Continue
        } else {
            self.skip_body()
        }
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Bytes to the end of the head, the empty line included.
    fn head_end(&mut self) -> Option<usize> {
        let rest = &self.buffer[self.used..];
        let first = rest.iter().position(|b| *b == b'\n')? + 1;
        if !has_version(&rest[..first]) {
            return Some(first);
        }
        // The end may have begun up to three bytes before what is new.
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
                Body::Sized(0) => (0, None),
                Body::Sized(left) | Body::Chunk(left) if *left > 0 => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    if here == 0 {
                        return Progress::More;
                    }
                    *left -= here as u64;
                    let Some(allowance) = self.allowance.checked_sub(here as u64) else {
                        return Progress::Bad(413);
                    };
                    self.allowance = allowance;
                    self.used += here;
                    continue;
                }
                Body::Sized(_) | Body::Chunk(_) => (0, Some(Body::ChunkEnd)),
                Body::ChunkSize | Body::ChunkEnd | Body::Trailer => {
                    let Some(end) = rest.iter().position(|b| *b == b'\n') else {
                        return if rest.len() > MAX_CHUNK_LINE {
                            Progress::Bad(400)
                        } else {
                            Progress::More
                        };
                    };
                    let line = rest[..end].trim_ascii();
                    let next = match body {
                        Body::ChunkSize => match chunk_size(line) {
                            Some(0) => Some(Body::Trailer),
                            Some(size) => Some(Body::Chunk(size)),
                            None => return Progress::Bad(400),
                        },
                        Body::ChunkEnd if line.is_empty() => Some(Body::ChunkSize),
                        Body::Trailer if line.is_empty() => None,
                        Body::Trailer => Some(Body::Trailer),
                        _ => return Progress::Bad(400),
                    };
                    // Lines are body too: endless ones must end.
                    let Some(allowance) = self.allowance.checked_sub(end as u64 + 1) else {
                        return Progress::Bad(413);
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
            None => Progress::More,
        }
    }
}

/// True for nothing at all, too: it may become a request.
fn looks_like_a_request(bytes: &[u8]) -> bool {
    let method = bytes.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    method <= MAX_METHOD && (method == bytes.len() || (method > 0 && bytes[method] == b' '))
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

    /// Feeds in pieces of `size` and collects what comes out.
    fn read(bytes: &[u8], size: usize) -> Vec<Progress> {
        let (mut reader, mut steps) = (RequestReader::default(), Vec::new());
        for piece in bytes.chunks(size) {
            reader.feed(piece);
            loop {
                match reader.advance() {
                    Progress::More => break,
                    bad @ Progress::Bad(_) => {
                        steps.push(bad);
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
    fn requests_are_cut_where_they_end() {
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
            (b"GET /a HTTP/1.1\r\nno colon\r\n\r\n", &["Bad(400)"]),
            (b"GET /a HTTP/2.0\r\n\r\n", &["Bad(400)"]),
            (b"PUT /a\r\n", &["Bad(400)"]),
            (b"GET a HTTP/1.1\r\n\r\n", &["Bad(400)"]),
            (b"\x16\x03\x01\x02\x00\x01", &["Bad(400)"]),
            (b"PUT /a HTTP/1.1\r\nContent-Length: -1\r\n\r\n", &["Bad(400)"]),
            (b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", &["Bad(400)"]),
        ] {
            assert_eq!(paths(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn headers_that_matter_are_read_in_any_case() {
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
    fn what_never_ends_is_refused() {
        let mut endless = b"GET /a HTTP/1.1\r\nX: ".to_vec();
        endless.resize(3 * MAX_HEAD, b'a');
        assert_eq!(read(&endless, 1000), [Progress::Bad(431)]);
        let mut body = b"PUT /a HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n".to_vec();
        body.resize(2_000_000, b'a');
        assert_eq!(read(&body, 4096), [Progress::Bad(413)]);
        let mut chunks = b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        chunks.extend(b"1\r\na\r\n".repeat(400_000));
        assert_eq!(read(&chunks, 4096), [Progress::Bad(413)]);
    }
}
