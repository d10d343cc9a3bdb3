//! `imdsmon report`: may this instance be flipped, who must change what, and how sure is that?

use std::{
    env,
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use anstream::AutoStream;
use anyhow::{Context as _, bail};

use crate::{
    capture::{
        recording::{self, Reader},
        source,
    },
    config::{Config, value::duration},
    event::UnixNanos,
    knowledge::Knowledge,
    ledger::{ClientStats, Coverage, Ledger, coverage::Span},
    pipeline::Pipeline,
    report::{
        self,
        build::ReportInput,
        cloudwatch::{self, Metrics},
        model::{Instance, Report},
    },
    store,
    verdict::{self, HostVerdict, Policy},
};

/// Say whether this instance may be set to `HttpTokens=required`, and who must change what first.
///
/// Reads what the service has seen (`imdsmon run`), or recordings (`imdsmon watch --record`). The
/// first line is the answer. Then come the clients, worst first, each with what mends it, and the
/// commands for the next steps. Nothing is sent anywhere.
#[derive(clap::Args)]
#[command(after_help = "\
Exit status:
  0  ready: nobody needs to change anything
  1  an error, or wrong usage
  2  not ready: somebody must change something first
  3  inconclusive: not enough was seen to say so

Examples:
  imdsmon report                                     what the service has seen
  imdsmon report --from calls.imdsmon                what a recording holds
  imdsmon report --format html > report.html         one page to send around
  imdsmon report --format json | jq .answer          for a program
  imdsmon report --cloudwatch cloudwatch.json        beside what CloudWatch counted")]
pub struct Args {
    /// Recordings of `imdsmon watch --record`, in any order; without, what the service has stored
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["store", "since"])]
    from: Vec<PathBuf>,

    #[command(flatten)]
    stored: Stored,

    /// How the report is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    question: Question,

    /// Compare with what CloudWatch counted: the JSON of `aws cloudwatch get-metric-statistics` or
    /// `get-metric-data` for `MetadataNoToken` and `MetadataNoTokenRejected`
    #[arg(long, value_name = "FILE", num_args = 1..)]
    cloudwatch: Vec<PathBuf>,
}

/// What is asked of a store.
#[derive(clap::Args)]
pub struct Stored {
    /// Directory of the service's store [default: `store.dir` of the service's configuration]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,

    /// How far back to look, for example 12h, 14d, or `all`
    #[arg(long, value_name = "TIME", default_value = "14d", value_parser = since)]
    since: Since,
}

/// What makes the answer.
#[derive(clap::Args)]
pub struct Question {
    /// Time that must have been watched for an answer, for example 1h or 7d [default:
    /// `report.min_window` of the service's configuration, 24h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    min_window: Option<Duration>,

    /// More knowledge of SDKs, programs and paths, beside what the service's configuration names;
    /// docs/reference/knowledge.md has the form
    #[arg(long, value_name = "FILE", num_args = 1..)]
    knowledge: Vec<PathBuf>,
}

/// The forms of a report.
#[derive(clap::ValueEnum, Clone, Copy)]
enum Format {
    /// For a terminal
    Text,
    /// For a program; docs/report.schema.json describes it
    Json,
    /// For a ticket
    Markdown,
    /// One page that needs no network
    Html,
    /// The clients, for a spreadsheet
    Csv,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = config()?;
    let knowledge = Rc::new(args.question.knowledge(&config)?);
    let now = source::now();
    let is_live = args.from.is_empty();
    let (entries, coverage, instance) = if is_live {
        let (entries, coverage) = args.stored.load(&config, now)?;
        (entries, coverage, Instance::local())
    } else {
        recorded(&args.from, &knowledge)?
    };
    let metrics = metrics(&args.cloudwatch)?;
    let policy = Policy {
        min_window: args.question.min_window(&config),
        now: is_live.then_some(now),
    };
    let assessment = verdict::assess(&entries, &coverage, &knowledge, &policy);
    let verdict = assessment.verdict;
    let report = Report::new(ReportInput {
        instance,
        coverage: &coverage,
        assessment,
        min_window: policy.min_window,
        cloudwatch: metrics.map(|metrics| {
            cloudwatch::reconcile(&metrics, &cloudwatch::counts(&entries), &coverage.spans)
        }),
        now,
    });
    match write(&report, args.format) {
        // Who has read enough has not changed the answer: `report | head` must not look READY.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(ExitCode::from(status(verdict)))
}

/// For scripts; the help text says it, too.
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

impl Question {
    /// Time that must have been watched.
    pub fn min_window(&self, config: &Config) -> Duration {
        self.min_window.unwrap_or(config.report_min_window.value)
    }

    /// What is known, and what the user knows beside it.
    pub fn knowledge(&self, config: &Config) -> anyhow::Result<Knowledge> {
        let files = [&config.knowledge.value[..], &self.knowledge].concat();
        knowledge(&files)
    }
}

/// What the service is told, where this user may know; a report is made also without.
pub fn config() -> io::Result<Config> {
    match Config::load(None, env::vars_os(), &[]) {
        Ok(config) => Ok(config),
        Err(error) => {
            writeln!(
                anstream::stderr(),
                "imdsmon: note: defaults are used, because {error}"
            )?;
            Ok(Config::default())
        }
    }
}

/// The built-in knowledge, extended by `files`.
pub fn knowledge(files: &[PathBuf]) -> anyhow::Result<Knowledge> {
    let mut knowledge = Knowledge::builtin();
    for file in files {
        let name = || format!("cannot use {} as knowledge", file.display());
        let text = std::fs::read_to_string(file).with_context(name)?;
        knowledge.extend(&text).with_context(name)?;
    }
    Ok(knowledge)
}

/// How far back.
#[derive(Clone, Copy)]
pub enum Since {
    /// As far as there is anything.
    All,
    /// Not further than this.
    Ago(Duration),
}

fn since(text: &str) -> Result<Since, String> {
    if text == "all" {
        return Ok(Since::All);
    }
    duration(text).map(Since::Ago)
}

impl Stored {
    /// What the store holds of the time that is asked for.
    pub fn load(
        &self,
        config: &Config,
        now: UnixNanos,
    ) -> anyhow::Result<(Vec<ClientStats>, Coverage)> {
        let store = self.store.as_deref().unwrap_or(&config.store_dir.value);
        let mut reader = store::Reader::open(store).context(
            "no report from the service (`imdsmon report --from FILE` reads a recording instead)",
        )?;
        let since = match self.since {
            Since::All => 0,
            Since::Ago(time) => {
                now.saturating_sub(UnixNanos::try_from(time.as_nanos()).unwrap_or(UnixNanos::MAX))
            }
        };
        Ok(reader.load(since.max(0))?)
    }
}

/// What recordings hold.
fn recorded(
    files: &[PathBuf],
    knowledge: &Rc<Knowledge>,
) -> anyhow::Result<(Vec<ClientStats>, Coverage, Instance)> {
    let mut ledger = Ledger::new(Rc::clone(knowledge));
    let mut spans: Vec<(Span, &Path)> = Vec::new();
    let mut instance = Instance::default();
    for file in files {
        let (span, host) = read(file, &mut ledger, knowledge)?;
        spans.extend(span.map(|span| (span, file.as_path())));
        match (&instance.id, &host.id) {
            (Some(one), Some(other)) if one != other => bail!(
                "the recordings are of different instances, {one} and {other}; make a report for \
                 each"
            ),
            (Some(_), _) => {}
            (None, _) => instance = host,
        }
    }
    spans.sort_by_key(|(span, _)| span.from);
    if let Some([(_, one), (_, other)]) = spans
        .windows(2)
        .find(|pair| matches!(pair, [(earlier, _), (later, _)] if later.from < earlier.to))
    {
        bail!(
            "{} and {} are of the same time, so that their calls would count twice; leave one out",
            one.display(),
            other.display()
        );
    }
    for (span, _) in spans {
        ledger.coverage.add(span);
    }
    let coverage = std::mem::take(&mut ledger.coverage);
    Ok((ledger.take(), coverage, instance))
}

/// Counts one recording, and gives the time that it covers and where it was made.
fn read(
    file: &Path,
    ledger: &mut Ledger,
    knowledge: &Rc<Knowledge>,
) -> anyhow::Result<(Option<Span>, Instance)> {
    let name = || file.display().to_string();
    let open = File::open(file).with_context(|| format!("cannot open {}", name()))?;
    let mut reader = Reader::new(BufReader::new(open)).with_context(name)?;
    let mut pipeline = Pipeline::new(Rc::clone(knowledge));
    let before = ledger.overflow();
    loop {
        match reader.read() {
            Ok(Some(event)) => pipeline.feed(&event),
            Ok(None) => break,
            Err(error @ recording::RecordingError::Damaged { .. }) => {
                // What was read counts; that there was more makes the answer inconclusive.
                writeln!(
                    anstream::stderr(),
                    "imdsmon: note: {}: {error}; what comes before it counts",
                    name()
                )?;
                break;
            }
            Err(error) => return Err(error).with_context(name),
        }
        while let Some(found) = pipeline.take() {
            ledger.add(&found);
        }
    }
    pipeline.finish();
    while let Some(found) = pipeline.take() {
        ledger.add(&found);
    }
    let overflow = ledger.overflow().since(&before);
    let span = |(from, to)| {
        let mut span = Span::new(from, to, pipeline.totals().as_ref(), &pipeline.counters());
        span.overflowed(overflow);
        span
    };
    Ok((pipeline.window().map(span), Instance::of(reader.host())))
}

/// What CloudWatch counted, if files say so.
fn metrics(files: &[PathBuf]) -> anyhow::Result<Option<Metrics>> {
    let mut all = None::<Metrics>;
    for file in files {
        let name = || file.display().to_string();
        let open = File::open(file).with_context(|| format!("cannot open {}", name()))?;
        let metrics = Metrics::read(BufReader::new(open)).with_context(name)?;
        match &mut all {
            Some(all) => all.merge(metrics).with_context(name)?,
            None => all = Some(metrics),
        }
    }
    Ok(all)
}
