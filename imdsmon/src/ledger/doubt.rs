//! What may hide calls, or the process behind them, during a span of coverage.
//!
//! Stored and merged by kind; the text is made for display.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct as _};

/// A kind of doubt and how often it occurred.
///
/// Its JSON in a report is `{"count": 7, "what": "bytes are missing from captured connections"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Bytes, records, calls and so on, never 0.
    pub count: u64,
    /// What was counted.
    pub kind: DoubtKind,
}

/// Aliases: the sentences of schema 1, which a reader without write permission cannot migrate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DoubtKind {
    /// Bytes of a segment beyond the capture limit.
    #[serde(alias = "bytes of very long segments were not captured")]
    TruncatedBytes,
    /// Records of the ring buffer with an unknown type or size.
    #[serde(alias = "records were not understood")]
    UnknownRecords,
    /// Bytes between captured segments of a connection.
    #[serde(alias = "bytes are missing from connections")]
    MissingBytes,
    /// Calls with a possible response that was not captured.
    #[serde(alias = "calls were answered by something that was not seen")]
    UnseenResponses,
    /// Responses without a captured request.
    #[serde(alias = "answers came that belong to no request that was read")]
    UnmatchedResponses,
    /// Connections dropped from the flow table.
    #[serde(alias = "connections were given up because too many were open")]
    EvictedConnections,
    /// Processes counted as `(others)`.
    #[serde(alias = "processes were counted with others, because there were too many clients")]
    MergedProcesses,
    /// Processes whose token requests were forgotten while they were active.
    #[serde(alias = "processes were forgotten too early to know what led to their calls")]
    ForgottenProcesses,
    /// Canary checks that failed.
    #[serde(alias = "self-tests were not heard, so calls may be missing")]
    FailedSelfTests,
    /// Clients removed to keep the store within its size; counted by the store, in no span.
    DroppedClients,
    /// A word of a later version, or a sentence of an earlier one.
    #[serde(untagged)]
    Other(String),
}

impl Doubt {
    /// Continues after the count: `bytes are missing from captured connections`.
    fn what(&self) -> &str {
        let [one, many] = match &self.kind {
            DoubtKind::TruncatedBytes => [
                "byte of an oversized segment was not captured",
                "bytes of oversized segments were not captured",
            ],
            DoubtKind::UnknownRecords => [
                "ring buffer record could not be decoded",
                "ring buffer records could not be decoded",
            ],
            DoubtKind::MissingBytes => [
                "byte is missing from a captured connection",
                "bytes are missing from captured connections",
            ],
            DoubtKind::UnseenResponses => [
                "response was not captured; its status is unknown",
                "responses were not captured; their status is unknown",
            ],
            DoubtKind::UnmatchedResponses => [
                "response matches no captured request",
                "responses match no captured request",
            ],
            DoubtKind::EvictedConnections => [
                "connection was dropped because too many were open",
                "connections were dropped because too many were open",
            ],
            DoubtKind::MergedProcesses => [
                "process was counted as `(others)` because there were too many clients",
                "processes were counted as `(others)` because there were too many clients",
            ],
            DoubtKind::ForgottenProcesses => [
                "active process was dropped from the token history; the cause of its calls is \
                 uncertain",
                "active processes were dropped from the token history; the cause of their calls \
                 is uncertain",
            ],
            DoubtKind::FailedSelfTests => [
                "self-test failed; calls may be missing",
                "self-tests failed; calls may be missing",
            ],
            DoubtKind::DroppedClients => [
                "client was dropped because the store was full",
                "clients were dropped because the store was full",
            ],
            DoubtKind::Other(text) => return text,
        };
        if self.count == 1 { one } else { many }
    }
}

/// `7 bytes are missing from captured connections`.
impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.count, self.what())
    }
}

impl Serialize for Doubt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Doubt", 2)?;
        object.serialize_field("count", &self.count)?;
        object.serialize_field("what", self.what())?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_in_json_is_a_count_and_its_sentence() {
        let json = |count, kind| serde_json::to_string(&Doubt { count, kind }).unwrap();
        assert_eq!(
            json(1, DoubtKind::FailedSelfTests),
            r#"{"count":1,"what":"self-test failed; calls may be missing"}"#
        );
        assert_eq!(
            json(7, DoubtKind::MissingBytes),
            r#"{"count":7,"what":"bytes are missing from captured connections"}"#
        );
        assert_eq!(
            json(7, DoubtKind::Other("things went wrong".into())),
            r#"{"count":7,"what":"things went wrong"}"#
        );
    }
}
