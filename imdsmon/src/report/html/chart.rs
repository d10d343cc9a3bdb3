//! Calls over time as SVG paths.

use std::fmt::Write as _;

use crate::report::{
    format,
    model::{ClientReport, ObservationPeriod},
};
use crate::time::Timestamp;

/// Bars of a chart; more are too thin on a phone.
const MAX_BARS: i64 = 60;
/// Hours per bar; the smallest that fits is used, beyond the last a whole number of days.
const BUCKETS: [i64; 9] = [1, 2, 3, 4, 6, 8, 12, 24, 48];

/// Width and height of the small chart and of the large one, as in the template.
const SPARK: (u64, u64) = (120, 28);
const CHART: (u64, u64) = (600, 119);

/// Bars over the whole observation period, to compare the charts of several clients.
pub(super) struct Chart {
    /// Text alternative.
    pub(super) label: String,
    pub(super) spark: String,
    pub(super) tokenless: String,
    pub(super) others: String,
    pub(super) from: String,
    pub(super) to: String,
    /// Calls of the highest bar.
    pub(super) highest: String,
    /// Time of one bar.
    pub(super) bucket: String,
}

impl Chart {
    /// `None` without any calls.
    pub(super) fn new(period: &ObservationPeriod, client: &ClientReport) -> Option<Self> {
        let (first, last) = (client.timeline.first()?.hour, client.timeline.last()?.hour);
        let begin = period.from.map_or(first, |from| from.hour().min(first));
        let last_moment = last.plus(1).begin();
        let end = period.to.map_or(last_moment, |to| to.max(last_moment));
        let after = end.hour().plus(i64::from(end > end.hour().begin()));
        let hours = after.since(begin);
        let bucket = BUCKETS
            .into_iter()
            .find(|bucket| bucket.saturating_mul(MAX_BARS) >= hours)
            .unwrap_or_else(|| (hours / MAX_BARS / 24 + 1) * 24);
        let number = usize::try_from((hours + bucket - 1) / bucket).ok()?.max(1);
        let mut bars = vec![(0_u64, 0_u64); number];
        for calls in &client.timeline {
            let at = usize::try_from(calls.hour.since(begin) / bucket).ok()?;
            let bar = bars.get_mut(at.min(number - 1))?;
            bar.0 = bar.0.saturating_add(calls.tokenless);
            bar.1 = bar.1.saturating_add(calls.others);
        }
        Some(Self::drawn(&bars, begin.begin(), end, bucket))
    }

    fn drawn(bars: &[(u64, u64)], begin: Timestamp, end: Timestamp, bucket: i64) -> Self {
        let v1 = || bars.iter().map(|bar| bar.0);
        let most_v1 = v1().max().unwrap_or(0);
        let all = bars.iter().map(|bar| bar.0.saturating_add(bar.1));
        let most = all.max().unwrap_or(0);
        let bucket = format::length(bucket.unsigned_abs().saturating_mul(3600));
        let (from, to) = (begin.to_minute(), end.to_minute());
        let sum = v1().fold(0, u64::saturating_add);
        Self {
            label: format!(
                "IMDSv1 calls from {from} to {to} UTC, one bar per {bucket}: {} in total, at most \
                 {} per bar",
                format::count(sum),
                format::count(most_v1)
            ),
            spark: spark(bars),
            tokenless: path(CHART, most, v1().map(|n| (0, n))),
            others: path(CHART, most, bars.iter().copied()),
            from,
            to,
            highest: format::count(most),
            bucket,
        }
    }
}

/// The small chart is too narrow for all bars: one stands for two.
fn spark(bars: &[(u64, u64)]) -> String {
    let pairs = bars.chunks(2);
    let bars: Vec<u64> = pairs
        .map(|pair| pair.iter().map(|bar| bar.0).fold(0, u64::saturating_add))
        .collect();
    let most = bars.iter().copied().max().unwrap_or(0);
    path(SPARK, most, bars.into_iter().map(|n| (0, n)))
}

/// Adjacent bars, each given as its base and its height.
fn path(
    (width, height): (u64, u64),
    most: u64,
    bars: impl ExactSizeIterator<Item = (u64, u64)>,
) -> String {
    let number = bars.len() as u64;
    let scaled = |n: u64| {
        let scaled = u128::from(n) * u128::from(height) / u128::from(most.max(1));
        // Even the smallest number is visible.
        u64::try_from(scaled)
            .unwrap_or(height)
            .max(u64::from(n > 0))
    };
    let mut path = String::new();
    for (i, (below, more)) in (0..).zip(bars).filter(|(_, (_, more))| *more > 0) {
        let left = i * width / number;
        let wide = ((i + 1) * width / number - left).max(2) - 1;
        let base = scaled(below);
        let high = scaled(more).min(height.saturating_sub(base));
        let bottom = height.saturating_sub(base);
        let _ = write!(path, "M{left} {bottom}v-{high}h{wide}v{high}z");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stand_side_by_side_and_the_smallest_is_visible() {
        let bars = [(0, 100), (0, 0), (50, 50), (0, 1)];
        assert_eq!(
            path((40, 10), 100, bars.into_iter()),
            "M0 10v-10h9v10zM20 5v-5h9v5zM30 10v-1h9v1z"
        );
        assert_eq!(path((40, 10), 0, [(0, 0)].into_iter()), "");
        let most = u64::MAX;
        assert_eq!(path((9, 9), most, [(0, most)].into_iter()), "M0 9v-9h8v9z");
    }
}
