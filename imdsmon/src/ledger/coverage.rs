//! When somebody watched, and how well.

use serde::{Deserialize, Serialize};

use crate::capture::event::UnixNanos;

/// Everything that limits what silence means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Times of watching, in order and without overlap; between them nobody watched.
    pub spans: Vec<Span>,
    /// The latest proof that calls are heard, if any was made.
    pub self_test: Option<SelfTest>,
}

/// A time of uninterrupted watching.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// From.
    #[serde(with = "crate::time::as_rfc3339")]
    pub from: UnixNanos,
    /// To; grows while it lasts.
    #[serde(with = "crate::time::as_rfc3339")]
    pub to: UnixNanos,
    /// Whether it ended as it should, or still lasts; otherwise what came after `to` is unknown.
    pub is_complete: bool,
    /// TCP segments with payload, to or from IMDS, on the whole host.
    pub segments: u64,
    /// Records that the kernel had no room for.
    pub lost_records: u64,
    /// What else may hide calls: bytes cut, gaps in connections, answers not seen, connections
    /// given up. Each with its count, none of them 0.
    pub doubts: Vec<Doubt>,
}

/// Something that may hide calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// How many.
    pub count: u64,
    /// Of what, as a sentence that goes on after the number.
    pub what: String,
}

/// Whether calls that the monitor made itself, in a network of its own, came out as made.
///
/// Its JSON is flat: `time`, `passed`, and `reason`, which is `null` if it passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SelfTestForm", into = "SelfTestForm")]
pub struct SelfTest {
    /// When.
    pub time: UnixNanos,
    /// `Ok`, or the reason why not.
    pub result: Result<(), String>,
}

#[derive(Serialize, Deserialize)]
struct SelfTestForm {
    #[serde(with = "crate::time::as_rfc3339")]
    time: UnixNanos,
    passed: bool,
    reason: Option<String>,
}

impl From<SelfTest> for SelfTestForm {
    fn from(SelfTest { time, result }: SelfTest) -> Self {
        Self {
            time,
            passed: result.is_ok(),
            reason: result.err(),
        }
    }
}

impl From<SelfTestForm> for SelfTest {
    fn from(form: SelfTestForm) -> Self {
        let SelfTestForm {
            time,
            passed,
            reason,
        } = form;
        let result = if passed {
            Ok(())
        } else {
            Err(reason.unwrap_or_default())
        };
        Self { time, result }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_test_comes_back_as_it_was_written() {
        for (result, json) in [
            (
                Ok(()),
                r#"{"time":"1970-01-01T00:00:00.000007Z","passed":true,"reason":null}"#,
            ),
            (
                Err("no namespace".to_owned()),
                r#"{"time":"1970-01-01T00:00:00.000007Z","passed":false,"reason":"no namespace"}"#,
            ),
        ] {
            let test = SelfTest { time: 7000, result };
            assert_eq!(serde_json::to_string(&test).unwrap(), json);
            assert_eq!(serde_json::from_str::<SelfTest>(json).unwrap(), test);
        }
    }
}
