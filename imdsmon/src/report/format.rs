//! Formats of numbers and durations, the same in every report.

use std::time::Duration;

use crate::time::{Human, Timestamp};

/// A number with separators between thousands.
pub(crate) fn count(n: u64) -> String {
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

/// A count by CloudWatch, which is a whole number for these metrics.
pub(crate) fn sum(n: f64) -> String {
    grouped(&format!("{:.0}", n.max(0.0)))
}

/// A share of 1 as a percentage; only 1 is shown as 100 %.
pub(crate) fn share(part: f64) -> String {
    if part < 1.0 && part > 0.999 {
        "99.9%".into()
    } else {
        let text = format!("{:.1}", part * 100.0);
        format!("{}%", text.trim_end_matches(".0"))
    }
}

/// Seconds in their two largest units.
pub(crate) fn length(seconds: u64) -> String {
    Human(Duration::from_secs(seconds)).to_string()
}

/// Time since an event in its largest unit: `2 min ago`.
pub(super) fn ago(time: Timestamp, now: Timestamp) -> String {
    match now.since(time).as_secs() {
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
    fn counts_and_shares_are_rounded_and_grouped() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(sum(41_822.0), "41,822");
        assert_eq!(share(1.0), "100%");
        assert_eq!(share(0.99999), "99.9%");
        assert_eq!(share(0.125), "12.5%");
    }

    #[test]
    fn ago_has_the_largest_unit() {
        let time = Timestamp::from_secs(1_795_769_952);
        for (seconds, text) in [
            (1, "just now"),
            (181, "3 min ago"),
            (90_001, "25 h ago"),
            (345_601, "4 d ago"),
            (-12, "just now"),
        ] {
            let now = Timestamp::from_secs(time.as_secs() + seconds);
            assert_eq!(ago(time, now), text);
        }
    }
}
