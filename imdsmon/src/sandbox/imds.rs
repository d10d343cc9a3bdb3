//! Responses of the simulated IMDS: the rules of the EC2 User Guide, "How Instance Metadata
//! Service Version 2 works", and the headers of real responses.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};

use super::{
    config::{HttpTokens, ImdsConfig, TokenRequestMode},
    counts::{Listener, RequestCounter, RequestKind},
    metadata,
    request::{HttpMethod, HttpRequest, HttpVersion},
    token::{MAX_TTL, TokenIssuer},
};

/// What the server does with a connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterRequest {
    /// Send the response and wait for the next request.
    KeepAlive,
    /// Send the response and close the connection.
    Close,
    /// Keep the connection open and never respond.
    Hang,
}

/// A simulated IMDS without its sockets.
pub(super) struct Imds {
    config: ImdsConfig,
    tokens: TokenIssuer,
    counter: Arc<RequestCounter>,
    last_modified: String,
    /// The current `Date` header, with its time in seconds.
    date: Mutex<(i64, String)>,
}

struct MetadataResponse {
    status: u16,
    content_type: &'static str,
    body: String,
    /// Of a token, in seconds.
    ttl: Option<u32>,
}

/// The form of the response, from the request and the settings.
struct ResponseForm {
    version: HttpVersion,
    /// False for `HEAD`.
    has_body: bool,
    keep_alive: bool,
}

impl Imds {
    pub(super) fn new(mut config: ImdsConfig, counter: Arc<RequestCounter>) -> Self {
        config.server.retain(|c| !c.is_control());
        let now = Timestamp::now();
        Self {
            config,
            tokens: TokenIssuer::new(),
            counter,
            last_modified: http_date(now),
            date: Mutex::new((now.as_second(), http_date(now))),
        }
    }

    pub(super) fn counter(&self) -> &RequestCounter {
        &self.counter
    }

    /// Counts `request` and appends the response to `out`.
    pub(super) fn respond(
        &self,
        request: &HttpRequest,
        listener: Listener,
        out: &mut Vec<u8>,
    ) -> AfterRequest {
        let is_token_request = request.method == HttpMethod::Put && is_token_path(&request.path);
        let kind = match &request.token {
            _ if is_token_request => RequestKind::TokenRequest,
            Some(token) => RequestKind::V2 {
                empty_token: token.is_empty(),
            },
            None => RequestKind::V1,
        };
        if is_token_request && self.config.token_requests == TokenRequestMode::HopLimit {
            self.counter.request(listener, kind, None);
            return AfterRequest::Hang;
        }
        let response = if is_token_request {
            self.token(request)
        } else {
            self.data(request)
        };
        self.counter.request(listener, kind, Some(response.status));
        let form = ResponseForm {
            version: request.version,
            has_body: request.method != HttpMethod::Head,
            keep_alive: request.keep_alive && !self.config.close,
        };
        self.write(&response, &form, out);
        if form.keep_alive {
            AfterRequest::KeepAlive
        } else {
            AfterRequest::Close
        }
    }

    /// Counts a malformed request and appends the response to `out`.
    pub(super) fn reject(&self, status: u16, listener: Listener, out: &mut Vec<u8>) {
        self.counter
            .request(listener, RequestKind::Malformed, Some(status));
        let form = ResponseForm {
            version: HttpVersion::Http11,
            has_body: true,
            keep_alive: false,
        };
        self.write(&MetadataResponse::error(status), &form, out);
    }

    fn token(&self, request: &HttpRequest) -> MetadataResponse {
        match self.config.token_requests {
            TokenRequestMode::Issue | TokenRequestMode::HopLimit => {}
            TokenRequestMode::Forbidden => return MetadataResponse::error(403),
            TokenRequestMode::Throttled => return MetadataResponse::error(503),
        }
        // IMDS issues no token to a forwarded request, and only under `latest`.
        if request.forwarded || !is_latest(&request.path) {
            return MetadataResponse::error(403);
        }
        let ttl = request
            .ttl
            .as_deref()
            .and_then(|ttl| str::from_utf8(ttl).ok()?.parse().ok());
        let Some(ttl) = ttl.filter(|ttl| (1..=MAX_TTL).contains(ttl)) else {
            return MetadataResponse::error(400);
        };
        match self.tokens.issue(ttl) {
            Ok(token) => MetadataResponse {
                ttl: Some(ttl),
                ..MetadataResponse::text(token)
            },
            Err(_no_randomness) => MetadataResponse::error(500),
        }
    }

    fn data(&self, request: &HttpRequest) -> MetadataResponse {
        match &request.token {
            Some(token) if !self.tokens.is_valid(token) => return MetadataResponse::error(401),
            None if self.config.http_tokens == HttpTokens::Required => {
                return MetadataResponse::error(401);
            }
            _ => {}
        }
        if !matches!(request.method, HttpMethod::Get | HttpMethod::Head)
            || is_token_path(&request.path)
        {
            return MetadataResponse::error(405);
        }
        match metadata::look_up(&request.path, Timestamp::now()) {
            Some(value) => MetadataResponse::text(value),
            None => MetadataResponse::error(404),
        }
    }

    fn write(&self, response: &MetadataResponse, form: &ResponseForm, out: &mut Vec<u8>) {
        let MetadataResponse {
            status,
            content_type,
            body,
            ttl,
        } = response;
        // A request without a version gets the response of an HTTP/1.0 server.
        let version = match form.version {
            HttpVersion::Http11 => "1.1",
            HttpVersion::Http09 | HttpVersion::Http10 => "1.0",
        };
        let mut text = String::with_capacity(384 + body.len());
        // Writing to a string cannot fail.
        _ = write!(text, "HTTP/{version} {status} {}\r\n", reason(*status));
        if let Some(ttl) = ttl {
            _ = write!(text, "X-Aws-Ec2-Metadata-Token-Ttl-Seconds: {ttl}\r\n");
        }
        _ = write!(text, "Content-Type: {content_type}\r\n");
        if *status == 200 {
            _ = write!(
                text,
                "Accept-Ranges: none\r\nLast-Modified: {}\r\n",
                self.last_modified
            );
        }
        let server = &self.config.server;
        let connection = if form.keep_alive {
            "keep-alive"
        } else {
            "close"
        };
        _ = write!(text, "Content-Length: {}\r\nDate: ", body.len());
        self.push_date(&mut text);
        _ = write!(
            text,
            "\r\nServer: {server}\r\nConnection: {connection}\r\n\r\n"
        );
        if form.has_body {
            text.push_str(body);
        }
        out.extend_from_slice(text.as_bytes());
    }

    /// Formatting a date costs more than the rest of a response, so it is done once per second.
    fn push_date(&self, text: &mut String) {
        let now = Timestamp::now();
        let mut date = self.date.lock().unwrap_or_else(PoisonError::into_inner);
        if date.0 != now.as_second() {
            *date = (now.as_second(), http_date(now));
        }
        text.push_str(&date.1);
    }
}

impl MetadataResponse {
    fn text(body: String) -> Self {
        Self {
            status: 200,
            content_type: "text/plain",
            body,
            ttl: None,
        }
    }

    /// The page that real IMDS sends with an error.
    fn error(status: u16) -> Self {
        let title = format!("{status} - {}", reason(status));
        Self {
            status,
            content_type: "text/html",
            body: format!(
                r#"<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
	"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>{title}</title>
 </head>
 <body>
  <h1>{title}</h1>
 </body>
</html>
"#
            ),
            ttl: None,
        }
    }
}

fn is_token_path(path: &str) -> bool {
    let mut components = path.split('/').filter(|component| !component.is_empty());
    components
        .next()
        .is_some_and(|version| version == "latest" || metadata::is_dated_version(version))
        && components.eq(["api", "token"])
}

fn is_latest(path: &str) -> bool {
    path.split('/').find(|component| !component.is_empty()) == Some("latest")
}

fn http_date(time: Timestamp) -> String {
    // Fails only for years outside 0 to 9999.
    DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&time)
        .unwrap_or_default()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
