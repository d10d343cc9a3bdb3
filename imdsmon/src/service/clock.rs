//! Tells a time of watching from one in which the host slept or its clock was set.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Clocks that are read one after the other differ by less.
const JITTER: Duration = Duration::from_secs(2);

/// How the clocks stood to each other.
pub struct Clock {
    /// Time in which the host slept, since it was started.
    slept: i64,
    /// Wall clock at the start of the host.
    boot: i64,
}

/// What happened to the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The host slept, and nobody watched.
    Slept,
    /// The wall clock was set: times before and after do not fit together.
    Set,
}

impl Clock {
    /// Reads the clocks.
    pub fn now() -> Self {
        let boot = nanos(ClockId::Boottime);
        Self {
            // CLOCK_MONOTONIC stands still while the host sleeps (clock_gettime(2)).
            slept: boot.saturating_sub(nanos(ClockId::Monotonic)),
            boot: nanos(ClockId::Realtime).saturating_sub(boot),
        }
    }

    /// What happened since the last reading.
    pub fn change(&mut self) -> Option<Change> {
        let now = Self::now();
        let change = self.change_to(&now);
        *self = now;
        change
    }

    fn change_to(&self, now: &Self) -> Option<Change> {
        let jitter = u64::try_from(JITTER.as_nanos()).unwrap_or(u64::MAX);
        if now.slept.abs_diff(self.slept) > jitter {
            Some(Change::Slept)
        } else if now.boot.abs_diff(self.boot) > jitter {
            Some(Change::Set)
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
    fn sleep_and_a_set_clock_are_told_from_the_time_that_passes() {
        let before = Clock {
            slept: 5 * SECOND,
            boot: 1_000 * SECOND,
        };
        let after = |slept, boot| Clock { slept, boot };
        let quiet = after(5 * SECOND + 7, 1_000 * SECOND + 900);
        assert_eq!(before.change_to(&quiet), None);
        let asleep = after(65 * SECOND, 1_000 * SECOND);
        assert_eq!(before.change_to(&asleep), Some(Change::Slept));
        let a_day_back = after(5 * SECOND, 1_000 * SECOND - 86_400 * SECOND);
        assert_eq!(before.change_to(&a_day_back), Some(Change::Set));
        assert_eq!(Clock::now().change(), None);
    }
}
