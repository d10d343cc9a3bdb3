//! `imdsmon clients` and `imdsmon calls`: details from the store of the service.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
};

use anstyle::Style;
use serde_json::json;

use super::args::{KnowledgeArgs, StoreArgs, config};
use crate::{
    http::call::ImdsVersion,
    ledger::ClientStats,
    report::{format, labels, model::Totals},
    text::escape::escaped,
    time::{Hour, Timestamp},
    verdict::{self, Policy},
};

const HEADING: Style = Style::new().bold();
/// Characters of a name that are shown.
const NAME: usize = 200;

/// List the clients in the store of the service, by severity
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  imdsmon clients                        of the last 14 days
  imdsmon clients --since 24h --json     for a script")]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    knowledge: KnowledgeArgs,

    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// Show recorded calls by client and hour, with examples
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  imdsmon calls --client backup.sh --since 24h
  imdsmon calls --json                   for a script")]
pub(crate) struct CallsArgs {
    /// Only clients whose name contains TEXT, as listed by `imdsmon clients`
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    client: String,

    #[command(flatten)]
    store: StoreArgs,

    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = config()?;
    let knowledge = args.knowledge.load(&config)?;
    let now = Timestamp::now();
    let (entries, coverage) = args.store.load(&config, now)?;
    let policy = Policy {
        min_window: config.report_min_window.value,
        now: Some(now),
    };
    let assessment = verdict::assess(&entries, &coverage, &knowledge, &policy);
    let mut out = anstream::stdout().lock();
    if !args.json {
        writeln!(
            out,
            "{HEADING}{:<12} {:>9} {:>9}  {:<20}  CLIENT{HEADING:#}",
            "VERDICT", "IMDSv1", "ALL", "LAST SEEN (UTC)"
        )?;
    }
    for judged in &assessment.clients {
        let totals = Totals::of(judged.stats);
        let name = judged.stats.client.name();
        let verdict: &str = judged.judgement.verdict.into();
        if args.json {
            let line = json!({
                "imds.client": name,
                "verdict": judged.judgement.verdict,
                "rule": judged.judgement.rule,
                "needs_action": judged.judgement.needs_action,
                "tokenless": totals.tokenless,
                "calls": totals.calls,
                "first_seen": judged.stats.first.to_rfc3339(),
                "last_seen": judged.stats.last.to_rfc3339(),
            });
            writeln!(out, "{line}")?;
        } else {
            writeln!(
                out,
                "{verdict:<12} {:>9} {:>9}  {:<20}  {}",
                format::count(totals.tokenless),
                format::count(totals.calls),
                judged.stats.last.to_second(),
                escaped(&name, NAME)
            )?;
        }
    }
    if assessment.clients.is_empty() && !args.json {
        writeln!(
            out,
            "No IMDS calls were recorded in this period; extend it with --since, or run `imdsmon doctor`."
        )?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn run_calls(args: &CallsArgs) -> anyhow::Result<ExitCode> {
    let (entries, _) = args.store.load(&config()?, Timestamp::now())?;
    let chosen: Vec<_> = entries
        .iter()
        .map(|entry| (entry.client.name(), entry))
        .filter(|(name, _)| name.contains(&args.client))
        .collect();
    let mut out = anstream::stdout().lock();
    for (name, entry) in &chosen {
        if args.json {
            as_json(&mut out, name, entry)?;
        } else {
            as_text(&mut out, name, entry)?;
        }
    }
    if chosen.is_empty() && !args.json {
        writeln!(
            out,
            "No recorded client matches; list the clients with `imdsmon clients`."
        )?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn as_json(out: &mut impl Write, name: &str, entry: &ClientStats) -> io::Result<()> {
    for (bucket, count) in &entry.buckets {
        let line = json!({
            "imds.client": name,
            "hour": bucket.hour.begin().to_rfc3339(),
            "imds.version": bucket.auth.version(),
            "imds.token": bucket.auth.token(),
            "answer": bucket.response,
            "path_class": bucket.path,
            "how": bucket.cause,
            "calls": count,
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn as_text(out: &mut impl Write, name: &str, entry: &ClientStats) -> io::Result<()> {
    writeln!(out, "{HEADING}{}{HEADING:#}", escaped(name, NAME))?;
    let mut hours: BTreeMap<Hour, BTreeMap<(ImdsVersion, &str), i64>> = BTreeMap::new();
    for (bucket, count) in &entry.buckets {
        let kinds = hours.entry(bucket.hour).or_default();
        *kinds
            .entry((bucket.auth.version(), bucket.path.into()))
            .or_default() += count;
    }
    for (hour, kinds) in hours {
        let begin = hour.begin().to_minute();
        for ((version, class), count) in kinds {
            let kind = labels::calls_of(version);
            writeln!(out, "  {begin} UTC  {count:>9} {kind:<14}  {class}")?;
        }
    }
    for sample in &entry.evidence.samples {
        writeln!(
            out,
            "  example: {} UTC  {} {} → {}",
            sample.time.to_second(),
            escaped(&sample.method, NAME),
            escaped(&sample.target, NAME),
            escaped(&labels::response(sample), NAME)
        )?;
    }
    writeln!(out)
}
