//! A report as a busy instance might give it, and worse: what every format is tested with, and
//! what the samples in `docs/samples` show.

mod format;
mod hostile;
mod ledger;
mod stories;

use std::{collections::BTreeMap, time::Duration};

use imdsmon::{
    knowledge::Knowledge,
    ledger::{
        ClientStats, Coverage,
        coverage::{Doubt, DoubtKind, SelfTest, Span},
    },
    report::{
        build::ReportInput,
        cloudwatch::{self, CloudWatchMetrics, Counts},
        model::{Instance, Reconciliation, Report, Totals},
    },
    time::{Hour, Timestamp},
    verdict::{Policy, assess},
};
use serde_json::json;

pub use format::{FORMATS, Format, colored, plain};
pub use hostile::{FORMULAS, HOSTILE, hostile};

/// 2026-11-27 09:00 UTC, when the report is made.
const NOW: Timestamp = Timestamp::from_secs(1_795_770_000);
/// When watching began.
const BEGIN: Timestamp = NOW.hour().plus(-14 * 24).begin();
const PAUSE: Timestamp = BEGIN.hour().plus(6 * 24 + 18).begin();

/// A client of each verdict, on an instance that must not require IMDSv2 yet.
///
/// # Panics
///
/// If the figures of CloudWatch cannot be read.
#[must_use]
pub fn busy() -> Report {
    let knowledge = Knowledge::builtin();
    let stories = stories::all();
    let entries: Vec<_> = stories
        .iter()
        .map(|story| story.stats(&knowledge))
        .collect();
    let coverage = interrupted();
    let counts = cloudwatch::counts(&entries);
    let cloudwatch = compared(&counts, &coverage);
    report(this_instance(), &coverage, &entries, Some(cloudwatch))
}

/// Watched for long, and without any call.
#[must_use]
pub fn quiet() -> Report {
    let coverage = Coverage {
        spans: vec![span(BEGIN, NOW)],
        self_test: Some(passed()),
    };
    report(this_instance(), &coverage, &[], None)
}

/// Never watched, on an unknown instance.
#[must_use]
pub fn unwatched() -> Report {
    report(Instance::default(), &Coverage::default(), &[], None)
}

/// As `imdsmon report` makes it.
fn report(
    instance: Instance,
    coverage: &Coverage,
    entries: &[ClientStats],
    cloudwatch: Option<Reconciliation>,
) -> Report {
    let min_window = Duration::from_secs(24 * 3600);
    let policy = Policy {
        min_window,
        now: Some(NOW),
    };
    let mut report = Report::new(ReportInput {
        instance,
        coverage,
        assessment: assess(entries, coverage, &Knowledge::builtin(), &policy),
        min_window,
        cloudwatch,
        now: NOW,
    });
    // The samples of the documentation stay as they are when only the version changes.
    report.generator = "imdsmon".into();
    report
}

fn this_instance() -> Instance {
    Instance {
        id: Some("i-0f3c9a7e51d2b8460".into()),
        hostname: Some("orders-7".into()),
    }
}

/// The clients of [`busy`] over and over, each with a name of its own.
#[must_use]
pub fn overflowed(number: usize) -> Report {
    let mut report = busy();
    let models = std::mem::take(&mut report.clients);
    report.clients = models
        .iter()
        .cycle()
        .take(number)
        .enumerate()
        .map(|(i, client)| {
            let mut client = client.clone();
            client.name = format!("{} {i}", client.name);
            client.client.program = format!("{}-{i}", client.client.program);
            client
        })
        .collect();
    report
        .clients
        .sort_by_key(|client| client.judgement.verdict);
    report.totals = sum(&report);
    report
}

/// What all clients did.
fn sum(report: &Report) -> Totals {
    let totals = report.clients.iter().map(|client| &client.totals);
    totals.fold(Totals::default(), Totals::plus)
}

fn interrupted() -> Coverage {
    Coverage {
        spans: vec![
            Span {
                is_complete: false,
                lost_records: 12,
                doubts: vec![Doubt {
                    kind: DoubtKind::UnmatchedResponses,
                    count: 3,
                }],
                ..span(BEGIN, PAUSE)
            },
            span(PAUSE + Duration::from_secs(6900), NOW),
        ],
        self_test: Some(passed()),
    }
}

fn span(from: Timestamp, to: Timestamp) -> Span {
    Span {
        from,
        to,
        is_complete: true,
        segments: 101_412,
        lost_records: 0,
        doubts: vec![],
    }
}

fn passed() -> SelfTest {
    SelfTest {
        time: NOW - Duration::from_secs(45 * 60),
        result: Ok(()),
    }
}

/// CloudWatch counted the same calls, and a few more in one hour.
fn compared(counts: &BTreeMap<i64, Counts>, coverage: &Coverage) -> Reconciliation {
    let series = |metric: &str, sum: fn(&Counts) -> u64, more: u64| {
        let points = (BEGIN.hour().get()..NOW.hour().get()).map(|hour| {
            let counted = counts.get(&hour).map_or(0, sum);
            let missed = if Hour::new(hour) == PAUSE.hour().plus(-3) {
                more
            } else {
                0
            };
            json!({"Timestamp": Hour::new(hour).begin().to_rfc3339(), "Sum": counted + missed})
        });
        json!({"Label": metric, "Datapoints": points.collect::<Vec<_>>()}).to_string()
    };
    let responses = [
        series("MetadataNoToken", |counts| counts.successful, 44),
        series("MetadataNoTokenRejected", |counts| counts.rejected, 0),
    ];
    let metrics = CloudWatchMetrics::read(responses.concat().as_bytes()).unwrap();
    cloudwatch::reconcile(&metrics, counts, &coverage.spans)
}
