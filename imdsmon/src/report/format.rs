//! How numbers, lengths and times are written, the same in every format for people.

use std::time::Duration;

use crate::time::{Human, Timestamp};

/// A number with separators between thousands.
pub fn count(n: u64) -> String {
    grouped(&n.to_string())
}

fn grouped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count of CloudWatch's, which is a whole number for these metrics.
pub fn sum(n: f64) -> String {
    grouped(&format!("{:.0}", n.max(0.0)))
}

/// A share of 1 as a percentage. What is not all is never shown as all.
pub fn share(part: f64) -> String {
    if part < 1.0 && part > 0.999 {
        "99.9%".into()
    } else {
        let text = format!("{:.1}", part * 100.0);
        format!("{}%", text.trim_end_matches(".0"))
    }
}

/// Seconds in their two largest units.
pub fn length(seconds: u64) -> String {
    Human(Duration::from_secs(seconds)).to_string()
}

/// An RFC 3339 time to the minute, UTC: `2026-11-27 08:59`. What is none stays as it is.
pub fn minute(time: &str) -> String {
    formatted(time, Timestamp::to_minute)
}

/// The same to the second.
pub fn second(time: &str) -> String {
    formatted(time, Timestamp::to_second)
}

fn formatted(time: &str, format: impl Fn(Timestamp) -> String) -> String {
    time.parse().map_or_else(|_| time.to_owned(), format)
}

/// Seconds since 1970 of an RFC 3339 time.
pub fn seconds(time: &str) -> Option<i64> {
    time.parse().ok().map(Timestamp::as_secs)
}

/// How long before `now` something was, in the largest unit: `2 min ago`.
pub fn ago(time: &str, now: &str) -> String {
    let (Some(then), Some(now)) = (seconds(time), seconds(now)) else {
        return time.to_owned();
    };
    match u64::try_from(now.saturating_sub(then)).unwrap_or_default() {
        ..60 => "just now".into(),
        s @ 60..3600 => format!("{} min ago", s / 60),
        s @ 3600..172_800 => format!("{} h ago", s / 3600),
        s => format!("{} d ago", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use crate::report::format::*;

    #[test]
    fn counts_shares_and_lengths_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(sum(41_822.0), "41,822");
        assert_eq!(share(1.0), "100%");
        assert_eq!(share(0.99999), "99.9%");
        assert_eq!(share(0.125), "12.5%");
        for (seconds, text) in [
            (0, "0 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (7200, "2 h"),
            (86_400, "24 h"),
            (1_202_400, "13 d 22 h"),
        ] {
            assert_eq!(length(seconds), text);
        }
    }

    #[test]
    fn times_are_short_and_what_is_none_is_left_alone() {
        let time = "2026-11-27T08:59:12.345678Z";
        assert_eq!(minute(time), "2026-11-27 08:59");
        assert_eq!(second(time), "2026-11-27 08:59:12");
        assert_eq!(minute("never"), "never");
        for (now, text) in [
            ("2026-11-27T08:59:13Z", "just now"),
            ("2026-11-27T09:02:13Z", "3 min ago"),
            ("2026-11-28T09:59:13Z", "25 h ago"),
            ("2026-12-01T08:59:13Z", "4 d ago"),
            ("2026-11-27T08:59:00Z", "just now"),
        ] {
            assert_eq!(ago(time, now), text);
        }
    }
}
