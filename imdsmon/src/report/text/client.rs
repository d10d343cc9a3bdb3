//! What is told of a client that somebody must change.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr as _;

use super::{DIM, PLAIN, Page, padded, page::HEADING, shortened, style};
use crate::{
    ledger::Sample,
    report::{
        format, labels,
        model::{ClientReport, PathReport},
    },
    verdict::Remedy,
};

/// Paths, User-Agents and calls that are shown; the JSON has all.
const PATHS: usize = 6;
const AGENTS: usize = 3;
const SAMPLES: usize = 3;

pub(super) fn block(
    page: &mut Page<'_, impl Write>,
    number: usize,
    client: &ClientReport,
    now: &str,
) -> io::Result<()> {
    let judgement = &client.judgement;
    let verdict = labels::verdict(judgement.verdict);
    let mark = format!("{number}  ");
    let room = page.width - mark.width() - verdict.width() - 2;
    let program = padded(&shortened(&labels::program(client), room), room);
    let style = style(judgement.verdict);
    writeln!(
        page.out,
        "\n{DIM}{}{DIM:#}\n{HEADING}{mark}{program}{HEADING:#}  {style}{verdict}{style:#}",
        "─".repeat(page.width)
    )?;
    identity(page, client)?;
    page.field("Why", &judgement.reason, PLAIN)?;
    let rule = format!(
        "{} ({})",
        judgement.rule,
        labels::certainty(judgement.confidence)
    );
    page.field("Rule", &rule, PLAIN)?;
    calls(page, client, now)?;
    for sample in client.samples.iter().take(SAMPLES) {
        self::sample(page, sample)?;
    }
    remedy(page, &judgement.remedy)
}

fn identity(page: &mut Page<'_, impl Write>, client: &ClientReport) -> io::Result<()> {
    let who: Vec<String> = [labels::workload(client)]
        .into_iter()
        .chain(labels::user(client))
        .filter(|part| !part.is_empty())
        .collect();
    page.field("Runs as", &who.join(", "), PLAIN)?;
    page.field("In", &labels::origin(client).join("; "), PLAIN)?;
    let sdks: Vec<String> = client.sdks.iter().map(labels::sdk).collect();
    page.field("SDK", &sdks.join(", "), PLAIN)
}

fn calls(page: &mut Page<'_, impl Write>, client: &ClientReport, now: &str) -> io::Result<()> {
    page.field("Calls", &labels::calls(&client.totals), PLAIN)?;
    let text = format!(
        "{} to {} UTC, last {}",
        format::minute(&client.first_seen),
        format::minute(&client.last_seen),
        format::ago(&client.last_seen, now)
    );
    page.field("Seen", &text, PLAIN)?;
    let mut label = "User-Agent";
    for agent in client.user_agents.iter().take(AGENTS) {
        page.field(label, agent, PLAIN)?;
        label = "";
    }
    let mut label = "Paths";
    for path in client.paths.iter().take(PATHS) {
        page.field(label, &path_line(path), PLAIN)?;
        label = "";
    }
    let listed = client.paths.len().saturating_sub(PATHS) as u64;
    let more = client.more_paths.saturating_add(listed);
    if more > 0 {
        page.field("", &format!("and {} more", format::count(more)), DIM)?;
    }
    Ok(())
}

fn path_line(path: &PathReport) -> String {
    let PathReport {
        path,
        class,
        tokenless,
        with_token,
    } = path;
    format!(
        "{path} ({}; {} tokenless, {} with a token)",
        labels::class(*class),
        format::count(*tokenless),
        format::count(*with_token)
    )
}

fn sample(page: &mut Page<'_, impl Write>, sample: &Sample) -> io::Result<()> {
    let how = labels::how(sample.how);
    let text = format!(
        "{} UTC  {} {} to {} → {}{}{how}",
        format::second(&crate::time::rfc3339(sample.time)),
        sample.method,
        sample.target,
        sample.address,
        labels::reply(sample),
        if how.is_empty() { "" } else { ", " },
    );
    page.field("Example", &text, PLAIN)?;
    if let Some(ancestry) = labels::ancestry(sample) {
        page.field("", &format!("by {ancestry}"), DIM)?;
    }
    if !sample.args.is_empty() {
        page.field("", &format!("as {}", labels::arguments(&sample.args)), DIM)?;
    }
    if let Some(connector) = &sample.connector {
        let text = format!(
            "on a connection that was opened by {}",
            labels::arguments(connector)
        );
        page.field("", &text, DIM)?;
    }
    Ok(())
}

fn remedy(page: &mut Page<'_, impl Write>, remedy: &Remedy) -> io::Result<()> {
    let Remedy {
        short,
        steps,
        commands,
        reference,
    } = remedy;
    page.field("Fix", short, HEADING)?;
    for (number, step) in steps.iter().enumerate() {
        page.item(4, &format!("{}. ", number + 1), step)?;
    }
    page.commands(7, commands)?;
    match reference {
        Some(reference) => page.link(4, "See ", reference),
        None => Ok(()),
    }
}
