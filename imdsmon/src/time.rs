//! Points in time, durations and clocks.
//!
//! Arithmetic saturates: times come from the kernel, from recordings and from files, and an invalid
//! one must not end the program.

use std::{
    fmt,
    ops::{Add, AddAssign, Sub},
    str::FromStr,
    time::Duration,
};

use jiff::tz::TimeZone;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const NANOS_PER_HOUR: i64 = 3600 * NANOS_PER_SECOND;

/// A point in time: nanoseconds since 1970-01-01 UTC, from the year 1677 to 2262.
///
/// Recordings hold this number; other formats use [`as_rfc3339`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Nanoseconds since 1970-01-01 UTC.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Seconds since 1970-01-01 UTC.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// Reads the wall clock.
    pub(crate) fn now() -> Self {
        Self(read(ClockId::Realtime))
    }

    pub(crate) const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since 1970-01-01 UTC.
    pub(crate) const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Whole seconds since 1970-01-01 UTC.
    pub(crate) const fn as_secs(self) -> i64 {
        self.0.div_euclid(NANOS_PER_SECOND)
    }

    /// Zero if `earlier` is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    pub(crate) fn abs_diff(self, other: Self) -> Duration {
        Duration::from_nanos(self.0.abs_diff(other.0))
    }

    pub const fn hour(self) -> Hour {
        Hour(self.0.div_euclid(NANOS_PER_HOUR))
    }

    /// RFC 3339 in UTC with microseconds, as all JSON has it: `2026-11-27T08:59:12.345678Z`.
    pub fn to_rfc3339(self) -> String {
        format!("{:.6}", self.to_jiff())
    }

    /// RFC 3339 in UTC without a fraction: `2026-11-27T08:59:12Z`.
    pub(crate) fn to_rfc3339_seconds(self) -> String {
        format!("{:.0}", self.to_jiff())
    }

    /// UTC to the second, for display: `2026-11-27 08:59:12`.
    pub(crate) fn to_second(self) -> String {
        self.formatted("%Y-%m-%d %H:%M:%S")
    }

    /// UTC to the minute, for display: `2026-11-27 08:59`.
    pub(crate) fn to_minute(self) -> String {
        self.formatted("%Y-%m-%d %H:%M")
    }

    /// The time of day in UTC, for display: `08:59:12.345`.
    pub(crate) fn to_time_of_day(self) -> String {
        self.formatted("%H:%M:%S%.3f")
    }

    fn formatted(self, format: &str) -> String {
        let time = self.to_jiff().to_zoned(TimeZone::UTC);
        time.strftime(format).to_string()
    }

    /// Every `i64` of nanoseconds is within the range of jiff, which ends with the year 9999.
    fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_nanosecond(self.0.into()).unwrap_or_default()
    }
}

/// RFC 3339 with any offset. Nanoseconds are kept.
impl FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time: jiff::Timestamp = text.parse()?;
        let out_of_range =
            |_| jiff::Error::from_args(format_args!("a year from 1678 to 2261 is expected"));
        i64::try_from(time.as_nanosecond())
            .map(Self)
            .map_err(out_of_range)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, time: Duration) {
        *self = *self + time;
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(time)))
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// An hour of UTC, counted from 1970-01-01: the granularity of counts.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Hour(i64);

impl Hour {
    /// Hours since 1970-01-01 UTC.
    pub const fn new(hours: i64) -> Self {
        Self(hours)
    }

    /// Hours since 1970-01-01 UTC.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Start of the hour.
    pub const fn begin(self) -> Timestamp {
        Timestamp(self.0.saturating_mul(NANOS_PER_HOUR))
    }

    /// Hours since `earlier`, negative if that is later.
    pub(crate) const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The hour `hours` later, or earlier if negative.
    pub const fn plus(self, hours: i64) -> Self {
        Self(self.0.saturating_add(hours))
    }
}

/// One reading of the host's clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    /// Nanoseconds since boot, excluding suspend.
    monotonic: i64,
    /// Nanoseconds since boot.
    boot: i64,
    real: Timestamp,
}

impl Clocks {
    pub(crate) fn read() -> Self {
        Self {
            monotonic: read(ClockId::Monotonic),
            boot: read(ClockId::Boottime),
            real: Timestamp::now(),
        }
    }

    /// Time in suspend since boot: `CLOCK_MONOTONIC` does not advance then (`clock_gettime(2)`).
    pub(crate) fn suspended(&self) -> Duration {
        let nanos = self.boot.saturating_sub(self.monotonic);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    /// Time of the boot, by the current wall clock.
    pub(crate) fn booted(&self) -> Timestamp {
        Timestamp(self.real.0.saturating_sub(self.boot))
    }
}

fn read(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec
        .saturating_mul(NANOS_PER_SECOND)
        .saturating_add(time.tv_nsec)
}

/// A duration in its two largest units, for display: `25 s`, `2 min 5 s`, `24 h`, `13 d 2 h`.
///
/// Days begin at 48 h: the default observation period is displayed as "24 h".
#[derive(Clone, Copy, Debug)]
pub(crate) struct Human(pub(crate) Duration);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (large, name, small, smaller) = match seconds {
            ..60 => return write!(f, "{seconds} s"),
            60..3600 => (seconds / 60, "min", seconds % 60, "s"),
            3600..172_800 => (seconds / 3600, "h", seconds / 60 % 60, "min"),
            _ => (seconds / 86_400, "d", seconds / 3600 % 24, "h"),
        };
        match small {
            0 => write!(f, "{large} {name}"),
            _ => write!(f, "{large} {name} {small} {smaller}"),
        }
    }
}

/// For `#[serde(with = "crate::time::as_rfc3339")]`: truncates nanoseconds to microseconds.
pub(crate) mod as_rfc3339 {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::Timestamp;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(crate) fn serialize<S: Serializer>(
        time: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.to_rfc3339())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_written_in_each_format() {
        let time = Timestamp::from_nanos(1_795_769_952_345_678_901);
        assert_eq!(time.to_rfc3339(), "2026-11-27T08:59:12.345678Z");
        assert_eq!(time.to_rfc3339_seconds(), "2026-11-27T08:59:12Z");
        assert_eq!(time.to_second(), "2026-11-27 08:59:12");
        assert_eq!(time.to_minute(), "2026-11-27 08:59");
        assert_eq!(time.to_time_of_day(), "08:59:12.345");
        assert_eq!(time.hour().begin().to_second(), "2026-11-27 08:00:00");
        assert_eq!(serde_json::to_string(&time).unwrap(), "1795769952345678901");
        let read: Timestamp = "2026-11-27T10:59:12.345678901+02:00".parse().unwrap();
        assert_eq!(read, time);
        assert!("9999-01-01T00:00:00Z".parse::<Timestamp>().is_err());
        for edge in [i64::MIN, -1, 0, i64::MAX] {
            let time = Timestamp::from_nanos(edge);
            assert_eq!(time.to_jiff().as_nanosecond(), edge.into());
        }
    }

    #[test]
    fn timestamp_arithmetic_saturates() {
        let (one, two) = (Timestamp::from_secs(1), Timestamp::from_secs(2));
        assert_eq!(two.since(one), Duration::from_secs(1));
        assert_eq!(one.since(two), Duration::ZERO);
        assert_eq!(one.abs_diff(two), Duration::from_secs(1));
        assert_eq!(one + Duration::MAX, Timestamp::from_nanos(i64::MAX));
        assert_eq!(one - Duration::from_secs(2), Timestamp::from_secs(-1));
        assert_eq!(Timestamp::from_nanos(-1).hour(), Hour::new(-1));
    }

    #[test]
    fn a_duration_is_written_in_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (7200, "2 h"),
            (86_400, "24 h"),
            (172_799, "47 h 59 min"),
            (172_800, "2 d"),
            (1_202_400, "13 d 22 h"),
        ] {
            let time = Duration::from_secs(seconds);
            assert_eq!(Human(time).to_string(), text);
        }
    }
}
