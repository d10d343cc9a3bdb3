//! The report for a terminal. The first line is the answer; what must be done comes before what
//! it rests on, and what can be pasted stands alone.

mod client;
mod page;

use std::io::{self, IsTerminal as _, Write};

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use self::page::{DIM, HEADING, PLAIN, Page, padded};
use super::model::{ClientReport, MetricReport, NextStep, Reconciliation, Report};
use crate::verdict::{HostVerdict, Verdict};
use crate::{
    report::{format, labels},
    text::escape::escaped,
};

const ALARM: Style = AnsiColor::Red.on_default().bold();
const WARN: Style = AnsiColor::Yellow.on_default();
const GOOD: Style = AnsiColor::Green.on_default();

/// Columns where nobody knows how wide the terminal is.
const WIDTH: usize = 100;
/// Characters of a name in the table.
const NAME: usize = 256;
/// Periods in which CloudWatch differs that are shown.
const DIFFERENCES: usize = 10;

/// Columns of the terminal that standard output is; [`WIDTH`] where it is none.
pub fn width() -> usize {
    if !io::stdout().is_terminal() {
        return WIDTH;
    }
    terminal_size::terminal_size().map_or(WIDTH, |(width, _)| width.0.into())
}

/// Writes the report for a terminal that is `width` columns wide (80 to 160; what is outside is
/// brought in). Colours are always written: an [`anstream::AutoStream`] takes them out where they
/// are not wanted. Only commands and links may be wider.
pub fn write(out: &mut impl Write, report: &Report, width: usize) -> io::Result<()> {
    let mut page = Page::new(out, width);
    answer(&mut page, report)?;
    page.gap()?;
    facts(&mut page, report)?;
    clients(&mut page, report)?;
    let acting = report.clients.iter().filter(|c| c.judgement.needs_action);
    for (number, client) in acting.enumerate() {
        client::block(&mut page, number + 1, client, &report.generated_at)?;
    }
    if let Some(cloudwatch) = &report.cloudwatch {
        reconciliation(&mut page, cloudwatch)?;
    }
    next_steps(&mut page, &report.next_steps)
}

fn answer(page: &mut Page<'_, impl Write>, report: &Report) -> io::Result<()> {
    let style = match report.answer.verdict {
        HostVerdict::Ready => GOOD.bold(),
        HostVerdict::NotReady => ALARM,
        HostVerdict::Inconclusive => WARN.bold(),
    };
    let word = labels::answer(report.answer.verdict);
    let indent = word.width() + 2;
    let mut lines = page.wrapped(&report.answer.sentence, indent).into_iter();
    let first = lines.next().unwrap_or_default();
    writeln!(page.out, "{style}{word}{style:#}: {first}")?;
    for line in lines {
        writeln!(page.out, "{:indent$}{line}", "")?;
    }
    Ok(())
}

fn facts(page: &mut Page<'_, impl Write>, report: &Report) -> io::Result<()> {
    let instance = match (&report.instance.id, &report.instance.hostname) {
        (Some(id), Some(host)) => format!("{id} ({host})"),
        (Some(name), None) | (None, Some(name)) => name.clone(),
        (None, None) => "unknown".into(),
    };
    page.field("Instance", &instance, PLAIN)?;
    for (label, text, is_good) in labels::facts(report) {
        page.field(label, &text, if is_good { PLAIN } else { WARN })?;
    }
    let mut label = "In doubt";
    for doubt in &report.answer.doubts {
        page.field(label, doubt, WARN)?;
        label = "";
    }
    Ok(())
}

fn clients(page: &mut Page<'_, impl Write>, report: &Report) -> io::Result<()> {
    page.heading(&format!(
        "CLIENTS ({}, worst first)",
        format::count(report.clients.len() as u64)
    ))?;
    if report.clients.is_empty() {
        return page.text(2, "No call to the metadata service was seen.", PLAIN);
    }
    let rows: Vec<[String; 4]> = report.clients.iter().map(|c| cells(report, c)).collect();
    let titles = ["VERDICT", "TOKENLESS/ALL", "LAST SEEN", "FETCHED"];
    let mut widths = titles.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width().max(*width);
        }
    }
    let [verdicts, calls, seen, fetched] = widths;
    writeln!(
        page.out,
        "  {DIM}{:verdicts$}  {:>calls$}  {:seen$}  {:fetched$}  CLIENT AND FIX{DIM:#}",
        titles[0], titles[1], titles[2], titles[3]
    )?;
    let indent = 2 + widths.iter().sum::<usize>() + 2 * widths.len();
    for (client, [verdict, count, last, class]) in report.clients.iter().zip(&rows) {
        let style = style(client.judgement.verdict);
        let tokenless = if client.totals.tokenless > 0 {
            style
        } else {
            PLAIN
        };
        let mut who = who(page.width - indent, client).into_iter();
        let first = who.next().unwrap_or_default();
        writeln!(
            page.out,
            "  {style}{}{style:#}  {tokenless}{count:>calls$}{tokenless:#}  {}  {}  {HEADING}{first}{HEADING:#}",
            padded(verdict, verdicts),
            padded(last, seen),
            padded(class, fetched),
        )?;
        for line in who {
            writeln!(page.out, "{:indent$}{DIM}{line}{DIM:#}", "")?;
        }
        let remedy = &client.judgement.remedy.short;
        if client.judgement.needs_action && !remedy.is_empty() {
            page.item(indent, "→ ", remedy)?;
        }
    }
    Ok(())
}

fn cells(report: &Report, client: &ClientReport) -> [String; 4] {
    let totals = &client.totals;
    [
        labels::verdict(client.judgement.verdict).to_owned(),
        format!(
            "{}/{}",
            format::count(totals.tokenless),
            format::count(totals.calls)
        ),
        escaped(&format::ago(&client.last_seen, &report.generated_at), 16).to_string(),
        labels::class(client.most_sensitive).to_owned(),
    ]
}

/// Program first, then what it runs as and for whom; each in at most one line.
fn who(width: usize, client: &ClientReport) -> Vec<String> {
    let program = shortened(&labels::program(client), width);
    let mut origin = labels::workload(client);
    if let Some(user) = labels::user(client) {
        if !origin.is_empty() {
            origin.push_str(", ");
        }
        origin.push_str(&user);
    }
    if origin.is_empty() {
        vec![program]
    } else {
        vec![program, shortened(&origin, width)]
    }
}

/// What is too long loses its beginning: of a path the end says more.
fn shortened(text: &str, width: usize) -> String {
    let shown = escaped(text, NAME).to_string();
    if shown.width() <= width {
        return shown;
    }
    let mut room = width.saturating_sub(1);
    let tail = shown.char_indices().rev().take_while(|(_, c)| {
        let wide = c.width().unwrap_or(0);
        let fits = wide <= room;
        room = room.saturating_sub(wide);
        fits
    });
    let begin = tail.last().map_or(shown.len(), |(at, _)| at);
    let tail = &shown[begin..];
    format!("…{tail}")
}

fn style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Breaks | Verdict::Rejected | Verdict::Mixed => ALARM,
        Verdict::FallsBack | Verdict::EmptyToken | Verdict::NotImds => WARN,
        Verdict::Survives | Verdict::Probe => PLAIN,
        Verdict::Ready => GOOD,
    }
}

fn reconciliation(page: &mut Page<'_, impl Write>, cloudwatch: &Reconciliation) -> io::Result<()> {
    page.heading("COMPARED WITH CLOUDWATCH")?;
    page.text(2, &cloudwatch.sentence, PLAIN)?;
    if !cloudwatch.metrics.is_empty() {
        writeln!(
            page.out,
            "  {DIM}{:<23}  {:>12}  {:>12}  {:>9}  PERIODS{DIM:#}",
            "METRIC", "CLOUDWATCH", "IMDSMON", "EXPLAINED"
        )?;
    }
    for metric in &cloudwatch.metrics {
        metric_row(page, metric)?;
    }
    Ok(())
}

fn metric_row(page: &mut Page<'_, impl Write>, metric: &MetricReport) -> io::Result<()> {
    let explained = metric.explained.map_or_else(|| "-".into(), format::share);
    let style = match metric.explained {
        Some(share) if share < 0.95 => WARN,
        _ => PLAIN,
    };
    writeln!(
        page.out,
        "  {}  {:>12}  {:>12}  {style}{explained:>9}{style:#}  {} of {}",
        padded(&escaped(&metric.metric, 23).to_string(), 23),
        format::sum(metric.cloudwatch),
        format::count(metric.imdsmon),
        format::count(metric.compared),
        format::length(metric.period_s),
    )?;
    if metric.left_out > 0 {
        let text = format!(
            "{} periods left out: they were not watched whole",
            format::count(metric.left_out)
        );
        page.text(4, &text, DIM)?;
    }
    for difference in metric.differences.iter().take(DIFFERENCES) {
        let text = format!(
            "{} UTC: CloudWatch {}, imdsmon {}",
            format::minute(&difference.begin),
            format::sum(difference.cloudwatch),
            format::count(difference.imdsmon)
        );
        page.text(4, &text, PLAIN)?;
    }
    let more = metric.differences.len().saturating_sub(DIFFERENCES);
    if more > 0 {
        page.text(4, &format!("and {more} more periods that differ"), DIM)?;
    }
    Ok(())
}

fn next_steps(page: &mut Page<'_, impl Write>, steps: &[NextStep]) -> io::Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    page.heading("NEXT STEPS")?;
    for (number, step) in steps.iter().enumerate() {
        let NextStep {
            title,
            text,
            commands,
            reference,
        } = step;
        if number > 0 {
            page.gap()?;
        }
        page.item(2, &format!("{}. ", number + 1), title)?;
        page.text(5, text, DIM)?;
        page.commands(5, commands)?;
        if let Some(reference) = reference {
            page.link(5, "See ", reference)?;
        }
    }
    Ok(())
}
