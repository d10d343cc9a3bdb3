//! CloudWatch's counts of IMDSv1 calls: the output of the AWS CLI, and the commands that fetch it.
//!
//! EC2 publishes in the namespace `AWS/EC2`: `MetadataNoToken`, the IMDSv1 calls that succeeded
//! while `HttpTokens` is `optional`, and `MetadataNoTokenRejected`, those that were rejected while
//! it is `required`; as a sum for every five minutes, or for every minute with detailed monitoring
//! (EC2 User Guide, "CloudWatch metrics that are available for your instances"). imdsmon makes no
//! network requests: it reads what the operator fetched with [`commands`], and [`reconcile()`]
//! compares it with its own counts.

#[cfg(test)]
mod read_tests;
mod reconcile;
#[cfg(test)]
mod reconcile_tests;

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use serde::Deserialize;

pub use self::reconcile::{Counts, counts, reconcile};
use crate::{host::id_or_placeholder, text::escape::escaped, time::Timestamp};

/// Bytes of a file. As many points as CloudWatch returns at once (100,800) take 10 MiB.
pub(crate) const MAX_BYTES: u64 = 16 << 20;

const HOUR: i64 = 3600;

/// A metric that counts IMDSv1 calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Metric {
    /// Succeeded.
    NoToken,
    NoTokenRejected,
}

impl Metric {
    /// Its name in CloudWatch.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoToken => "MetadataNoToken",
            Self::NoTokenRejected => "MetadataNoTokenRejected",
        }
    }

    /// The metric of a label. CloudWatch adds the instance or region to labels that would be equal.
    fn of(label: &str) -> Option<Self> {
        let is = |metric: &Self| label.split_whitespace().any(|word| word == metric.name());
        [Self::NoToken, Self::NoTokenRejected].into_iter().find(is)
    }
}

/// CloudWatch's counts, by metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CloudWatchMetrics(BTreeMap<Metric, Series>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Series {
    /// Seconds of a period; 0 without points.
    period: i64,
    /// Sums, by the first second of the period since 1970-01-01 UTC.
    points: BTreeMap<i64, u64>,
}

/// Why a file cannot be used. The file name precedes the text.
#[derive(Debug, thiserror::Error)]
pub enum CloudWatchError {
    #[error("read failed")]
    Read(#[from] io::Error),
    /// More than [`MAX_BYTES`].
    #[error("the file is larger than 16 MiB; fetch a shorter time range or a longer --period")]
    TooLarge,
    #[error("the file is not JSON output of CloudWatch: {0}; fetch it with --output json")]
    Json(#[from] serde_json::Error),
    #[error(
        "the file holds no metric; pass the output of `aws cloudwatch get-metric-statistics` or \
         `get-metric-data`"
    )]
    Empty,
    #[error("the file holds the metric `{0}`; fetch MetadataNoToken or MetadataNoTokenRejected")]
    OtherMetric(String),
    #[error("the file holds no sums; fetch it with --statistics Sum")]
    NoSum,
    #[error("the file holds {0} timestamps but {1} values; fetch it again")]
    Lengths(usize, usize),
    #[error(
        "the file holds {0}, which is not a number of calls; fetch the sums of the metric itself"
    )]
    Value(f64),
    #[error("the file holds `{0}`, which is not a timestamp with a time zone; fetch it again")]
    Time(String),
    #[error("the file is incomplete (StatusCode {0}); fetch a shorter time range")]
    Partial(String),
    #[error(
        "the file holds two sums for {0}; pass the metrics of one instance, fetched with one --period"
    )]
    Conflict(String),
    #[error(
        "the file does not show the length of a period; fetch more than one point, starting at a whole \
         hour, with --period 300 or --period 3600"
    )]
    Period,
}

/// The parts of the commands' output that are read. Keys are in Pascal case, as in the API.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    label: Option<String>,
    datapoints: Option<Vec<Datapoint>>,
    metric_data_results: Option<Vec<MetricData>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Datapoint {
    timestamp: Time,
    sum: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetricData {
    label: String,
    #[serde(default)]
    timestamps: Vec<Time>,
    #[serde(default)]
    values: Vec<f64>,
    status_code: Option<String>,
}

/// The CLI writes times as RFC 3339; version 1 may pass on the seconds of the service.
#[derive(Deserialize)]
#[serde(untagged)]
enum Time {
    Text(String),
    Seconds(f64),
}

impl CloudWatchMetrics {
    /// Reads the JSON of `aws cloudwatch get-metric-statistics` or `get-metric-data`: one document,
    /// or several concatenated with `>>`.
    ///
    /// The distance between points gives the length of a period.
    pub fn read(from: impl Read) -> Result<Self, CloudWatchError> {
        let mut bytes = Vec::new();
        from.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(CloudWatchError::TooLarge);
        }
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Self, CloudWatchError> {
        let mut metrics = Self::default();
        for output in serde_json::Deserializer::from_slice(bytes).into_iter() {
            match output? {
                Output {
                    label: Some(label),
                    datapoints: Some(points),
                    ..
                } => metrics.add_statistics(&label, points)?,
                Output {
                    metric_data_results: Some(results),
                    ..
                } => metrics.add_data(results)?,
                _ => return Err(CloudWatchError::Empty),
            }
        }
        if metrics.0.is_empty() {
            return Err(CloudWatchError::Empty);
        }
        metrics.settle()?;
        Ok(metrics)
    }

    /// Adds another output for the same instance.
    pub(crate) fn merge(&mut self, other: Self) -> Result<(), CloudWatchError> {
        for (metric, series) in other.0 {
            let mine = self.0.entry(metric).or_default();
            for (begin, sum) in series.points {
                mine.insert(begin, sum)?;
            }
        }
        self.settle()
    }

    /// Sets the length of a period: the greatest common divisor of all distances, because EC2
    /// publishes every period, with 0 if there were no calls. A metric with only one point takes
    /// the length of the other metric.
    fn settle(&mut self) -> Result<(), CloudWatchError> {
        let distance = |series: &Series| {
            let begins = series.points.keys();
            let distances = begins.clone().zip(begins.skip(1));
            distances
                .map(|(one, next)| next - one)
                .reduce(greatest_common_divisor)
        };
        let any = self.0.values().find_map(distance);
        for series in self.0.values_mut() {
            series.period = distance(series).or(any).unwrap_or(0);
            series.check_period()?;
        }
        Ok(())
    }

    fn add_statistics(
        &mut self,
        label: &str,
        points: Vec<Datapoint>,
    ) -> Result<(), CloudWatchError> {
        let series = self.series(label)?;
        for Datapoint { timestamp, sum } in points {
            series.add(timestamp.second()?, sum.ok_or(CloudWatchError::NoSum)?)?;
        }
        Ok(())
    }

    fn add_data(&mut self, results: Vec<MetricData>) -> Result<(), CloudWatchError> {
        // Long output has pages, which the CLI concatenates; only the last has `Complete`.
        let mut ends = BTreeMap::new();
        for result in results {
            let MetricData {
                label,
                timestamps,
                values,
                status_code,
            } = result;
            if timestamps.len() != values.len() {
                return Err(CloudWatchError::Lengths(timestamps.len(), values.len()));
            }
            let series = self.series(&label)?;
            for (time, sum) in timestamps.into_iter().zip(values) {
                series.add(time.second()?, sum)?;
            }
            ends.insert(label, status_code);
        }
        let part = ends
            .into_values()
            .flatten()
            .find(|status| status != "Complete");
        part.map_or(Ok(()), |status| {
            Err(CloudWatchError::Partial(shown(&status)))
        })
    }

    fn series(&mut self, label: &str) -> Result<&mut Series, CloudWatchError> {
        let metric = Metric::of(label).ok_or_else(|| CloudWatchError::OtherMetric(shown(label)))?;
        Ok(self.0.entry(metric).or_default())
    }
}

impl Series {
    fn add(&mut self, begin: i64, sum: f64) -> Result<(), CloudWatchError> {
        // Far above the calls of one instance, and sums still fit.
        if !(0.0..=1e12).contains(&sum) || sum.fract() != 0.0 {
            return Err(CloudWatchError::Value(sum));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number within bounds"
        )]
        let count = sum as u64;
        self.insert(begin, count)
    }

    fn insert(&mut self, begin: i64, sum: u64) -> Result<(), CloudWatchError> {
        match self.points.insert(begin, sum) {
            Some(before) if before != sum => Err(CloudWatchError::Conflict(rfc3339(begin))),
            _ => Ok(()),
        }
    }

    /// imdsmon counts by the hour: periods must divide hours, or consist of whole hours.
    fn check_period(&self) -> Result<(), CloudWatchError> {
        let Some((first, _)) = self.points.first_key_value() else {
            return Ok(());
        };
        let fits = match self.period {
            60..HOUR => HOUR % self.period == 0 && first % self.period == 0,
            HOUR.. => self.period % HOUR == 0 && first % HOUR == 0,
            _ => false,
        };
        fits.then_some(()).ok_or(CloudWatchError::Period)
    }
}

impl Time {
    /// Seconds since 1970-01-01 UTC.
    fn second(&self) -> Result<i64, CloudWatchError> {
        match self {
            Self::Text(text) => text
                .parse::<Timestamp>()
                .map(Timestamp::as_secs)
                .map_err(|_not_a_time| CloudWatchError::Time(shown(text))),
            // From 1970 to 9999.
            #[expect(
                clippy::cast_possible_truncation,
                reason = "within bounds, and fractions of a second mean nothing here"
            )]
            Self::Seconds(seconds) if (0.0..253e9).contains(seconds) => Ok(*seconds as i64),
            Self::Seconds(seconds) => Err(CloudWatchError::Time(seconds.to_string())),
        }
    }
}

fn greatest_common_divisor(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn shown(text: &str) -> String {
    escaped(text, 60).to_string()
}

fn rfc3339(second: i64) -> String {
    Timestamp::from_secs(second).to_rfc3339_seconds()
}

/// Points of one response of `get-metric-statistics` (`CloudWatch` API, "`GetMetricStatistics`").
const MAX_POINTS: i64 = 1440;

/// Commands that fetch CloudWatch's counts of the observation period into `cloudwatch.json`.
///
/// They start and end at whole hours, as [`reconcile()`] requires. Up to five days are fetched in
/// periods of five minutes, more in periods of an hour, and no more than the last sixty days.
pub(crate) fn commands(instance: Option<&str>, from: Timestamp, to: Timestamp) -> Vec<String> {
    let end = to.hour();
    let end = end.get() + i64::from(to > end.begin());
    let begin = from.hour().get().clamp(end - MAX_POINTS, end - 1);
    let period = if (end - begin) * HOUR / 300 <= MAX_POINTS {
        300
    } else {
        HOUR
    };
    let command = |(metric, into): (Metric, &str)| {
        format!(
            "aws cloudwatch get-metric-statistics --namespace AWS/EC2 --metric-name {} \
             --dimensions Name=InstanceId,Value={} --start-time {} --end-time {} \
             --period {period} --statistics Sum --output json {into} cloudwatch.json",
            metric.name(),
            id_or_placeholder(instance),
            rfc3339(begin * HOUR),
            rfc3339(end * HOUR),
        )
    };
    [(Metric::NoToken, ">"), (Metric::NoTokenRejected, ">>")]
        .map(command)
        .into()
}
