//! The times of watching of this run: one, unless the host slept or its clock was set.

use crate::{
    capture::event::{Totals, UnixNanos},
    http::Counters,
    ledger::{
        Coverage, Crowd,
        coverage::{SelfTest, Span},
    },
};

/// When this service watched, and how well.
pub struct Vigil {
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
    crowd: Crowd,
    /// Self-tests that failed.
    unheard: u64,
}

impl Vigil {
    /// Watching begins.
    #[must_use]
    pub fn since(now: UnixNanos) -> Self {
        Self {
            over: Coverage::default(),
            current: (now, now),
            base: Counts::default(),
            latest: Counts::default(),
        }
    }

    /// Watching goes on, and this is what was counted so far.
    pub fn counted(&mut self, now: UnixNanos, totals: Totals, counters: Counters, crowd: Crowd) {
        self.latest = Counts {
            totals,
            counters,
            crowd,
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
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        let mut all = self.over.clone();
        all.add(self.span());
        all
    }

    /// Records lost so far in this run.
    #[must_use]
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
            crowd,
            unheard,
        } = &self.latest;
        let totals = totals.since(&self.base.totals);
        let counters = counters.since(&self.base.counters);
        let mut span = Span::new(from, to, Some(&totals), &counters);
        span.crowded(crowd.since(&self.base.crowd));
        span.unheard(unheard.saturating_sub(self.base.unheard));
        span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(records: u64) -> (Totals, Counters) {
        let totals = Totals {
            lost: records,
            segments: 10 * records,
            ..Totals::default()
        };
        (totals, Counters::default())
    }

    fn crowd(merged: u64) -> Crowd {
        Crowd {
            merged,
            forgotten: 0,
        }
    }

    #[test]
    fn each_time_of_watching_answers_for_its_own_losses() {
        let mut vigil = Vigil::since(100);
        let (totals, counters) = lost(3);
        vigil.counted(200, totals, counters, crowd(7));
        vigil.interrupted(500);
        let (totals, counters) = lost(5);
        vigil.counted(600, totals, counters, crowd(9));
        let spans = vigil.coverage().spans;
        let seen: Vec<_> = spans
            .iter()
            .map(|span| (span.from, span.to, span.lost_records, span.segments))
            .collect();
        assert_eq!(seen, [(100, 200, 3, 30), (500, 600, 2, 20)]);
        assert_eq!(vigil.lost_records(), 5);
        let merged: Vec<_> = spans.iter().map(|span| span.doubts[0].count).collect();
        assert_eq!(merged, [7, 2]);
    }

    #[test]
    fn a_clock_set_back_takes_nothing_away() {
        let mut vigil = Vigil::since(1000);
        vigil.goes_on(2000);
        vigil.interrupted(100);
        vigil.goes_on(300);
        let spans = vigil.coverage().spans;
        let seen: Vec<_> = spans.iter().map(|span| (span.from, span.to)).collect();
        assert_eq!(seen, [(100, 300), (1000, 2000)]);
        vigil.goes_on(1500);
        assert_eq!(vigil.coverage().spans.len(), 1, "they overlap by now");
        assert_eq!(vigil.coverage().window(), Some((100, 2000)));
    }

    #[test]
    fn a_failed_self_test_stays_a_doubt_about_its_time() {
        let mut vigil = Vigil::since(100);
        vigil.tested(150, Err("deaf".into()));
        vigil.tested(160, Ok(()));
        vigil.interrupted(200);
        vigil.goes_on(300);
        let coverage = vigil.coverage();
        let doubts: Vec<_> = coverage
            .spans
            .iter()
            .map(|span| span.doubts.len())
            .collect();
        assert_eq!(doubts, [1, 0]);
        assert_eq!(coverage.self_test.unwrap().result, Ok(()));
    }
}
