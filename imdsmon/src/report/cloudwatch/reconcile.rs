//! Comparison of CloudWatch's counts with imdsmon's.
//!
//! imdsmon counts by the hour, so whole hours are compared: hours that were observed without a gap
//! and for which CloudWatch has every point. A difference in either direction is significant.
//!
//! If the observation period has no such hour, points that were observed in full are compared with
//! all calls that imdsmon captured in their hour. That can show missed calls, but not their
//! absence.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{CloudWatchMetrics, HOUR, Metric, Series, rfc3339};
use crate::{
    http::call::Auth,
    ledger::{ClientStats, ResponseClass, coverage::Span},
    report::model::{Difference, MetricReport, Reconciliation},
    time::Timestamp,
};

/// IMDSv1 calls that imdsmon captured in one hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Succeeded: what `MetadataNoToken` counts.
    pub successful: u64,
    /// Rejected with 401: what `MetadataNoTokenRejected` counts.
    pub rejected: u64,
}

/// IMDSv1 calls of all clients, by the hour since 1970-01-01 UTC.
pub fn counts<'a>(entries: impl IntoIterator<Item = &'a ClientStats>) -> BTreeMap<i64, Counts> {
    let mut sums: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (bucket, count) in entries.into_iter().flat_map(|entry| &entry.buckets) {
        let (successful, rejected) = sums.entry(bucket.hour.get()).or_default();
        match (bucket.auth, bucket.response) {
            (Auth::V1, ResponseClass::Ok) => *successful += count,
            (Auth::V1, ResponseClass::Unauthorized) => *rejected += count,
            _ => {}
        }
    }
    let counted = |count| u64::try_from(count).unwrap_or(0);
    sums.into_iter()
        .map(|(hour, (successful, rejected))| {
            let counts = Counts {
                successful: counted(successful),
                rejected: counted(rejected),
            };
            (hour, counts)
        })
        .collect()
}

/// How much of CloudWatch's count imdsmon explains, and what the rest means.
///
/// `counts` are by the hour since 1970-01-01 UTC; `spans` are the observed periods.
pub fn reconcile(
    metrics: &CloudWatchMetrics,
    counts: &BTreeMap<i64, Counts>,
    spans: &[Span],
) -> Reconciliation {
    let mut sentences = Vec::new();
    let mut reports = Vec::new();
    for (&metric, series) in &metrics.0 {
        // EC2 emits one of the two only, according to `HttpTokens`.
        if series.points.is_empty() {
            continue;
        }
        let ours = |hour| {
            let counts: Counts = counts.get(&hour).copied().unwrap_or_default();
            match metric {
                Metric::NoToken => counts.successful,
                Metric::NoTokenRejected => counts.rejected,
            }
        };
        let comparison = Comparison::new(series, &ours, spans);
        sentences.push(comparison.sentence(metric, spans));
        reports.push(comparison.report(metric));
    }
    if reports.is_empty() {
        sentences.push(
            "The CloudWatch output has no data points: check its region, instance ID and period."
                .to_owned(),
        );
    }
    Reconciliation {
        sentence: sentences.join(" "),
        metrics: reports,
    }
}

/// A period in which both counted.
struct Bucket {
    /// Its first second.
    begin: i64,
    cloudwatch: u64,
    imdsmon: u64,
    /// The part of CloudWatch's count that is also in imdsmon's.
    explained: u64,
}

/// All periods of a metric.
struct Comparison {
    buckets: Vec<Bucket>,
    /// Periods of CloudWatch that are part of `buckets`.
    periods: u64,
    /// Other periods that CloudWatch has points for.
    left_out: u64,
    /// Seconds of a period.
    length: i64,
    /// Whether imdsmon's counts are of exactly the same period.
    is_exact: bool,
}

impl Comparison {
    fn new(series: &Series, ours: &impl Fn(i64) -> u64, spans: &[Span]) -> Self {
        let whole = Self::whole(series, ours, spans);
        if !whole.buckets.is_empty() || series.period >= HOUR {
            return whole;
        }
        Self::part(series, ours, spans)
    }

    /// Periods of at least an hour that were observed in full.
    fn whole(series: &Series, ours: &impl Fn(i64) -> u64, spans: &[Span]) -> Self {
        let length = series.period.max(HOUR);
        // Number of points and their sum, by the first second of the period.
        let mut sums: BTreeMap<i64, (i64, u64)> = BTreeMap::new();
        for (begin, sum) in &series.points {
            // A longer period begins with its point, which begins at a whole hour.
            let period = sums.entry(begin - begin.rem_euclid(HOUR)).or_default();
            period.0 += 1;
            period.1 += sum;
        }
        let all = sums.len();
        let mut buckets: Vec<_> = sums
            .into_iter()
            .filter(|&(begin, (points, _))| {
                points * series.period == length && is_observed(begin, length, spans)
            })
            .map(|(begin, (_, cloudwatch))| {
                let hours = begin / HOUR..(begin + length) / HOUR;
                Bucket::new(begin, cloudwatch, hours.map(ours).sum())
            })
            .collect();
        balance_neighbors(&mut buckets, length);
        Self {
            periods: buckets.len() as u64,
            left_out: (all - buckets.len()) as u64,
            buckets,
            length,
            is_exact: true,
        }
    }

    /// Points observed in full, by the hour, against all calls that imdsmon captured in that hour.
    fn part(series: &Series, ours: &impl Fn(i64) -> u64, spans: &[Span]) -> Self {
        let mut sums: BTreeMap<i64, u64> = BTreeMap::new();
        let (mut periods, mut left_out) = (0, 0);
        for (&begin, sum) in &series.points {
            if is_observed(begin, series.period, spans) {
                *sums.entry(begin.div_euclid(HOUR)).or_default() += sum;
                periods += 1;
            } else {
                left_out += 1;
            }
        }
        let bucket = |(hour, cloudwatch)| Bucket::new(hour * HOUR, cloudwatch, ours(hour));
        Self {
            buckets: sums.into_iter().map(bucket).collect(),
            periods,
            left_out,
            length: series.period,
            is_exact: false,
        }
    }

    fn cloudwatch(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.cloudwatch).sum()
    }

    fn imdsmon(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.imdsmon).sum()
    }

    fn explained(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.explained).sum()
    }

    fn report(&self, metric: Metric) -> MetricReport {
        let cloudwatch = self.cloudwatch();
        let differs = |bucket: &&Bucket| {
            bucket.explained < bucket.cloudwatch
                || (self.is_exact && bucket.cloudwatch != bucket.imdsmon)
        };
        let differences = self.buckets.iter().filter(differs);
        let difference = |bucket: &Bucket| Difference {
            begin: Timestamp::from_secs(bucket.begin),
            cloudwatch: float(bucket.cloudwatch),
            imdsmon: bucket.imdsmon,
        };
        MetricReport {
            metric: metric.name().to_owned(),
            cloudwatch: float(cloudwatch),
            imdsmon: self.imdsmon(),
            explained: (cloudwatch > 0).then(|| float(self.explained()) / float(cloudwatch)),
            period_s: self.length.unsigned_abs(),
            compared: self.periods,
            left_out: self.left_out,
            differences: differences.map(difference).collect(),
        }
    }

    fn sentence(&self, metric: Metric, spans: &[Span]) -> String {
        let name = metric.name();
        let when = match (self.periods, self.length / HOUR, self.is_exact) {
            (0, ..) => {
                return format!(
                    "{name}: nothing can be compared, because no CloudWatch period was observed in \
                     full."
                );
            }
            (_, _, false) => "in the minutes observed in full".to_owned(),
            (1, 1, _) => "in one whole hour".to_owned(),
            (n, 1, _) => format!("in {n} whole hours"),
            (n, hours, _) => format!("in {n} periods of {hours} hours"),
        };
        let (cloudwatch, imdsmon) = (self.cloudwatch(), self.imdsmon());
        let missing = cloudwatch - self.explained();
        let more = imdsmon.saturating_sub(cloudwatch);
        match (cloudwatch, missing) {
            (0, _) if more == 0 || !self.is_exact => {
                format!("{name}: CloudWatch counted no calls {when}, so imdsmon missed none.")
            }
            (0, _) => format!(
                "{name}: CloudWatch counted none of the {more} calls that imdsmon captured {when}; \
                 its data may be delayed or of another instance."
            ),
            (_, 0) if !self.is_exact => format!(
                "{name}: nothing indicates that imdsmon missed any of the {cloudwatch} calls that \
                 CloudWatch counted {when}; one whole hour of observation is required to confirm it."
            ),
            (_, 0) if more == 0 => {
                format!(
                    "{name}: imdsmon captured all {cloudwatch} calls that CloudWatch counted {when}."
                )
            }
            (_, 0) => format!(
                "{name}: imdsmon captured all {cloudwatch} calls that CloudWatch counted {when}, and \
                 {more} more; CloudWatch's data may be delayed or of another instance."
            ),
            _ => self.gap(metric, &when, missing, spans),
        }
    }

    /// Describes the missing calls and what they mean.
    fn gap(&self, metric: Metric, when: &str, missing: u64, spans: &[Span]) -> String {
        let cloudwatch = self.cloudwatch();
        // Tenths of a percent, rounded down: only a full match is 100 %.
        let tenths = u128::from(self.explained()) * 1000 / u128::from(cloudwatch);
        let mut text = format!(
            "{}: imdsmon captured {}{}.{} % of the {cloudwatch} calls that CloudWatch counted \
             {when}. It missed {missing} of them",
            metric.name(),
            if self.is_exact { "" } else { "at most " },
            tenths / 10,
            tenths % 10,
        );
        let gap = |bucket: &&Bucket| bucket.cloudwatch - bucket.explained;
        // `max_by_key` gives the last of equals; the first is reported.
        if let Some(worst) = self.buckets.iter().rev().max_by_key(gap) {
            let from = rfc3339(worst.begin);
            // Writing to a string cannot fail.
            let _ = write!(text, ", {} from {from} on", gap(&worst));
        }
        let lost: u64 = spans.iter().map(|span| span.lost_records).sum();
        if lost > 0 {
            let _ = write!(
                text,
                "; {lost} ring buffer records were dropped, which may account for some"
            );
        }
        text.push_str(match metric {
            Metric::NoToken => {
                ". Their clients are unknown: identify them before you require IMDSv2. "
            }
            Metric::NoTokenRejected => ". Their clients are unknown. ",
        });
        text.push_str("`imdsmon doctor` lists the limits of capture on this host.");
        text
    }
}

impl Bucket {
    fn new(begin: i64, cloudwatch: u64, imdsmon: u64) -> Self {
        Self {
            begin,
            cloudwatch,
            imdsmon,
            explained: cloudwatch.min(imdsmon),
        }
    }
}

/// A call at an hour boundary may be counted in different hours: the surplus of one period explains
/// the deficit of its neighbor.
fn balance_neighbors(buckets: &mut [Bucket], length: i64) {
    let spare = |bucket: &Bucket| bucket.imdsmon.saturating_sub(bucket.cloudwatch);
    let mut spares: Vec<u64> = buckets.iter().map(spare).collect();
    for i in 0..buckets.len() {
        for beside in [i.checked_sub(1), Some(i + 1)].into_iter().flatten() {
            let is_beside = buckets.get(beside).is_some_and(|other| {
                other.begin.abs_diff(buckets[i].begin) == length.unsigned_abs()
            });
            if is_beside {
                let lent = spares[beside].min(buckets[i].cloudwatch - buckets[i].explained);
                spares[beside] -= lent;
                buckets[i].explained += lent;
            }
        }
    }
}

/// Whether `length` seconds from `begin` on were observed without a gap.
fn is_observed(begin: i64, length: i64, spans: &[Span]) -> bool {
    let from = Timestamp::from_secs(begin);
    let to = Timestamp::from_secs(begin.saturating_add(length));
    spans.iter().any(|span| span.from <= from && to <= span.to)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of calls are far below 2^53"
)]
fn float(count: u64) -> f64 {
    count as f64
}
