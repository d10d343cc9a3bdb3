//! The migration report as a value: what every format shows, and what its JSON is.

use serde::Serialize;

pub use crate::host::Instance;

use crate::{
    identity::client::Client,
    knowledge::{PathClass, Sdk},
    ledger::{Coverage, Sample},
    verdict::{HostVerdict, Judgement},
};

/// Version of the JSON form; a change that breaks readers raises it.
pub const SCHEMA: &str = "imdsmon.report/1";

/// May this instance be flipped, who must change what, and how sure is that?
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// imdsmon's version.
    pub generator: String,
    /// When it was made, RFC 3339.
    pub generated_at: String,
    /// Which instance.
    pub instance: Instance,
    /// The answer.
    pub answer: Answer,
    /// When and how well it was watched.
    pub window: Window,
    /// Calls of all clients.
    pub totals: Totals,
    /// Clients, worst first.
    pub clients: Vec<ClientReport>,
    /// Comparison with CloudWatch's metrics, if they were given.
    pub cloudwatch: Option<Reconciliation>,
    /// What to do next, in order.
    pub next_steps: Vec<NextStep>,
}

/// The answer to the one question.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// In a word.
    pub verdict: HostVerdict,
    /// In a sentence: why.
    pub sentence: String,
    /// What makes it inconclusive, each in a sentence; also given beside a "not ready".
    pub doubts: Vec<String>,
}

/// How long and how well it was watched.
#[derive(Clone, Debug, Serialize)]
pub struct Window {
    /// Begin of the first time of watching, RFC 3339; `None` if nobody watched.
    pub from: Option<String>,
    /// End of the last.
    pub to: Option<String>,
    /// Seconds between the two.
    pub length_s: u64,
    /// Seconds of them that were watched.
    pub observed_s: u64,
    /// Seconds that must be watched for an answer.
    pub wanted_s: u64,
    /// Records that the kernel had no room for.
    pub lost_records: u64,
    /// Times in between when nobody watched.
    pub gaps: u64,
    /// The facts behind these.
    pub coverage: Coverage,
}

/// Calls of all clients.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Requests of any kind.
    pub calls: u64,
    /// Without a token.
    pub tokenless: u64,
    /// Without a token and answered with success: what `MetadataNoToken` counts.
    pub tokenless_successful: u64,
    /// Without a token and answered 401: what `MetadataNoTokenRejected` counts.
    pub tokenless_rejected: u64,
    /// With a token header.
    pub with_token: u64,
    /// Requests for a token.
    pub token_requests: u64,
    /// Bytes to IMDS that are no request.
    pub unparsed_bytes: u64,
}

/// One client.
#[derive(Clone, Debug, Serialize)]
pub struct ClientReport {
    /// Its stable name, as in `imds.client` of a call.
    pub name: String,
    /// Who it is.
    pub client: Client,
    /// What was concluded.
    #[serde(flatten)]
    pub judgement: Judgement,
    /// Its calls.
    pub totals: Totals,
    /// SDKs and tools that it said it uses.
    pub sdks: Vec<Sdk>,
    /// User-Agents.
    pub user_agents: Vec<String>,
    /// The most sensitive thing that it asked for.
    pub most_sensitive: PathClass,
    /// First call, RFC 3339.
    pub first_seen: String,
    /// Last call.
    pub last_seen: String,
    /// Paths that it asked for, most sensitive first.
    pub paths: Vec<PathReport>,
    /// Paths that did not fit.
    pub more_paths: u64,
    /// Calls to look at.
    pub samples: Vec<Sample>,
    /// Calls by hour, only hours with calls, in order.
    pub timeline: Vec<Hour>,
}

/// A path that a client asked for.
#[derive(Clone, Debug, Serialize)]
pub struct PathReport {
    /// The path.
    pub path: String,
    /// What it is.
    pub class: PathClass,
    /// Calls without a token.
    pub tokenless: u64,
    /// Calls with one.
    pub with_token: u64,
}

/// Calls in one hour.
#[derive(Clone, Debug, Serialize)]
pub struct Hour {
    /// Its begin, RFC 3339.
    pub begin: String,
    /// Calls without a token.
    pub tokenless: u64,
    /// Other calls.
    pub others: u64,
}

/// What imdsmon saw beside what CloudWatch counted.
#[derive(Clone, Debug, Serialize)]
pub struct Reconciliation {
    /// In a sentence: how well they agree, and what that means.
    pub sentence: String,
    /// One for each metric.
    pub metrics: Vec<MetricReport>,
}

/// One metric beside the same count of imdsmon.
#[derive(Clone, Debug, Serialize)]
pub struct MetricReport {
    /// `MetadataNoToken` or `MetadataNoTokenRejected`.
    pub metric: String,
    /// Sum over the periods that were watched whole.
    pub cloudwatch: f64,
    /// Calls that imdsmon saw in the same periods.
    pub imdsmon: u64,
    /// Share of CloudWatch's count that imdsmon explains, 0 to 1; `None` where there is none.
    pub explained: Option<f64>,
    /// Seconds of a period.
    pub period_s: u64,
    /// Periods that were compared.
    pub compared: u64,
    /// Periods that were left out because they were not watched whole.
    pub left_out: u64,
    /// Periods in which the two differ, in order.
    pub differences: Vec<Difference>,
}

/// A period in which CloudWatch and imdsmon counted differently.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Its begin, RFC 3339.
    pub begin: String,
    /// What CloudWatch counted.
    pub cloudwatch: f64,
    /// What imdsmon counted.
    pub imdsmon: u64,
}

/// Something to do.
#[derive(Clone, Debug, Serialize)]
pub struct NextStep {
    /// What, in a few words.
    pub title: String,
    /// Why and when.
    pub text: String,
    /// As typed, one line each.
    pub commands: Vec<String>,
    /// Page that describes it.
    pub reference: Option<String>,
}
