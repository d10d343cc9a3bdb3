//! Detects a suspended host or a changed clock by comparing clocks.

use std::time::Duration;

use crate::time::{Clocks, Timestamp};

/// Two clocks read in sequence differ by less.
const JITTER: Duration = Duration::from_secs(2);

pub(crate) struct ClockWatch {
    /// Total time in suspend since boot.
    suspended: Duration,
    /// Wall-clock time of the boot.
    booted: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClockChange {
    /// Nothing ran, and nothing was captured.
    Suspended,
    /// Times before and after are not comparable.
    Set,
}

impl ClockWatch {
    pub(crate) fn new() -> Self {
        let clocks = Clocks::read();
        Self {
            suspended: clocks.suspended(),
            booted: clocks.booted(),
        }
    }

    /// The change since the last call.
    pub(crate) fn change(&mut self) -> Option<ClockChange> {
        let now = Self::new();
        let change = self.change_to(&now);
        *self = now;
        change
    }

    fn change_to(&self, now: &Self) -> Option<ClockChange> {
        if now.suspended.abs_diff(self.suspended) > JITTER {
            Some(ClockChange::Suspended)
        } else if now.booted.abs_diff(self.booted) > JITTER {
            Some(ClockChange::Set)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspend_and_a_set_clock_are_told_apart() {
        let clocks = |suspended, booted| ClockWatch {
            suspended: Duration::from_secs(suspended),
            booted: Timestamp::from_secs(booted),
        };
        let before = clocks(5, 1_000);
        let mut quiet = clocks(5, 1_000);
        quiet.suspended += Duration::from_nanos(7);
        quiet.booted += Duration::from_nanos(900);
        assert_eq!(before.change_to(&quiet), None);
        let resumed = clocks(65, 1_000);
        assert_eq!(before.change_to(&resumed), Some(ClockChange::Suspended));
        let a_day_back = clocks(5, 1_000 - 86_400);
        assert_eq!(before.change_to(&a_day_back), Some(ClockChange::Set));
        assert_eq!(ClockWatch::new().change(), None);
    }
}
