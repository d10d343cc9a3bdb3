//! The times of watching of this run: one, unless the host slept or its clock was set.

use crate::{
    event::{Totals, UnixNanos},
    http::Counters,
    ledger::{
        Coverage, Overflow,
        coverage::{SelfTest, Span},
    },
};

/// When this service watched, and how well.
pub struct CoverageTracker {
    /// Times that are over, and the latest self-test.
    over: Coverage,
    /// Begin and end of the time that lasts.
    current: (UnixNanos, UnixNanos),
    /// The counts at its begin, and now.
    base: Counts,
    latest: Counts,
}

/// What limits how well it watched.
#[derive(Clone, Copy, Default)]
struct Counts {
    totals: Totals,
    counters: Counters,
    overflow: Overflow,
    /// Self-tests that failed.
    unheard: u64,
}

impl CoverageTracker {
    /// Watching begins.
    pub fn since(now: UnixNanos) -> Self {
        Self {
            over: Coverage::default(),
            current: (now, now),
            base: Counts::default(),
            latest: Counts::default(),
        }
    }

    /// Watching goes on, and this is what was counted so far.
    pub fn counted(
        &mut self,
        now: UnixNanos,
        totals: Totals,
        counters: Counters,
        overflow: Overflow,
    ) {
        self.latest = Counts {
            totals,
            counters,
            overflow,
            ..self.latest
        };
        self.goes_on(now);
    }

    /// Watching goes on, and nothing was counted.
    pub fn goes_on(&mut self, now: UnixNanos) {
        self.current.1 = self.current.1.max(now);
    }

    /// What came before `now` is a time of its own: the host slept since, or the clock was set.
    pub fn interrupted(&mut self, now: UnixNanos) {
        let span = self.span();
        self.over.add(span);
        self.current = (now, now);
        self.base = self.latest;
    }

    /// A self-test was made. One that failed stays a doubt about this time, whatever comes after.
    pub fn tested(&mut self, time: UnixNanos, result: Result<(), String>) {
        self.latest.unheard += u64::from(result.is_err());
        self.over.tested(SelfTest { time, result });
    }

    /// Everything so far.
    pub fn coverage(&self) -> Coverage {
        let mut all = self.over.clone();
        all.add(self.span());
        all
    }

    /// Records lost so far in this run.
    pub fn lost_records(&self) -> u64 {
        let Counts {
            totals, counters, ..
        } = &self.latest;
        totals.lost.max(counters.lost_records)
    }

    fn span(&self) -> Span {
        let (from, to) = self.current;
        let Counts {
            totals,
            counters,
            overflow,
            unheard,
        } = &self.latest;
        let totals = totals.since(&self.base.totals);
        let counters = counters.since(&self.base.counters);
        let mut span = Span::new(from, to, Some(&totals), &counters);
        span.overflowed(overflow.since(&self.base.overflow));
        span.unheard(unheard.saturating_sub(self.base.unheard));
        span
    }
}

#[cfg(test)]
mod tests {
    use crate::service::coverage::*;

    fn lost(records: u64) -> (Totals, Counters) {
        let totals = Totals {
            lost: records,
            segments: 10 * records,
            ..Totals::default()
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
    fn each_time_of_watching_answers_for_its_own_losses() {
        let mut coverage = CoverageTracker::since(100);
        let (totals, counters) = lost(3);
        coverage.counted(200, totals, counters, overflow(7));
        coverage.interrupted(500);
        let (totals, counters) = lost(5);
        coverage.counted(600, totals, counters, overflow(9));
        let spans = coverage.coverage().spans;
        let seen: Vec<_> = spans
            .iter()
            .map(|span| (span.from, span.to, span.lost_records, span.segments))
            .collect();
        assert_eq!(seen, [(100, 200, 3, 30), (500, 600, 2, 20)]);
        assert_eq!(coverage.lost_records(), 5);
        let merged: Vec<_> = spans.iter().map(|span| span.doubts[0].count).collect();
        assert_eq!(merged, [7, 2]);
    }

    #[test]
    fn a_clock_set_back_takes_nothing_away() {
        let mut coverage = CoverageTracker::since(1000);
        coverage.goes_on(2000);
        coverage.interrupted(100);
        coverage.goes_on(300);
        let spans = coverage.coverage().spans;
        let seen: Vec<_> = spans.iter().map(|span| (span.from, span.to)).collect();
        assert_eq!(seen, [(100, 300), (1000, 2000)]);
        coverage.goes_on(1500);
        assert_eq!(coverage.coverage().spans.len(), 1, "they overlap by now");
        assert_eq!(coverage.coverage().window(), Some((100, 2000)));
    }

    #[test]
    fn a_failed_self_test_stays_a_doubt_about_its_time() {
        let mut coverage = CoverageTracker::since(100);
        coverage.tested(150, Err("deaf".into()));
        coverage.tested(160, Ok(()));
        coverage.interrupted(200);
        coverage.goes_on(300);
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
