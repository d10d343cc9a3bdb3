//! `imdsmon report`: whether this instance can require IMDSv2, and which clients must change.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use anstream::AutoStream;
use anyhow::Context as _;

use super::args::{KnowledgeArgs, StoreArgs, config};
use crate::{
    config::value::duration,
    ledger::recording,
    report::{
        self,
        build::ReportInput,
        cloudwatch::{self, CloudWatchMetrics},
        model::{Instance, Report},
    },
    time::Timestamp,
    verdict::{self, HostVerdict, Policy},
};

/// Report whether this instance can require IMDSv2, and what to fix
///
/// Reads the service's store (`imdsmon run`) or recordings (`imdsmon watch --record`). The first
/// line is the verdict. The clients follow by severity with their fixes, then the next steps.
/// Makes no network requests.
#[derive(clap::Args)]
#[command(after_help = "\
Exit status:
  0  READY: no client needs action
  1  an error, or wrong usage
  2  NOT READY: at least one client needs action
  3  INCONCLUSIVE: the observation is not sufficient

Examples:
  imdsmon report                                from the service's store
  imdsmon report --from calls.imdsmon           from a recording
  imdsmon report --format html > report.html    as a self-contained page
  imdsmon report --format json | jq .answer     for a script
  imdsmon report --cloudwatch cloudwatch.json   reconciled with CloudWatch")]
pub(super) struct Args {
    /// Recordings of `imdsmon watch --record`, in any order, instead of the store
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["store", "since"])]
    from: Vec<PathBuf>,

    #[command(flatten)]
    store: StoreArgs,

    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Observation period required for READY, for example 1h or 7d [default:
    /// `report.min_window` of the service's configuration, 24h]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    min_window: Option<Duration>,

    #[command(flatten)]
    knowledge: KnowledgeArgs,

    /// Reconcile with CloudWatch: JSON output of `aws cloudwatch get-metric-statistics` or
    /// `get-metric-data` for `MetadataNoToken` and `MetadataNoTokenRejected`
    #[arg(long, value_name = "FILE", num_args = 1..)]
    cloudwatch: Vec<PathBuf>,
}

#[derive(clap::ValueEnum, Clone, Copy)]
enum Format {
    /// For a terminal
    Text,
    /// For a program (schema: docs/report.schema.json)
    Json,
    /// For a ticket
    Markdown,
    /// One self-contained page
    Html,
    /// One row per client, for a spreadsheet
    Csv,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = config()?;
    let knowledge = Rc::new(args.knowledge.load(&config)?);
    let now = Timestamp::now();
    let is_live = args.from.is_empty();
    let (clients, coverage, instance) = if is_live {
        let (clients, coverage) = args.store.load(&config, now)?;
        (clients, coverage, Instance::local())
    } else {
        let mut note = |text| {
            // A note that cannot be printed must not fail the report.
            let _ = writeln!(anstream::stderr(), "imdsmon: note: {text}");
        };
        let recorded = recording::count(&args.from, &knowledge, &mut note)?;
        let instance = Instance::of(&recorded.host);
        (recorded.clients, recorded.coverage, instance)
    };
    let metrics = metrics(&args.cloudwatch)?;
    let policy = Policy {
        min_window: args.min_window.unwrap_or(config.report_min_window.value),
        now: is_live.then_some(now),
    };
    let assessment = verdict::assess(&clients, &coverage, &knowledge, &policy);
    let verdict = assessment.verdict;
    let report = Report::new(ReportInput {
        instance,
        coverage: &coverage,
        assessment,
        min_window: policy.min_window,
        cloudwatch: metrics.map(|metrics| {
            cloudwatch::reconcile(&metrics, &cloudwatch::counts(&clients), &coverage.spans)
        }),
        now,
    });
    match write(&report, args.format) {
        // A closed pipe does not change the verdict: `report | head` must not exit with READY.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(ExitCode::from(status(verdict)))
}

/// The exit status for scripts, as the help text lists it.
fn status(verdict: HostVerdict) -> u8 {
    match verdict {
        HostVerdict::Ready => 0,
        HostVerdict::NotReady => 2,
        HostVerdict::Inconclusive => 3,
    }
}

fn write(report: &Report, format: Format) -> io::Result<()> {
    let stdout = io::stdout().lock();
    if let Format::Text = format {
        let choice = AutoStream::choice(&stdout);
        let mut out = BufWriter::new(AutoStream::new(stdout, choice));
        report::text::write(&mut out, report, report::text::width())?;
        return out.flush();
    }
    let mut out = BufWriter::new(stdout);
    match format {
        Format::Text => {}
        Format::Json => report::json::write(&mut out, report)?,
        Format::Markdown => report::markdown::write(&mut out, report)?,
        Format::Html => report::html::write(&mut out, report)?,
        Format::Csv => report::csv::write(&mut out, report)?,
    }
    out.flush()
}

/// The CloudWatch metrics of all `files`; `None` without any.
fn metrics(files: &[PathBuf]) -> anyhow::Result<Option<CloudWatchMetrics>> {
    let mut all = None::<CloudWatchMetrics>;
    for file in files {
        let name = || format!("cannot use CloudWatch metrics {}", file.display());
        let open = File::open(file).with_context(name)?;
        let metrics = CloudWatchMetrics::read(BufReader::new(open)).with_context(name)?;
        match &mut all {
            Some(all) => all.merge(metrics).with_context(name)?,
            None => all = Some(metrics),
        }
    }
    Ok(all)
}
