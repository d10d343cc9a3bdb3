//! Builds the report from the ledger and the assessment.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use super::{
    cloudwatch,
    model::{
        ClientReport, HourlyCalls, Instance, NextStep, ObservationPeriod, PathReport,
        Reconciliation, Report, ReportVerdict, SCHEMA, Totals,
    },
    next_steps::next_steps,
};
use crate::{
    http::call::Auth,
    ledger::{self, ClientStats, Coverage},
    time::{self, Timestamp},
    verdict::{Assessed, Assessment, INSTANCE_ID},
};

/// Input of [`Report::new`].
pub struct ReportInput<'a> {
    pub instance: Instance,
    pub coverage: &'a Coverage,
    /// The verdicts, with the ledger entries.
    pub assessment: Assessment<'a>,
    /// Required observation period.
    pub min_window: Duration,
    /// `None` if no metrics were given.
    pub cloudwatch: Option<Reconciliation>,
    pub now: Timestamp,
}

impl Report {
    /// The clients keep the order of the assessment, worst first.
    pub fn new(input: ReportInput<'_>) -> Self {
        let ReportInput {
            instance,
            coverage,
            assessment,
            min_window,
            cloudwatch,
            now,
        } = input;
        let Assessment {
            verdict,
            sentence,
            doubts,
            clients,
        } = assessment;
        let id = instance.id.as_deref();
        let judgements = clients.iter().map(|judged| &judged.judgement);
        let mut next_steps = next_steps(verdict, id, judgements);
        if let (None, Some((from, to))) = (&cloudwatch, coverage.window()) {
            next_steps.push(compare(id, from, to));
        }
        let clients: Vec<_> = clients
            .into_iter()
            .map(|judged| client(judged, id))
            .collect();
        Self {
            schema: SCHEMA,
            generator: concat!("imdsmon ", env!("CARGO_PKG_VERSION")).into(),
            generated_at: now,
            verdict: ReportVerdict {
                verdict,
                sentence,
                doubts,
            },
            period: period(coverage, min_window),
            totals: clients
                .iter()
                .fold(Totals::default(), |sum, client| sum.plus(&client.totals)),
            instance,
            clients,
            cloudwatch,
            next_steps,
        }
    }
}

/// How to compare the report with CloudWatch.
fn compare(instance: Option<&str>, from: Timestamp, to: Timestamp) -> NextStep {
    let mut commands = cloudwatch::commands(instance, from, to);
    commands.push("imdsmon report --cloudwatch cloudwatch.json".into());
    NextStep {
        title: "Compare with CloudWatch".into(),
        text: "CloudWatch counts the IMDSv1 calls of the instance, but not their clients. Fetch its \
               counts for the observation period; the report then shows whether the clients above \
               account for all of them."
            .into(),
        commands,
        reference: Some(
            "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_metrics_with_cloudwatch.html"
                .into(),
        ),
    }
}

fn client(assessed: Assessed<'_>, instance: Option<&str>) -> ClientReport {
    let Assessed {
        stats,
        mut judgement,
        ..
    } = assessed;
    if let Some(id) = instance {
        for command in &mut judgement.remedy.commands {
            *command = command.replace(INSTANCE_ID, id);
        }
    }
    let ClientStats {
        client,
        first,
        last,
        buckets: _,
        evidence,
    } = stats;
    let mut paths: Vec<_> = evidence
        .paths
        .iter()
        .map(|(path, seen)| PathReport {
            path: path.clone(),
            class: seen.class,
            tokenless: seen.tokenless,
            with_token: seen.with_token,
        })
        .collect();
    paths.sort_by(|a, b| (Reverse(a.class), &a.path).cmp(&(Reverse(b.class), &b.path)));
    let most_sensitive = stats.buckets.keys().map(|bucket| bucket.path).max();
    ClientReport {
        name: client.name(),
        client: client.clone(),
        judgement,
        totals: Totals::of(stats),
        sdks: evidence.sdks.clone(),
        user_agents: evidence.user_agents.clone(),
        most_sensitive: most_sensitive.unwrap_or_default(),
        first_seen: *first,
        last_seen: *last,
        paths,
        more_paths: evidence.more_paths,
        samples: evidence.samples.clone(),
        timeline: timeline(stats),
    }
}

fn timeline(entry: &ClientStats) -> Vec<HourlyCalls> {
    let mut hours: BTreeMap<time::Hour, (u64, u64)> = BTreeMap::new();
    for (bucket, count) in &entry.buckets {
        let (tokenless, others) = hours.entry(bucket.hour).or_default();
        let count = u64::try_from(*count).unwrap_or(0);
        match bucket.auth {
            Auth::V1 => *tokenless += count,
            Auth::V2(_) | Auth::TokenRequest => *others += count,
        }
    }
    hours
        .into_iter()
        .map(|(hour, (tokenless, others))| HourlyCalls {
            hour,
            tokenless,
            others,
        })
        .collect()
}

impl Totals {
    pub(crate) fn of(entry: &ClientStats) -> Self {
        let mut totals = Self {
            unparsed_bytes: entry.evidence.unparsed_bytes,
            ..Self::default()
        };
        for (bucket, count) in &entry.buckets {
            let count = u64::try_from(*count).unwrap_or(0);
            totals.calls += count;
            match bucket.auth {
                Auth::V1 => totals.tokenless += count,
                Auth::V2(_) => totals.with_token += count,
                Auth::TokenRequest => totals.token_requests += count,
            }
            match (bucket.auth, bucket.response) {
                (Auth::V1, ledger::ResponseClass::Ok) => {
                    totals.tokenless_successful += count;
                }
                (Auth::V1, ledger::ResponseClass::Unauthorized) => {
                    totals.tokenless_rejected += count;
                }
                _ => {}
            }
        }
        totals
    }

    /// Sum of both.
    pub fn plus(self, other: &Self) -> Self {
        let Self {
            calls,
            tokenless,
            tokenless_successful,
            tokenless_rejected,
            with_token,
            token_requests,
            unparsed_bytes,
        } = other;
        Self {
            calls: self.calls + calls,
            tokenless: self.tokenless + tokenless,
            tokenless_successful: self.tokenless_successful + tokenless_successful,
            tokenless_rejected: self.tokenless_rejected + tokenless_rejected,
            with_token: self.with_token + with_token,
            token_requests: self.token_requests + token_requests,
            unparsed_bytes: self.unparsed_bytes + unparsed_bytes,
        }
    }
}

fn period(coverage: &Coverage, min_window: Duration) -> ObservationPeriod {
    let spans = &coverage.spans;
    let (from, to) = coverage.window().unzip();
    let length = to.unwrap_or_default().since(from.unwrap_or_default());
    ObservationPeriod {
        from,
        to,
        length_s: length.as_secs(),
        observed_s: coverage.observed().as_secs(),
        required_s: min_window.as_secs(),
        dropped_records: spans.iter().map(|span| span.lost_records).sum(),
        gaps: spans.len().saturating_sub(1) as u64,
        coverage: coverage.clone(),
    }
}
