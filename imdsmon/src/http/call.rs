//! Results of HTTP parsing: requests with their responses, and bytes that are not a request.

use std::time::Duration;

use crate::event::{ConnectionId, Endpoint, TaskId};
use crate::time::Timestamp;
use crate::words::with_words;

with_words! {
    /// JSON name of a request's [`Auth`] (`imds.version`).
    pub enum ImdsVersion {
        /// [`Auth::V1`]
        V1,
        /// [`Auth::V2`]
        V2,
        /// [`Auth::TokenRequest`]
        Token,
    }
}
with_words! {
    /// The value of a token header.
    pub enum TokenValue {
        /// Has the form of a token (RFC 9110 token68).
        Present,
        /// Empty, or not of that form: the client failed to get a token.
        Empty,
    }
}

/// Authentication of a request (EC2 User Guide, "How Instance Metadata Service Version 2 works").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Auth {
    /// No token header: rejected under `HttpTokens=required`.
    V1,
    /// A token header.
    V2(TokenValue),
    /// `PUT .../api/token` without a token header.
    TokenRequest,
}

impl Auth {
    /// The JSON name.
    pub fn version(self) -> ImdsVersion {
        match self {
            Self::V1 => ImdsVersion::V1,
            Self::V2(_) => ImdsVersion::V2,
            Self::TokenRequest => ImdsVersion::Token,
        }
    }

    pub(crate) fn token(self) -> Option<TokenValue> {
        match self {
            Self::V2(token) => Some(token),
            Self::V1 | Self::TokenRequest => None,
        }
    }
}

/// The head of a request. Bytes that are not UTF-8 are replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Token header or token request.
    pub auth: Auth,
    /// At most 32 bytes.
    pub(crate) method: String,
    /// Path without the query, at most 2 KiB.
    pub path: String,
    /// The part after `?`, at most 2 KiB.
    pub(crate) query: Option<String>,
    /// `0.9`, `1.0` or `1.1`.
    pub(crate) protocol: &'static str,
    /// `User-Agent`, at most 1 KiB.
    pub(crate) user_agent: Option<String>,
}

/// The final response to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// None: the connection was closed or reset, or the timeout passed.
    None,
    /// Not captured, or it may belong to any of several requests.
    Unseen,
    /// Captured.
    Seen {
        /// `None` in HTTP/0.9, and if less of the head was captured.
        status: Option<u16>,
        /// `Server` header, at most 256 bytes. IMDS sends `EC2ws`.
        server: Option<String>,
        /// From the request's last byte to the response's first.
        latency: Duration,
    },
}

impl Response {
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Seen { status, .. } => *status,
            Self::None | Self::Unseen => None,
        }
    }

    pub(crate) fn server(&self) -> Option<&str> {
        match self {
            Self::Seen { server, .. } => server.as_deref(),
            Self::None | Self::Unseen => None,
        }
    }

    pub(crate) fn latency(&self) -> Option<Duration> {
        match self {
            Self::Seen { latency, .. } => Some(*latency),
            Self::None | Self::Unseen => None,
        }
    }
}

/// A request to IMDS and its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When the request's first segment was sent.
    pub(crate) time: Timestamp,
    pub(crate) connection: ConnectionId,
    /// The task that sent its first segment, if known.
    pub(crate) task: Option<TaskId>,
    pub(crate) server: Endpoint,
    pub request: Request,
    pub response: Response,
}

/// Bytes to IMDS that are not an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unparsed {
    /// When the first of them was sent.
    pub(crate) time: Timestamp,
    pub(crate) connection: ConnectionId,
    /// The task that sent the first of them, if known.
    pub(crate) task: Option<TaskId>,
    pub(crate) server: Endpoint,
    /// Captured bytes.
    pub(crate) bytes: u64,
}

/// A result of HTTP parsing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpEvent {
    /// A request and its response.
    Call(Box<Call>),
    /// Bytes that are not an HTTP request.
    Unparsed(Unparsed),
}

impl HttpEvent {
    /// When its first byte was sent.
    pub(crate) fn time(&self) -> Timestamp {
        match self {
            Self::Call(call) => call.time,
            Self::Unparsed(unparsed) => unparsed.time,
        }
    }
}
