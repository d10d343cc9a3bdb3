//! CloudWatch's count of tokenless calls: the answers of the AWS CLI, and how to ask for them.
//!
//! EC2 counts in the namespace `AWS/EC2`: `MetadataNoToken`, the tokenless calls that were
//! answered, while `HttpTokens` is `optional`, and `MetadataNoTokenRejected`, those that were
//! refused, while it is `required`; as a sum for every five minutes, or for every minute with
//! detailed monitoring (EC2 User Guide, "CloudWatch metrics that are available for your
//! instances"). imdsmon asks nobody: it reads what the operator fetched with [`commands`], and
//! [`reconcile`] holds it against its own counts.

#[cfg(test)]
mod read_tests;
mod reconcile;
#[cfg(test)]
mod reconcile_tests;

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use jiff::Timestamp;
use serde::Deserialize;

pub use self::reconcile::{Counts, counts, reconcile};
use crate::{event::UnixNanos, host::id_or_placeholder, text::escape::escaped};

/// Most bytes of an answer. As many points as CloudWatch gives at once (100,800) take ten.
pub const MAX_BYTES: u64 = 16 << 20;

/// Seconds of an hour.
const HOUR: i64 = 3600;

/// A metric that counts calls without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Answered.
    NoToken,
    /// Refused.
    NoTokenRejected,
}

impl Metric {
    /// Its name in CloudWatch.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoToken => "MetadataNoToken",
            Self::NoTokenRejected => "MetadataNoTokenRejected",
        }
    }

    /// The metric that a label is about. Where labels of several instances or regions would be
    /// alike, CloudWatch puts these beside the metric's name.
    fn of(label: &str) -> Option<Self> {
        let is = |metric: &Self| label.split_whitespace().any(|word| word == metric.name());
        [Self::NoToken, Self::NoTokenRejected].into_iter().find(is)
    }
}

/// What CloudWatch counted, by metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(BTreeMap<Metric, Series>);

/// What one metric counted.
#[derive(Clone, Debug, Default, PartialEq)]
struct Series {
    /// Seconds that a point stands for; 0 if there is no point.
    period: i64,
    /// Sums, by the second since 1970-01-01 UTC that they begin with.
    points: BTreeMap<i64, u64>,
}

/// Why an answer cannot be used; each is one sentence that names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum CloudWatchError {
    /// Reading failed.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// More than [`MAX_BYTES`].
    #[error("is larger than 16 MiB; fetch a shorter time, or a longer --period")]
    TooLarge,
    /// No JSON, or not what CloudWatch answers.
    #[error("is not what CloudWatch answers as JSON ({0}); fetch it with --output json")]
    Json(#[from] serde_json::Error),
    /// Another answer, or none.
    #[error(
        "holds no metric; give it the output of `aws cloudwatch get-metric-statistics` or \
         `get-metric-data`"
    )]
    Empty,
    /// Another metric.
    #[error(
        "is about `{0}`; the metrics to compare with are MetadataNoToken and \
         MetadataNoTokenRejected"
    )]
    OtherMetric(String),
    /// Another statistic.
    #[error("holds no sums; fetch it with --statistics Sum")]
    NoSum,
    /// As many values as times there must be.
    #[error("has {0} times and {1} values; it is damaged, fetch it again")]
    Lengths(usize, usize),
    /// Not a count.
    #[error("holds {0}, which is no number of calls; fetch the sums of the metric itself")]
    Value(f64),
    /// Not a time.
    #[error("holds `{0}`, which is no time with a time zone; fetch it again")]
    Time(String),
    /// CloudWatch had more to say.
    #[error("is only a part of the answer (StatusCode {0}); fetch a shorter time")]
    Partial(String),
    /// Two answers that do not go together.
    #[error("gives two sums for {0}; give the metrics of one instance, fetched with one --period")]
    Conflict(String),
    /// One point, or points at odd times.
    #[error(
        "does not show what time a point stands for; fetch more than one point, from a whole \
         hour on, with --period 300 or --period 3600"
    )]
    Period,
}

/// The answer of either command, as far as it matters. Both begin with capitals, as the API does.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
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

/// The CLI writes times as RFC 3339; version 1 may hand on the seconds that the service sent.
#[derive(Deserialize)]
#[serde(untagged)]
enum Time {
    Text(String),
    Seconds(f64),
}

impl Metrics {
    /// Reads the JSON of `aws cloudwatch get-metric-statistics` or `get-metric-data`: one answer
    /// or several behind each other, as `>>` leaves them.
    ///
    /// What time a point stands for shows in the distance between points.
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
        for answer in serde_json::Deserializer::from_slice(bytes).into_iter() {
            match answer? {
                Answer {
                    label: Some(label),
                    datapoints: Some(points),
                    ..
                } => metrics.add_statistics(&label, points)?,
                Answer {
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

    /// Takes in another answer, about the same instance.
    pub fn merge(&mut self, other: Self) -> Result<(), CloudWatchError> {
        for (metric, series) in other.0 {
            let mine = self.0.entry(metric).or_default();
            for (begin, sum) in series.points {
                mine.insert(begin, sum)?;
            }
        }
        self.settle()
    }

    /// Finds out what time a point stands for: what all distances are a multiple of, because EC2
    /// leaves no period out, and says 0 where nobody called. Where there is only one point of a
    /// metric, it is as with the other metric.
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
        // A long answer comes in pages, which the CLI puts behind each other; only the last of
        // them says `Complete`.
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
        // No instance gets there, and sums of it fit.
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

    /// Hours are what imdsmon counts by: points must fit into them and begin where they do.
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
                .map(Timestamp::as_second)
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

/// Untrusted text for an error.
fn shown(text: &str) -> String {
    escaped(text, 60).to_string()
}

/// A second in RFC 3339.
fn rfc3339(second: i64) -> String {
    Timestamp::from_second(second)
        .unwrap_or_default()
        .to_string()
}

/// Most points of one answer of `get-metric-statistics` (`CloudWatch` API, "`GetMetricStatistics`").
const MAX_POINTS: i64 = 1440;

/// Commands that fetch what CloudWatch counted while imdsmon watched, into `cloudwatch.json`.
///
/// They begin and end at whole hours, as [`reconcile`] needs it. Up to five days are fetched in
/// points of five minutes, more in points of an hour, and no more than the last sixty days.
pub fn commands(instance: Option<&str>, from: UnixNanos, to: UnixNanos) -> Vec<String> {
    const NANOS: i64 = HOUR * 1_000_000_000;
    let end = to.div_euclid(NANOS) + i64::from(to.rem_euclid(NANOS) > 0);
    let begin = from.div_euclid(NANOS).clamp(end - MAX_POINTS, end - 1);
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
