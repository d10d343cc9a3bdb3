//! Timestamps.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time now, in seconds.
#[must_use]
pub fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// Unix time of an RFC 3339 timestamp in UTC with microseconds, in seconds.
///
/// # Panics
///
/// If it is none.
#[must_use]
pub fn parse(timestamp: &str) -> f64 {
    let shape: String = timestamp
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{timestamp}");
    let field = |from: usize, to: usize| timestamp[from..to].parse::<i32>().unwrap();
    // SAFETY: all its members are integers and a pointer, for which zero is a value.
    let mut time: libc::tm = unsafe { std::mem::zeroed() };
    time.tm_year = field(0, 4) - 1900;
    time.tm_mon = field(5, 7) - 1;
    time.tm_mday = field(8, 10);
    // SAFETY: reads and writes the live struct only.
    let day = unsafe { libc::timegm(&raw mut time) };
    let of_day = f64::from(field(11, 13) * 3600 + field(14, 16) * 60 + field(17, 19));
    let days = i32::try_from(day / 86_400).unwrap();
    f64::from(days) * 86_400.0 + of_day + f64::from(field(20, 26)) / 1e6
}

#[test]
fn timestamps_are_read() {
    assert!((parse("1970-01-02T00:00:01.500000Z") - 86_401.5).abs() < 1e-6);
    assert!((parse("2024-03-01T12:30:00.000000Z") - 1_709_296_200.0).abs() < 1e-6);
}
