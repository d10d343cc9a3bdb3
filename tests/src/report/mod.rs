//! A report as a busy instance might give it, and worse: what every format is tested with, and
//! what the samples in `docs/samples` show.

mod clients;
mod format;
mod hostile;
mod stories;

use imdsmon::{
    ledger::{
        Coverage,
        coverage::{Doubt, DoubtKind, SelfTest, Span},
    },
    report::model::{
        Answer, ClientReport, Difference, Instance, MetricReport, NextStep, Reconciliation, Report,
        SCHEMA, Totals, Window,
    },
    time::rfc3339,
    verdict::HostVerdict,
};

pub use format::{FORMATS, Format, coloured, plain};
pub use hostile::{FORMULAS, HOSTILE, hostile};

/// Nanoseconds of an hour.
const HOUR: i64 = 3_600_000_000_000;
/// 2026-11-27 09:00 UTC, when the report is made.
const NOW: i64 = 1_795_770_000_000_000_000;
/// When watching began.
const BEGIN: i64 = NOW - 14 * 24 * HOUR;

/// All nine verdicts, on an instance that must not be flipped yet.
#[must_use]
pub fn busy() -> Report {
    let clients = clients::all();
    let acting = clients
        .iter()
        .filter(|client| client.judgement.needs_action)
        .count();
    Report {
        answer: Answer {
            verdict: HostVerdict::NotReady,
            sentence: format!(
                "{acting} of {} clients must change before HttpTokens=required; the first is \
                 /opt/orders/worker.py, which fetches credentials without a token.",
                clients.len()
            ),
            doubts: vec![
                "nobody watched from 2026-11-20 03:00 to 04:55 UTC; a client may have called then"
                    .into(),
                "the kernel had no room for 12 records: calls may be missing".into(),
            ],
        },
        totals: sum(&clients),
        clients,
        ..quiet()
    }
}

/// What all clients did.
fn sum(clients: &[ClientReport]) -> Totals {
    let totals = clients.iter().map(|client| &client.totals);
    totals.fold(Totals::default(), Totals::plus)
}

/// Watched for long, and nobody called.
#[must_use]
pub fn quiet() -> Report {
    Report {
        schema: SCHEMA,
        generator: env!("CARGO_PKG_VERSION").into(),
        generated_at: rfc3339(NOW),
        instance: Instance {
            id: Some("i-0f3c9a7e51d2b8460".into()),
            hostname: Some("orders-7".into()),
        },
        answer: Answer {
            verdict: HostVerdict::Ready,
            sentence: "nobody called the metadata service in 13 d 22 h of watching.".into(),
            doubts: vec![],
        },
        window: Window {
            from: Some(rfc3339(BEGIN)),
            to: Some(rfc3339(NOW)),
            length_s: 14 * 86_400,
            observed_s: 14 * 86_400 - 6900,
            wanted_s: 86_400,
            lost_records: 12,
            gaps: 1,
            coverage: coverage(),
        },
        totals: Totals::default(),
        clients: vec![],
        cloudwatch: Some(cloudwatch()),
        next_steps: next_steps(),
    }
}

/// Nobody watched, and nothing is known.
#[must_use]
pub fn unwatched() -> Report {
    Report {
        instance: Instance::default(),
        answer: Answer {
            verdict: HostVerdict::Inconclusive,
            sentence: "nobody has watched yet.".into(),
            doubts: vec!["there is no record of any time of watching".into()],
        },
        window: Window {
            from: None,
            to: None,
            length_s: 0,
            observed_s: 0,
            wanted_s: 86_400,
            lost_records: 0,
            gaps: 0,
            coverage: Coverage::default(),
        },
        cloudwatch: None,
        next_steps: vec![],
        ..quiet()
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
    report.totals = sum(&report.clients);
    report
}

fn coverage() -> Coverage {
    let pause = BEGIN + 6 * 24 * HOUR + 18 * HOUR;
    Coverage {
        spans: vec![
            Span {
                from: BEGIN,
                to: pause,
                is_complete: false,
                segments: 101_412,
                lost_records: 12,
                doubts: vec![Doubt {
                    count: 3,
                    kind: DoubtKind::UnmatchedResponses,
                }],
            },
            Span {
                from: pause + 6900 * 1_000_000_000,
                to: NOW,
                is_complete: true,
                segments: 98_044,
                lost_records: 0,
                doubts: vec![],
            },
        ],
        self_test: Some(SelfTest {
            time: NOW - 2_700_000_000_000,
            result: Ok(()),
        }),
    }
}

fn cloudwatch() -> Reconciliation {
    let difference = |hours, cloudwatch, imdsmon| Difference {
        begin: rfc3339(NOW - hours * HOUR),
        cloudwatch,
        imdsmon,
    };
    Reconciliation {
        sentence: "imdsmon explains 94.3% of what CloudWatch counted; the rest lies beside the \
                   gap on 2026-11-20, so that no other caller is needed to explain it."
            .into(),
        metrics: vec![
            MetricReport {
                metric: "MetadataNoToken".into(),
                cloudwatch: 7_757.0,
                imdsmon: 7_312,
                explained: Some(7_312.0 / 7_757.0),
                period_s: 300,
                compared: 4007,
                left_out: 25,
                differences: vec![difference(174, 402.0, 1), difference(172, 44.0, 0)],
            },
            MetricReport {
                metric: "MetadataNoTokenRejected".into(),
                cloudwatch: 0.0,
                imdsmon: 0,
                explained: None,
                period_s: 300,
                compared: 4007,
                left_out: 25,
                differences: vec![],
            },
        ],
    }
}

fn next_steps() -> Vec<NextStep> {
    let step = |title: &str, text: &str, commands: &[&str], reference: Option<&str>| NextStep {
        title: title.into(),
        text: text.into(),
        commands: commands.iter().map(|&c| c.into()).collect(),
        reference: reference.map(str::to_owned),
    };
    let options = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-options.html";
    vec![
        step(
            "Change the clients above, worst first",
            "Then watch for another day: this report must say READY.",
            &["imdsmon report"],
            None,
        ),
        step(
            "Flip this instance",
            "Acts at once, without a restart.",
            &[
                "aws ec2 modify-instance-metadata-options --instance-id i-0f3c9a7e51d2b8460 --http-tokens required --http-endpoint enabled",
            ],
            Some(options),
        ),
        step(
            "Take it back if something breaks",
            "Works unless the account enforces tokens (HttpTokensEnforced).",
            &[
                "aws ec2 modify-instance-metadata-options --instance-id i-0f3c9a7e51d2b8460 --http-tokens optional",
            ],
            None,
        ),
        step(
            "Watch what is refused after the flip",
            "MetadataNoTokenRejected must stay 0.",
            &[
                "aws cloudwatch get-metric-statistics --namespace AWS/EC2 --metric-name MetadataNoTokenRejected --statistics Sum --period 300 --dimensions Name=InstanceId,Value=i-0f3c9a7e51d2b8460 --start-time 2026-11-27T09:00:00Z --end-time 2026-11-28T09:00:00Z",
            ],
            None,
        ),
        step(
            "Make it the default for new instances",
            "For the region; launch templates and AMIs can ask for the same.",
            &[
                "aws ec2 modify-instance-metadata-defaults --http-tokens required --http-put-response-hop-limit 2",
            ],
            Some(options),
        ),
    ]
}
