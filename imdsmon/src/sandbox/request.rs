//! Parses the head of a request to the simulated IMDS.
//!
//! Independent of [`crate::http`]: the tests compare two implementations. Accepts what real clients
//! send: bare LF, raw spaces in a path, no `Host`, HTTP/0.9.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HttpMethod {
    Get,
    Head,
    Put,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HttpVersion {
    /// A request line without a version.
    Http09,
    Http10,
    Http11,
}

/// A request without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpRequest {
    pub(super) method: HttpMethod,
    /// Path without the query.
    pub(super) path: String,
    pub(super) version: HttpVersion,
    /// Whether the client allows the connection to stay open.
    pub(super) keep_alive: bool,
    /// Value of `X-aws-ec2-metadata-token`.
    pub(super) token: Option<Vec<u8>>,
    /// Value of `X-aws-ec2-metadata-token-ttl-seconds`.
    pub(super) ttl: Option<Vec<u8>>,
    /// Whether there is an `X-Forwarded-For` header.
    pub(super) forwarded: bool,
}

pub(super) struct RequestHead {
    pub(super) request: HttpRequest,
    pub(super) body: BodyFraming,
    /// Whether the client waits for `100 Continue`.
    pub(super) expects_continue: bool,
}

/// How the end of a request's body is determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    /// No body.
    None,
    /// `Content-Length`, at least 1.
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
}

/// Parses a complete head with its empty line; none if it is not HTTP.
pub(super) fn parse(head: &[u8]) -> Option<RequestHead> {
    let mut lines = head
        .split(|b| *b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut request = request_line(lines.next()?)?;
    let (mut length, mut chunked, mut expects_continue) = (0, false, false);
    for line in lines.filter(|line| !line.is_empty()) {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            continue; // A folded line continues the header above; only short headers matter here.
        }
        let colon = line.iter().position(|b| *b == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || name.iter().any(u8::is_ascii_whitespace) {
            return None;
        }
        match name.to_ascii_lowercase().as_slice() {
            b"x-aws-ec2-metadata-token" => request.token = Some(value.to_vec()),
            b"x-aws-ec2-metadata-token-ttl-seconds" => request.ttl = Some(value.to_vec()),
            b"x-forwarded-for" => request.forwarded = true,
            b"connection" => match value.to_ascii_lowercase().as_slice() {
                b"close" => request.keep_alive = false,
                b"keep-alive" => request.keep_alive = true,
                _ => {}
            },
            b"content-length" => length = decimal(value)?,
            b"transfer-encoding" => chunked = value.eq_ignore_ascii_case(b"chunked"),
            b"expect" => expects_continue = value.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
    }
    let body = match (chunked, length) {
        (true, _) => BodyFraming::Chunked,
        (false, 0) => BodyFraming::None,
        (false, length) => BodyFraming::Length(length),
    };
    let expects_continue = expects_continue && request.version == HttpVersion::Http11;
    Some(RequestHead {
        request,
        body,
        expects_continue,
    })
}

fn request_line(line: &[u8]) -> Option<HttpRequest> {
    let line = line.trim_ascii_end();
    let space = line.iter().position(|b| *b == b' ')?;
    let (method, rest) = (&line[..space], line[space..].trim_ascii());
    let (target, version) = match rest.iter().rposition(|b| *b == b' ') {
        Some(at) if rest[at + 1..].starts_with(b"HTTP/") => {
            (rest[..at].trim_ascii(), &rest[at + 1..])
        }
        _ => (rest, &b""[..]),
    };
    let method = match method {
        b"GET" => HttpMethod::Get,
        b"HEAD" => HttpMethod::Head,
        b"PUT" => HttpMethod::Put,
        _ => HttpMethod::Other,
    };
    let version = match version {
        // Only `GET` exists in HTTP/0.9.
        b"" if method == HttpMethod::Get => HttpVersion::Http09,
        b"HTTP/1.0" => HttpVersion::Http10,
        _ if version.starts_with(b"HTTP/1.") => HttpVersion::Http11,
        _ => return None,
    };
    Some(HttpRequest {
        method,
        path: path(target)?,
        version,
        keep_alive: version == HttpVersion::Http11,
        token: None,
        ttl: None,
        forwarded: false,
    })
}

/// The path of a target: `/path?query`, or an absolute URL as clients send it to a proxy.
fn path(target: &[u8]) -> Option<String> {
    let target = match target.strip_prefix(b"http://") {
        Some(url) => url
            .iter()
            .position(|b| *b == b'/')
            .map_or(&b"/"[..], |slash| &url[slash..]),
        None => target,
    };
    if !target.starts_with(b"/") {
        return None;
    }
    let path = target.split(|b| *b == b'?').next()?;
    Some(String::from_utf8_lossy(path).into_owned())
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}
