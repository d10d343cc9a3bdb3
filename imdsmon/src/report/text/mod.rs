//! The report for a terminal. The first line is the result; fixes come before evidence, and each
//! command has a separate line.

mod client;
mod page;

use std::io::{self, IsTerminal as _, Write};

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr as _;

use self::page::{DIM, HEADING, PLAIN, Page, WARN, padded, shortened};
use super::{
    format,
    model::Report,
    view::{ClientView, CloudWatch, MetricView, NO_CLIENTS, StepView, View},
};
use crate::verdict::{HostVerdict, Verdict};

const ALARM: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();

/// Columns if standard output is not a terminal.
const DEFAULT_WIDTH: usize = 100;
/// Columns of the labels of the facts.
const LABELS: usize = 17;

/// Columns of the terminal; 100 if standard output is not a terminal.
pub(crate) fn width() -> usize {
    if !io::stdout().is_terminal() {
        return DEFAULT_WIDTH;
    }
    terminal_size::terminal_size().map_or(DEFAULT_WIDTH, |(width, _)| width.0.into())
}

/// Writes the report for a terminal of `width` columns (clamped to 80 to 160). Only commands and
/// links may be wider. Colors are always written; an [`anstream::AutoStream`] removes them.
pub fn write(out: &mut impl Write, report: &Report, width: usize) -> io::Result<()> {
    let view = View::new(report);
    let mut page = Page::new(out, width);
    headline(&mut page, &view)?;
    page.gap()?;
    let instance = view.instance.as_deref().unwrap_or("unknown");
    page.field(LABELS, "Instance", instance, PLAIN)?;
    page.fields(LABELS, &view.facts)?;
    let mut label = "In doubt";
    for doubt in &view.doubts {
        page.field(LABELS, label, doubt, WARN)?;
        label = "";
    }
    clients(&mut page, &view.clients)?;
    for client in view.needing_action() {
        client::details(&mut page, client)?;
    }
    if let Some(cloudwatch) = &view.cloudwatch {
        comparison(&mut page, cloudwatch)?;
    }
    next_steps(&mut page, &view.next_steps)
}

fn headline(page: &mut Page<'_, impl Write>, view: &View) -> io::Result<()> {
    let style = match view.verdict {
        HostVerdict::Ready => GOOD.bold(),
        HostVerdict::NotReady => ALARM,
        HostVerdict::Inconclusive => WARN.bold(),
    };
    let headline = view.headline;
    let indent = headline.width() + 2;
    let mut lines = page.wrapped(&view.sentence, indent).into_iter();
    let first = lines.next().unwrap_or_default();
    writeln!(page.out, "{style}{headline}{style:#}: {first}")?;
    for line in lines {
        writeln!(page.out, "{:indent$}{line}", "")?;
    }
    Ok(())
}

fn clients(page: &mut Page<'_, impl Write>, clients: &[ClientView]) -> io::Result<()> {
    page.heading(&format!(
        "CLIENTS ({}, worst first)",
        format::count(clients.len() as u64)
    ))?;
    if clients.is_empty() {
        return page.text(2, NO_CLIENTS, PLAIN);
    }
    let titles = ["VERDICT", "IMDSv1/ALL", "LAST SEEN", "REQUESTED"];
    let mut widths = titles.map(str::len);
    for client in clients {
        for (width, cell) in widths.iter_mut().zip(cells(client)) {
            *width = cell.width().max(*width);
        }
    }
    let [verdicts, counts, seen, requested] = widths;
    writeln!(
        page.out,
        "  {DIM}{:verdicts$}  {:>counts$}  {:seen$}  {:requested$}  CLIENT AND FIX{DIM:#}",
        titles[0], titles[1], titles[2], titles[3]
    )?;
    for client in clients {
        row(page, client, widths)?;
    }
    Ok(())
}

fn cells(client: &ClientView) -> [&str; 4] {
    [
        client.verdict_name,
        &client.counts,
        &client.last_seen.ago,
        client.requested,
    ]
}

fn row(page: &mut Page<'_, impl Write>, client: &ClientView, widths: [usize; 4]) -> io::Result<()> {
    let [verdicts, counts, seen, requested] = widths;
    let indent = 2 + widths.iter().sum::<usize>() + 2 * widths.len();
    let room = page.width - indent;
    let style = style(client.verdict);
    let v1_style = if client.v1_calls > 0 { style } else { PLAIN };
    let [verdict, count, last, class] = cells(client);
    writeln!(
        page.out,
        "  {style}{}{style:#}  {v1_style}{count:>counts$}{v1_style:#}  {}  {}  {HEADING}{}{HEADING:#}",
        padded(verdict, verdicts),
        padded(last, seen),
        padded(class, requested),
        shortened(&client.program, room),
    )?;
    if !client.runs_as.is_empty() {
        let runs_as = shortened(&client.runs_as, room);
        writeln!(page.out, "{:indent$}{DIM}{runs_as}{DIM:#}", "")?;
    }
    if client.needs_action {
        page.item(indent, "→ ", &client.fix.title)?;
    }
    Ok(())
}

fn style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Breaks | Verdict::Rejected | Verdict::Mixed => ALARM,
        Verdict::FallsBack | Verdict::EmptyToken | Verdict::NotImds => WARN,
        Verdict::Survives | Verdict::Probe => PLAIN,
        Verdict::Ready => GOOD,
    }
}

fn comparison(page: &mut Page<'_, impl Write>, cloudwatch: &CloudWatch) -> io::Result<()> {
    page.heading("COMPARISON WITH CLOUDWATCH")?;
    page.text(2, &cloudwatch.sentence, PLAIN)?;
    if !cloudwatch.metrics.is_empty() {
        writeln!(
            page.out,
            "  {DIM}{:<23}  {:>12}  {:>12}  {:>9}  PERIODS COMPARED{DIM:#}",
            "METRIC", "CLOUDWATCH", "IMDSMON", "CAPTURED"
        )?;
    }
    for metric in &cloudwatch.metrics {
        let MetricView {
            name,
            cloudwatch,
            imdsmon,
            explained,
            is_low,
            periods,
            notes,
        } = metric;
        let style = if *is_low { WARN } else { PLAIN };
        writeln!(
            page.out,
            "  {}  {cloudwatch:>12}  {imdsmon:>12}  {style}{explained:>9}{style:#}  {periods}",
            padded(&shortened(name, 23), 23),
        )?;
        for note in notes {
            page.text(4, note, DIM)?;
        }
    }
    Ok(())
}

fn next_steps(page: &mut Page<'_, impl Write>, steps: &[StepView]) -> io::Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    page.heading("NEXT STEPS")?;
    for (number, step) in (1..).zip(steps) {
        if number > 1 {
            page.gap()?;
        }
        page.item(2, &format!("{number}. "), &step.title)?;
        for text in &step.text {
            page.text(5, text, DIM)?;
        }
        page.typed(5, step)?;
    }
    Ok(())
}
