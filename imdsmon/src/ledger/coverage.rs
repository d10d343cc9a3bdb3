//! The periods of monitoring, and what limits their data.

use std::time::Duration;

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

pub use super::doubt::{Doubt, DoubtKind};
use crate::time::Timestamp;
use crate::{event::CaptureTotals, http::Counters};

/// The periods of monitoring and the latest self-test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// In order and without overlap; between them are gaps.
    pub spans: Vec<Span>,
    /// The latest self-test, if any.
    pub self_test: Option<SelfTest>,
}

/// A period of uninterrupted monitoring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Span {
    #[serde(with = "crate::time::as_rfc3339")]
    pub from: Timestamp,
    /// End; grows while the span lasts.
    #[serde(with = "crate::time::as_rfc3339")]
    pub to: Timestamp,
    /// Whether it ended cleanly or still lasts; otherwise calls after `to` may be missing.
    pub is_complete: bool,
    /// TCP segments with payload, to or from IMDS, on the whole host.
    pub segments: u64,
    /// Records dropped from the ring buffer.
    pub lost_records: u64,
    /// What else may hide calls or the processes behind them.
    pub doubts: Vec<Doubt>,
}

/// Processes beyond the limits of the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overflow {
    /// How often a process was counted as `(others)`.
    pub(crate) merged: u64,
    /// How often the token history of an active process was dropped.
    pub(crate) forgotten: u64,
}

impl Overflow {
    pub(crate) fn since(&self, base: &Self) -> Self {
        let Self { merged, forgotten } = self;
        Self {
            merged: merged.saturating_sub(base.merged),
            forgotten: forgotten.saturating_sub(base.forgotten),
        }
    }
}

/// The result of calls made in a separate network namespace to check the capture.
///
/// Its JSON is flat: `time`, `passed`, and `reason`, which is `null` if it passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfTest {
    pub time: Timestamp,
    /// `Ok`, or why it failed.
    pub result: Result<(), String>,
}

impl Serialize for SelfTest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { time, result } = self;
        let mut object = serializer.serialize_struct("SelfTest", 3)?;
        object.serialize_field("time", &time.to_rfc3339())?;
        object.serialize_field("passed", &result.is_ok())?;
        object.serialize_field("reason", &result.as_ref().err())?;
        object.end()
    }
}

impl Coverage {
    /// Adds a self-test; only the latest counts.
    pub(crate) fn add_self_test(&mut self, test: SelfTest) {
        if self
            .self_test
            .as_ref()
            .is_none_or(|old| old.time <= test.time)
        {
            self.self_test = Some(test);
        }
    }

    /// Adds a span. Spans that overlap become one, with the doubts of both.
    pub(crate) fn add(&mut self, span: Span) {
        let at = self.spans.partition_point(|other| other.from <= span.from);
        self.spans.insert(at, span);
        let mut merged: Vec<Span> = Vec::new();
        for span in std::mem::take(&mut self.spans) {
            match merged.last_mut() {
                Some(last) if span.from <= last.to => last.merge(span),
                _ => merged.push(span),
            }
        }
        self.spans = merged;
    }

    /// Start of the first and end of the last span.
    pub(crate) fn window(&self) -> Option<(Timestamp, Timestamp)> {
        Some((self.spans.first()?.from, self.spans.last()?.to))
    }

    /// Total time of monitoring, without gaps.
    pub(crate) fn observed(&self) -> Duration {
        let lengths = self.spans.iter().map(|span| span.to.since(span.from));
        lengths.fold(Duration::ZERO, Duration::saturating_add)
    }
}

impl Span {
    /// A span with the counters of the kernel and of HTTP. Without `totals` it is incomplete.
    pub(crate) fn new(
        from: Timestamp,
        to: Timestamp,
        totals: Option<&CaptureTotals>,
        counters: &Counters,
    ) -> Self {
        let known = totals.copied().unwrap_or_default();
        let mut span = Self {
            from,
            to,
            is_complete: totals.is_some(),
            segments: known.segments,
            lost_records: known.lost.max(counters.lost_records),
            doubts: Vec::new(),
        };
        for (kind, count) in [
            (DoubtKind::TruncatedBytes, known.truncated),
            (DoubtKind::UnknownRecords, known.unknown),
            (DoubtKind::MissingBytes, counters.gap_bytes),
            (DoubtKind::UnseenResponses, counters.unseen_responses),
            (DoubtKind::UnmatchedResponses, counters.unmatched_responses),
            (DoubtKind::EvictedConnections, counters.evicted_flows),
        ] {
            span.doubt(kind, count);
        }
        span
    }

    /// Adds processes beyond the limits of the ledger.
    pub(crate) fn add_overflow(&mut self, overflow: Overflow) {
        let Overflow { merged, forgotten } = overflow;
        self.doubt(DoubtKind::MergedProcesses, merged);
        self.doubt(DoubtKind::ForgottenProcesses, forgotten);
    }

    pub(crate) fn add_failed_self_tests(&mut self, count: u64) {
        self.doubt(DoubtKind::FailedSelfTests, count);
    }

    /// Adds to the doubts of a kind.
    pub(crate) fn doubt(&mut self, kind: DoubtKind, count: u64) {
        if count == 0 {
            return;
        }
        match self.doubts.iter_mut().find(|known| known.kind == kind) {
            Some(known) => known.count = known.count.saturating_add(count),
            None => self.doubts.push(Doubt { count, kind }),
        }
    }

    fn merge(&mut self, other: Self) {
        let Self {
            from,
            to,
            is_complete,
            segments,
            lost_records,
            doubts,
        } = other;
        self.from = self.from.min(from);
        self.to = self.to.max(to);
        self.is_complete &= is_complete;
        self.segments = self.segments.saturating_add(segments);
        self.lost_records = self.lost_records.saturating_add(lost_records);
        for Doubt { count, kind } in doubts {
            self.doubt(kind, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_test_in_json_is_flat() {
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
            let test = SelfTest {
                time: Timestamp::from_nanos(7000),
                result,
            };
            assert_eq!(serde_json::to_string(&test).unwrap(), json);
        }
    }
}
