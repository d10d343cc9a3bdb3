//! The migration report as a value, which is also its JSON form.

use serde::{Serialize, Serializer};

pub use crate::host::Instance;

use crate::{
    identity::client::Client,
    knowledge::{PathClass, Sdk},
    ledger::{Coverage, Sample},
    time::{Hour, Timestamp, as_rfc3339},
    verdict::{HostVerdict, Judgement},
};

/// Version of the JSON form; a change that breaks readers raises it.
pub(crate) const SCHEMA: &str = "imdsmon.report/1";

/// The verdict on an instance, its clients and their fixes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub(crate) schema: &'static str,
    /// Program and version.
    pub generator: String,
    /// RFC 3339 in JSON, as all times.
    #[serde(with = "as_rfc3339")]
    pub(crate) generated_at: Timestamp,
    pub instance: Instance,
    #[serde(rename = "answer")]
    pub(crate) verdict: ReportVerdict,
    #[serde(rename = "window")]
    pub(crate) period: ObservationPeriod,
    pub totals: Totals,
    /// Clients, worst first.
    pub clients: Vec<ClientReport>,
    /// `None` if no metrics were given.
    pub cloudwatch: Option<Reconciliation>,
    /// In order.
    pub next_steps: Vec<NextStep>,
}

/// Whether the instance can require IMDSv2.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReportVerdict {
    pub(crate) verdict: HostVerdict,
    /// The reason in one sentence. Holds untrusted names.
    pub(crate) sentence: String,
    /// Reasons why the observation may be incomplete; also given with "not ready".
    pub(crate) doubts: Vec<String>,
}

/// From the first start of capture to its last end.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ObservationPeriod {
    /// `None` if nothing was observed.
    #[serde(serialize_with = "optional")]
    pub(crate) from: Option<Timestamp>,
    /// `None` if nothing was observed.
    #[serde(serialize_with = "optional")]
    pub(crate) to: Option<Timestamp>,
    /// Seconds from `from` to `to`.
    pub(crate) length_s: u64,
    /// The same without gaps.
    pub(crate) observed_s: u64,
    /// Seconds of observation that are required.
    #[serde(rename = "wanted_s")]
    pub(crate) required_s: u64,
    /// Records dropped because the ring buffer was full.
    #[serde(rename = "lost_records")]
    pub(crate) dropped_records: u64,
    /// Intervals without capture.
    pub(crate) gaps: u64,
    /// The source of these values.
    pub(crate) coverage: Coverage,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Requests of any kind.
    pub(crate) calls: u64,
    /// IMDSv1 calls.
    pub(crate) tokenless: u64,
    /// IMDSv1 calls that succeeded: what `MetadataNoToken` counts.
    pub(crate) tokenless_successful: u64,
    /// IMDSv1 calls rejected with 401: what `MetadataNoTokenRejected` counts.
    pub(crate) tokenless_rejected: u64,
    /// IMDSv2 calls.
    pub(crate) with_token: u64,
    /// `PUT /latest/api/token`.
    pub(crate) token_requests: u64,
    /// Bytes sent to IMDS that are not HTTP.
    pub(crate) unparsed_bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ClientReport {
    /// Stable, as `imds.client` of a call. Untrusted.
    pub name: String,
    /// The parts of the name.
    pub client: Client,
    /// Verdict, reason and fix.
    #[serde(flatten)]
    pub judgement: Judgement,
    pub totals: Totals,
    /// From its User-Agents.
    pub sdks: Vec<Sdk>,
    pub user_agents: Vec<String>,
    /// Most sensitive class of path that it requested.
    pub(crate) most_sensitive: PathClass,
    #[serde(with = "as_rfc3339")]
    pub(crate) first_seen: Timestamp,
    #[serde(with = "as_rfc3339")]
    pub(crate) last_seen: Timestamp,
    /// Most sensitive first.
    pub paths: Vec<PathReport>,
    /// Calls of paths beyond the limit of the ledger.
    pub(crate) more_paths: u64,
    pub samples: Vec<Sample>,
    /// Calls by hour, only hours with calls, in order.
    pub(crate) timeline: Vec<HourlyCalls>,
}

/// A path that a client requested.
#[derive(Clone, Debug, Serialize)]
pub struct PathReport {
    pub path: String,
    /// Class of its data.
    pub class: PathClass,
    /// IMDSv1 calls.
    pub tokenless: u64,
    /// IMDSv2 calls.
    pub with_token: u64,
}

/// Calls in one hour.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HourlyCalls {
    #[serde(rename = "begin", serialize_with = "begin_of")]
    pub(crate) hour: Hour,
    /// IMDSv1 calls.
    pub(crate) tokenless: u64,
    /// IMDSv2 calls and token requests.
    pub(crate) others: u64,
}

/// Comparison of imdsmon's counts with CloudWatch's.
#[derive(Clone, Debug, Serialize)]
pub struct Reconciliation {
    /// How far the counts agree, and what that means.
    pub(crate) sentence: String,
    pub metrics: Vec<MetricReport>,
}

/// A metric of CloudWatch and the same count by imdsmon.
#[derive(Clone, Debug, Serialize)]
pub struct MetricReport {
    /// `MetadataNoToken` or `MetadataNoTokenRejected`.
    pub(crate) metric: String,
    /// Sum over the periods observed in full.
    pub(crate) cloudwatch: f64,
    /// Calls that imdsmon captured in the same periods.
    pub(crate) imdsmon: u64,
    /// Share of CloudWatch's count that imdsmon explains, 0 to 1; `None` if that count is 0.
    pub(crate) explained: Option<f64>,
    /// Length of a period.
    pub(crate) period_s: u64,
    /// Periods compared.
    pub(crate) compared: u64,
    /// Periods not observed in full.
    pub(crate) left_out: u64,
    /// Periods with different counts, in order.
    pub(crate) differences: Vec<Difference>,
}

/// A period in which CloudWatch and imdsmon counted differently.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Difference {
    /// Its start; without a fraction of a second, as CloudWatch has it.
    #[serde(serialize_with = "without_fraction")]
    pub(crate) begin: Timestamp,
    /// Sum of the metric.
    pub(crate) cloudwatch: f64,
    /// Captured calls.
    pub(crate) imdsmon: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct NextStep {
    pub(crate) title: String,
    pub(crate) text: String,
    /// One line each.
    pub commands: Vec<String>,
    /// URL of the documentation.
    pub(crate) reference: Option<String>,
}

#[expect(clippy::ref_option, reason = "serde passes a reference")]
fn optional<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(Timestamp::to_rfc3339).serialize(serializer)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn begin_of<S: Serializer>(hour: &Hour, serializer: S) -> Result<S::Ok, S::Error> {
    as_rfc3339::serialize(&hour.begin(), serializer)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn without_fraction<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_seconds())
}
