//! Parses the head of a request.
//!
//! [`httparse`] accepts what RFC 9112 allows. A tolerant parser accepts the rest: raw spaces in
//! the path, spaces before a header's colon, folded lines, any number of headers. IMDS responds to
//! such requests, so a monitor that rejects them misses clients that break under `IMDSv2`. Where
//! both parsers accept a head, they agree; a property test checks that.

use super::call::{Auth, Request, TokenValue};

const MAX_METHOD_BYTES: usize = 32;
const MAX_PATH_BYTES: usize = 2048;
const MAX_QUERY_BYTES: usize = 2048;
const MAX_USER_AGENT_BYTES: usize = 1024;
/// Headers that the strict parser takes; a head with more goes to the tolerant one.
const MAX_STRICT_HEADERS: usize = 64;

/// How the end of a request's body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// Parses a head from its request line to its blank line, if it has one.
pub(super) fn parse(head: &[u8]) -> Option<(Request, Framing)> {
    strict(head)
        .or_else(|| tolerant(head))
        .map(Parsed::into_request)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    pub(crate) protocol: &'static str,
}

/// Parses a request line where a request may start. The target may contain spaces; a GET without
/// a protocol is HTTP/0.9.
pub(super) fn request_line(line: &[u8]) -> Option<RequestLine<'_>> {
    let line = trim(line);
    let space = line.iter().position(|&b| is_space(b))?;
    let (method, rest) = (&line[..space], trim(&line[space..]));
    if !method.iter().all(|&b| is_tchar(b)) || method.is_empty() {
        return None;
    }
    let last = rest.iter().rposition(|&b| is_space(b)).map_or(0, |i| i + 1);
    if let Some(number) = after_http(&rest[last..]) {
        let protocol = match number {
            b"1.0" => "1.0",
            [b'1', b'.', b'0'..=b'9'] => "1.1",
            _ => return None,
        };
        let target = trim(&rest[..last]);
        return (!target.is_empty()).then_some(RequestLine {
            method,
            target,
            protocol,
        });
    }
    (method == b"GET" && begins_target(rest)).then_some(RequestLine {
        method,
        target: rest,
        protocol: "0.9",
    })
}

/// Whether a line is certain to be a request line. Only such a line ends the search for the next
/// request: `METHOD SP target SP HTTP/1.x`, the target a path or an `http` URL without spaces.
pub(super) fn is_certain(line: &[u8]) -> bool {
    if !may_be_certain(line) {
        return false;
    }
    let mut words = trim_end(line).split(|&b| b == b' ');
    let (_method, target, protocol, more) =
        (words.next(), words.next(), words.next(), words.next());
    target.is_some_and(|t| begins_target(t) && t.iter().all(|b| !b.is_ascii_control()))
        && protocol
            .and_then(after_http)
            .is_some_and(|number| matches!(number, [b'1', b'.', b'0'..=b'9']))
        && more.is_none()
}

/// Whether a line with this start can become one that [`is_certain`].
pub(super) fn may_be_certain(start: &[u8]) -> bool {
    let method = start
        .iter()
        .take(17)
        .take_while(|b| b.is_ascii_uppercase())
        .count();
    if method == start.len() {
        return method <= 16;
    }
    (1..=16).contains(&method) && start[method] == b' ' && may_begin_target(&start[method + 1..])
}

/// Whether bytes with this start, where a body was announced, can be a request line instead. A
/// body may start with capitals, so only methods that clients use count.
pub(super) fn may_replace_body(start: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] = [
        b"GET", b"PUT", b"HEAD", b"POST", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT",
    ];
    METHODS.iter().any(|method| {
        let known = start.len().min(method.len());
        start[..known] == method[..known]
    }) && may_be_certain(start)
}

/// The part after `HTTP/`, which servers accept in any case.
fn after_http(protocol: &[u8]) -> Option<&[u8]> {
    let (name, number) = protocol.split_at_checked(5)?;
    name.eq_ignore_ascii_case(b"HTTP/").then_some(number)
}

fn begins_target(target: &[u8]) -> bool {
    target.first() == Some(&b'/') || after_scheme(target).is_some()
}

fn may_begin_target(start: &[u8]) -> bool {
    let known = start.len().min(7);
    start.first().is_none_or(|&b| b == b'/')
        || start[..known].eq_ignore_ascii_case(&b"http://"[..known])
}

/// The part after `http://`.
fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = target.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"http://").then_some(rest)
}

/// A head, as slices of the captured bytes.
#[derive(Debug, PartialEq, Eq)]
struct Parsed<'a> {
    line: RequestLine<'a>,
    token: Option<TokenValue>,
    user_agent: Option<&'a [u8]>,
    length: Option<u64>,
    chunked: bool,
}

impl<'a> Parsed<'a> {
    fn new(line: RequestLine<'a>) -> Self {
        Self {
            line,
            token: None,
            user_agent: None,
            length: None,
            chunked: false,
        }
    }

    /// Adds a header. Of two token headers the one with a token counts, of others the first valid
    /// one.
    fn header(&mut self, name: &[u8], value: &'a [u8]) {
        let value = trim(value);
        if name.eq_ignore_ascii_case(b"x-aws-ec2-metadata-token") {
            let value = token_value(value);
            if self.token != Some(TokenValue::Present) {
                self.token = Some(value);
            }
        } else if name.eq_ignore_ascii_case(b"user-agent") {
            self.user_agent = self.user_agent.or((!value.is_empty()).then_some(value));
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.length = self.length.or_else(|| content_length(value));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked |= value
                .split(|&b| b == b',')
                .any(|coding| trim(coding).eq_ignore_ascii_case(b"chunked"));
        }
    }

    fn into_request(self) -> (Request, Framing) {
        let Self {
            line:
                RequestLine {
                    method,
                    target,
                    protocol,
                },
            token,
            user_agent,
            length,
            chunked,
        } = self;
        let target = origin_form(target);
        let (path, query) = match target.iter().position(|&b| b == b'?') {
            Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
            None => (target, None),
        };
        // A request with a token header is IMDSv2, whatever its method and path.
        let auth = match token {
            Some(token) => Auth::V2(token),
            None if method == b"PUT" && is_token_path(path) => Auth::TokenRequest,
            None => Auth::V1,
        };
        let framing = match (chunked, length) {
            (true, _) => Framing::Chunked,
            (false, None | Some(0)) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
        };
        let request = Request {
            auth,
            method: text(method, MAX_METHOD_BYTES),
            path: text(path, MAX_PATH_BYTES),
            query: query.map(|q| text(q, MAX_QUERY_BYTES)),
            protocol,
            user_agent: user_agent.map(|u| text(u, MAX_USER_AGENT_BYTES)),
        };
        (request, framing)
    }
}

/// Accepts what RFC 9112 allows.
fn strict(head: &[u8]) -> Option<Parsed<'_>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_STRICT_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(end)) if end == head.len() => {}
        _ => return None,
    }
    let mut parsed = Parsed::new(RequestLine {
        method: request.method?.as_bytes(),
        target: request.path?.as_bytes(),
        protocol: if request.version? == 0 { "1.0" } else { "1.1" },
    });
    for header in &*request.headers {
        parsed.header(header.name.as_bytes(), header.value);
    }
    Some(parsed)
}

/// Accepts what clients send.
fn tolerant(head: &[u8]) -> Option<Parsed<'_>> {
    let mut rest = head;
    // Empty lines before a request are ignored (RFC 9112, 2.2).
    while let Some(after) = rest.strip_prefix(b"\r\n").or(rest.strip_prefix(b"\n")) {
        rest = after;
    }
    let mut parsed = Parsed::new(request_line(take_line(&mut rest))?);
    // Lines folded into the request line are skipped: they are not headers.
    while rest.first().is_some_and(|&b| is_space(b)) {
        take_line(&mut rest);
    }
    while !rest.is_empty() {
        let line = take_folded_line(&mut rest);
        if let Some(colon) = line.iter().position(|&b| b == b':') {
            parsed.header(trim(&line[..colon]), &line[colon + 1..]);
        }
    }
    Some(parsed)
}

fn take_line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest
        .iter()
        .position(|&b| b == b'\n')
        .map_or(rest.len(), |i| i + 1);
    let (line, behind) = rest.split_at(end);
    *rest = behind;
    line
}

/// A line with the lines folded into it, which start with a space (RFC 9112, 5.2).
fn take_folded_line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let whole = *rest;
    take_line(rest);
    while rest.first().is_some_and(|&b| is_space(b)) {
        take_line(rest);
    }
    &whole[..whole.len() - rest.len()]
}

/// Classifies a token by its form. Capture has blanked the value: `*` stands for a byte that a
/// token may contain (RFC 9110 token68), `!` for any other. An unblanked value is accepted too.
fn token_value(value: &[u8]) -> TokenValue {
    let fits = |&b: &u8| b.is_ascii_alphanumeric() || b"*-._~+/=".contains(&b);
    if !value.is_empty() && value.iter().all(fits) {
        TokenValue::Present
    } else {
        TokenValue::Empty
    }
}

/// Parses `5`, or the first of `5, 5`. A number above 64 bits becomes the largest.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    let first = trim(value.split(|&b| b == b',').next()?);
    if first.is_empty() {
        return None;
    }
    first.iter().try_fold(0_u64, |number, &b| {
        b.is_ascii_digit().then(|| {
            number
                .saturating_mul(10)
                .saturating_add(u64::from(b - b'0'))
        })
    })
}

/// The path of `http://host/path`; other targets are paths already.
fn origin_form(target: &[u8]) -> &[u8] {
    let Some(rest) = after_scheme(target) else {
        return target;
    };
    match rest.iter().position(|&b| b == b'/' || b == b'?') {
        Some(path) if rest[path] == b'/' => &rest[path..],
        _ => b"/",
    }
}

/// Whether a path ends with `/api/token`, with any number of slashes between and after.
fn is_token_path(path: &[u8]) -> bool {
    let mut parts = path.rsplit(|&b| b == b'/').filter(|part| !part.is_empty());
    parts.next() == Some(b"token") && parts.next() == Some(b"api")
}

/// At most `limit` bytes of text; invalid UTF-8 is replaced.
pub(super) fn text(bytes: &[u8], limit: usize) -> String {
    // Four extra bytes: a character split at the end lies after the limit.
    let start = &bytes[..bytes.len().min(limit + 4)];
    let mut text = String::from_utf8_lossy(start).into_owned();
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.shrink_to_fit();
    text
}

fn is_space(b: u8) -> bool {
    b == b' ' || b == b'\t'
}

/// A byte of an RFC 9110 token.
fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Trims spaces, tabs and line ends.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes
        .iter()
        .position(|&b| !is_blank(b))
        .unwrap_or(bytes.len());
    let bytes = &bytes[start..];
    let end = bytes
        .iter()
        .rposition(|&b| !is_blank(b))
        .map_or(0, |i| i + 1);
    &bytes[..end]
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// Number of bytes in the blank lines at the start.
pub(super) fn blank_lines(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|&b| b != b'\r' && b != b'\n')
        .unwrap_or(bytes.len())
}

pub(super) fn trim_end(line: &[u8]) -> &[u8] {
    let end = line
        .iter()
        .rposition(|&b| b != b'\r' && b != b'\n')
        .map_or(0, |i| i + 1);
    &line[..end]
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
