//! Builds the report from the ledger and the assessment.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use super::{
    cloudwatch,
    model::{
        Answer, ClientReport, Hour, Instance, NextStep, PathReport, Reconciliation, Report, SCHEMA,
        Totals, Window,
    },
    next_steps::next_steps,
};
use crate::{
    http::call::Version,
    ledger::{self, ClientStats, Coverage},
    time::{self, Timestamp},
    verdict::{Assessed, Assessment, INSTANCE_ID},
};

/// What a report is made of.
pub struct ReportInput<'a> {
    /// Which instance.
    pub instance: Instance,
    /// When it was watched.
    pub coverage: &'a Coverage,
    /// What was concluded, with the entries that it rests on.
    pub assessment: Assessment<'a>,
    /// How long must be watched for an answer.
    pub min_window: Duration,
    /// Comparison with CloudWatch.
    pub cloudwatch: Option<Reconciliation>,
    /// When the report is made.
    pub now: Timestamp,
}

impl Report {
    /// Puts it together; the clients keep the order of the assessment, worst first.
    pub fn new(material: ReportInput<'_>) -> Self {
        let ReportInput {
            instance,
            coverage,
            assessment,
            min_window,
            cloudwatch,
            now,
        } = material;
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
            generated_at: now.to_rfc3339(),
            answer: Answer {
                verdict,
                sentence,
                doubts,
            },
            window: window(coverage, min_window),
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
        cells: _,
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
    let most_sensitive = stats.cells.keys().map(|cell| cell.path).max();
    ClientReport {
        name: client.name(),
        client: client.clone(),
        judgement,
        totals: Totals::of(stats),
        sdks: evidence.sdks.clone(),
        user_agents: evidence.user_agents.clone(),
        most_sensitive: most_sensitive.unwrap_or_default(),
        first_seen: first.to_rfc3339(),
        last_seen: last.to_rfc3339(),
        paths,
        more_paths: evidence.more_paths,
        samples: evidence.samples.clone(),
        timeline: timeline(stats),
    }
}

/// Calls by hour.
fn timeline(entry: &ClientStats) -> Vec<Hour> {
    let mut hours: BTreeMap<time::Hour, (u64, u64)> = BTreeMap::new();
    for (cell, count) in &entry.cells {
        let (tokenless, others) = hours.entry(cell.hour).or_default();
        let count = u64::try_from(*count).unwrap_or(0);
        match cell.version {
            Version::V1 => *tokenless += count,
            Version::V2 | Version::Token => *others += count,
        }
    }
    hours
        .into_iter()
        .map(|(hour, (tokenless, others))| Hour {
            begin: hour.begin().to_rfc3339(),
            tokenless,
            others,
        })
        .collect()
}

impl Totals {
    /// Calls of one client.
    pub fn of(entry: &ClientStats) -> Self {
        let mut totals = Self {
            unparsed_bytes: entry.evidence.unparsed_bytes,
            ..Self::default()
        };
        for (cell, count) in &entry.cells {
            let count = u64::try_from(*count).unwrap_or(0);
            totals.calls += count;
            match cell.version {
                Version::V1 => totals.tokenless += count,
                Version::V2 => totals.with_token += count,
                Version::Token => totals.token_requests += count,
            }
            match (cell.version, cell.answer) {
                (Version::V1, ledger::Answer::Ok) => totals.tokenless_successful += count,
                (Version::V1, ledger::Answer::Unauthorized) => totals.tokenless_rejected += count,
                _ => {}
            }
        }
        totals
    }

    /// Calls of both.
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

fn window(coverage: &Coverage, min_window: Duration) -> Window {
    let spans = &coverage.spans;
    let (from, to) = coverage.window().unzip();
    let length = to.unwrap_or_default().since(from.unwrap_or_default());
    Window {
        from: from.map(Timestamp::to_rfc3339),
        to: to.map(Timestamp::to_rfc3339),
        length_s: length.as_secs(),
        observed_s: coverage.observed().as_secs(),
        wanted_s: min_window.as_secs(),
        lost_records: spans.iter().map(|span| span.lost_records).sum(),
        gaps: spans.len().saturating_sub(1) as u64,
        coverage: coverage.clone(),
    }
}
