//! Notices that the host was suspended or that its clock was set, by comparing clocks.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Two clocks read one after the other differ by less.
const JITTER: Duration = Duration::from_secs(2);

/// The differences between the clocks, in nanoseconds.
pub(crate) struct ClockWatch {
    /// Total time in suspend since boot.
    suspended: i64,
    /// Wall-clock time of the boot.
    boot: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClockChange {
    /// The host was suspended: nothing ran, and nothing was captured.
    Suspended,
    /// The wall clock was set: times before and after are not comparable.
    Set,
}

impl ClockWatch {
    pub(crate) fn new() -> Self {
        let boot = nanos(ClockId::Boottime);
        Self {
            // CLOCK_MONOTONIC does not advance during suspend (clock_gettime(2)).
            suspended: boot.saturating_sub(nanos(ClockId::Monotonic)),
            boot: nanos(ClockId::Realtime).saturating_sub(boot),
        }
    }

    /// What happened since the last call.
    pub(crate) fn change(&mut self) -> Option<ClockChange> {
        let now = Self::new();
        let change = self.change_to(&now);
        *self = now;
        change
    }

    fn change_to(&self, now: &Self) -> Option<ClockChange> {
        let jitter = u64::try_from(JITTER.as_nanos()).unwrap_or(u64::MAX);
        if now.suspended.abs_diff(self.suspended) > jitter {
            Some(ClockChange::Suspended)
        } else if now.boot.abs_diff(self.boot) > jitter {
            Some(ClockChange::Set)
        } else {
            None
        }
    }
}

fn nanos(id: ClockId) -> i64 {
    let time = clock_gettime(id);
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn suspend_and_a_set_clock_are_told_apart() {
        let clocks = |suspended, boot| ClockWatch { suspended, boot };
        let before = clocks(5 * SECOND, 1_000 * SECOND);
        let quiet = clocks(5 * SECOND + 7, 1_000 * SECOND + 900);
        assert_eq!(before.change_to(&quiet), None);
        let resumed = clocks(65 * SECOND, 1_000 * SECOND);
        assert_eq!(before.change_to(&resumed), Some(ClockChange::Suspended));
        let a_day_back = clocks(5 * SECOND, 1_000 * SECOND - 86_400 * SECOND);
        assert_eq!(before.change_to(&a_day_back), Some(ClockChange::Set));
        assert_eq!(ClockWatch::new().change(), None);
    }
}
