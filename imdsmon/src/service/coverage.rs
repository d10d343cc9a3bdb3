//! The coverage of this run: one span, unless the host was suspended or its clock was set.

use crate::{
    event::CaptureTotals,
    http::Counters,
    ledger::{
        Coverage, Overflow,
        coverage::{SelfTest, Span},
    },
    time::Timestamp,
};

/// Tracks when this service captured, and what may be missing.
pub(crate) struct CoverageTracker {
    /// Spans that have ended, and the latest self-test.
    ended: Coverage,
    /// First and last time of the open span.
    span: (Timestamp, Timestamp),
    /// The counts when the span began, and now.
    base: Counts,
    latest: Counts,
}

/// Causes of reduced coverage, since the service started.
#[derive(Clone, Copy, Default)]
struct Counts {
    totals: CaptureTotals,
    counters: Counters,
    overflow: Overflow,
    failed_canaries: u64,
}

impl CoverageTracker {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            ended: Coverage::default(),
            span: (now, now),
            base: Counts::default(),
            latest: Counts::default(),
        }
    }

    /// Extends the open span; takes the counts since the service started.
    pub(crate) fn update(
        &mut self,
        now: Timestamp,
        totals: CaptureTotals,
        counters: Counters,
        overflow: Overflow,
    ) {
        self.latest = Counts {
            totals,
            counters,
            overflow,
            ..self.latest
        };
        self.extend(now);
    }

    pub(crate) fn extend(&mut self, now: Timestamp) {
        self.span.1 = self.span.1.max(now);
    }

    /// Ends the open span where it was last extended, and opens another at `now`.
    pub(crate) fn interrupt(&mut self, now: Timestamp) {
        self.ended.add(self.open_span());
        self.span = (now, now);
        self.base = self.latest;
    }

    /// A failed check stays a doubt about the open span, whatever follows.
    pub(crate) fn record_canary(&mut self, time: Timestamp, result: Result<(), String>) {
        self.latest.failed_canaries += u64::from(result.is_err());
        self.ended.add_self_test(SelfTest { time, result });
    }

    pub(crate) fn coverage(&self) -> Coverage {
        let mut all = self.ended.clone();
        all.add(self.open_span());
        all
    }

    /// Records dropped since the service started.
    pub(crate) fn lost_records(&self) -> u64 {
        let Counts {
            totals, counters, ..
        } = &self.latest;
        totals.lost.max(counters.lost_records)
    }

    fn open_span(&self) -> Span {
        let (from, to) = self.span;
        let Counts {
            totals,
            counters,
            overflow,
            failed_canaries,
        } = &self.latest;
        let totals = totals.since(&self.base.totals);
        let counters = counters.since(&self.base.counters);
        let mut span = Span::new(from, to, Some(&totals), &counters);
        span.add_overflow(overflow.since(&self.base.overflow));
        span.add_failed_self_tests(failed_canaries.saturating_sub(self.base.failed_canaries));
        span
    }
}

#[cfg(test)]
mod tests {
    use crate::service::coverage::*;

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    fn lost(records: u64) -> (CaptureTotals, Counters) {
        let totals = CaptureTotals {
            lost: records,
            segments: 10 * records,
            ..CaptureTotals::default()
        };
        (totals, Counters::default())
    }

    fn overflow(merged: u64) -> Overflow {
        Overflow {
            merged,
            forgotten: 0,
        }
    }

    #[test]
    fn each_span_has_only_its_own_losses() {
        let mut coverage = CoverageTracker::new(at(100));
        let (totals, counters) = lost(3);
        coverage.update(at(200), totals, counters, overflow(7));
        coverage.interrupt(at(500));
        let (totals, counters) = lost(5);
        coverage.update(at(600), totals, counters, overflow(9));
        let spans = coverage.coverage().spans;
        let seen: Vec<_> = spans
            .iter()
            .map(|span| (span.from, span.to, span.lost_records, span.segments))
            .collect();
        assert_eq!(seen, [(at(100), at(200), 3, 30), (at(500), at(600), 2, 20)]);
        assert_eq!(coverage.lost_records(), 5);
        let merged: Vec<_> = spans.iter().map(|span| span.doubts[0].count).collect();
        assert_eq!(merged, [7, 2]);
    }

    #[test]
    fn a_clock_set_back_keeps_earlier_spans() {
        let mut coverage = CoverageTracker::new(at(1000));
        coverage.extend(at(2000));
        coverage.interrupt(at(100));
        coverage.extend(at(300));
        let spans = coverage.coverage().spans;
        let seen: Vec<_> = spans.iter().map(|span| (span.from, span.to)).collect();
        assert_eq!(seen, [(at(100), at(300)), (at(1000), at(2000))]);
        coverage.extend(at(1500));
        assert_eq!(
            coverage.coverage().spans.len(),
            1,
            "the spans overlap by now"
        );
        assert_eq!(coverage.coverage().window(), Some((at(100), at(2000))));
    }

    #[test]
    fn a_failed_canary_stays_a_doubt_about_its_span() {
        let mut coverage = CoverageTracker::new(at(100));
        coverage.record_canary(at(150), Err("no calls captured".into()));
        coverage.record_canary(at(160), Ok(()));
        coverage.interrupt(at(200));
        coverage.extend(at(300));
        let coverage = coverage.coverage();
        let doubts: Vec<_> = coverage
            .spans
            .iter()
            .map(|span| span.doubts.len())
            .collect();
        assert_eq!(doubts, [1, 0]);
        assert_eq!(coverage.self_test.unwrap().result, Ok(()));
    }
}
