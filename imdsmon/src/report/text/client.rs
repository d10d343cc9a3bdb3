//! The details of a client that needs action.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr as _;

use super::{
    page::{DIM, HEADING, PLAIN, Page, padded, shortened},
    style,
};
use crate::report::view::{CallView, ClientView, StepView};

/// Columns of the labels.
const LABELS: usize = 12;

pub(super) fn details(page: &mut Page<'_, impl Write>, client: &ClientView) -> io::Result<()> {
    let mark = format!("{}  ", client.number);
    let verdict = client.verdict_name;
    let room = page.width - mark.width() - verdict.width() - 2;
    let program = padded(&shortened(&client.program, room), room);
    let style = style(client.verdict);
    writeln!(
        page.out,
        "\n{DIM}{}{DIM:#}\n{HEADING}{mark}{program}{HEADING:#}  {style}{verdict}{style:#}",
        "─".repeat(page.width)
    )?;
    page.field(LABELS, "Reason", &client.reason, PLAIN)?;
    let rule = format!("{} ({})", client.rule, client.confidence);
    page.field(LABELS, "Rule", &rule, PLAIN)?;
    page.fields(LABELS, &client.fields)?;
    let mut label = "Paths";
    for (path, counts) in &client.paths {
        page.field(LABELS, label, &format!("{path} ({counts})"), PLAIN)?;
        label = "";
    }
    if let Some(more) = &client.more_paths {
        page.field(LABELS, label, more, DIM)?;
    }
    for sample in &client.samples {
        self::sample(page, sample)?;
    }
    fix(page, &client.fix)
}

fn sample(page: &mut Page<'_, impl Write>, sample: &CallView) -> io::Result<()> {
    let CallView {
        when,
        cause,
        request,
        response,
        fields,
    } = sample;
    let comma = if cause.is_empty() { "" } else { ", " };
    let text = format!("{when} UTC  {request} → {response}{comma}{cause}");
    page.field(LABELS, "Example", &text, PLAIN)?;
    for field in fields {
        let text = format!("{} {}", field.label, field.text);
        page.field(LABELS, "", &text, DIM)?;
    }
    Ok(())
}

fn fix(page: &mut Page<'_, impl Write>, fix: &StepView) -> io::Result<()> {
    page.field(LABELS, "Fix", &fix.title, HEADING)?;
    for (number, step) in (1..).zip(&fix.text) {
        page.item(4, &format!("{number}. "), step)?;
    }
    page.typed(7, fix)
}
