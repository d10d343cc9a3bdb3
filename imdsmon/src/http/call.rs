//! What the HTTP side finds: calls, and bytes that are none.

use serde::{Deserialize, Serialize};

use crate::event::{ConnectionId, Endpoint, TaskId};
use crate::time::Timestamp;

/// Which way of speaking to IMDS a request is (EC2 User Guide, "How IMDSv2 works").
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum ImdsVersion {
    /// No token header: what `HttpTokens=required` refuses.
    V1,
    /// With a token header, whatever its value.
    V2,
    /// `PUT .../api/token`: a token request.
    Token,
}

/// The value of the token header, if there is one.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
    strum::EnumString,
    strum::VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum TokenValue {
    /// It looks like a token (RFC 9110 token68).
    Present,
    /// Nothing, or what cannot be a token: the client's token request failed before.
    Empty,
}

/// Whether IMDS said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// A response began. Without a status, it was not captured or is not known for certain.
    Answered,
    /// The connection was closed, reset, or silent for too long.
    NoAnswer,
}

/// One HTTP request to IMDS, and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// When the first segment of the request was sent.
    pub time: Timestamp,
    /// On which connection.
    pub connection: ConnectionId,
    /// Who sent its first segment.
    pub task: TaskId,
    /// Where to.
    pub server: Endpoint,
    /// Which way of speaking.
    pub version: ImdsVersion,
    /// The token header's value; `None` if there is no such header.
    pub token: Option<TokenValue>,
    /// Request method, at most 32 bytes.
    pub method: String,
    /// Path without the query, at most 2 KiB; what is not UTF-8 is replaced.
    pub path: String,
    /// What follows the `?`, at most 2 KiB.
    pub query: Option<String>,
    /// `0.9`, `1.0` or `1.1`.
    pub protocol: &'static str,
    /// `User-Agent`, at most 1 KiB; what is not UTF-8 is replaced.
    pub user_agent: Option<String>,
    /// Whether there was an answer.
    pub outcome: Outcome,
    /// Status code of the final response.
    pub status: Option<u16>,
    /// `Server` header of the response, at most 256 bytes. IMDS says `EC2ws`.
    pub imds_server: Option<String>,
    /// From the request's last byte to the response's first, in microseconds.
    pub latency_us: Option<u64>,
}

/// Bytes to IMDS that cannot be read as a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unparsed {
    /// When the first of them was sent.
    pub time: Timestamp,
    /// On which connection.
    pub connection: ConnectionId,
    /// Who sent the first of them.
    pub task: TaskId,
    /// Where to.
    pub server: Endpoint,
    /// How many; those never captured are not among them.
    pub bytes: u64,
}

/// What comes out of the HTTP side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpEvent {
    /// A request.
    Call(Box<Call>),
    /// Bytes that are no request.
    Unparsed(Unparsed),
}

impl HttpEvent {
    /// When it was sent.
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Call(call) => call.time,
            Self::Unparsed(unparsed) => unparsed.time,
        }
    }
}
