//! The clients as CSV: one row each, for a spreadsheet over many hosts.

use std::io::{self, Write};

use csv::{QuoteStyle, WriterBuilder};

use super::model::{ClientReport, Report};
use crate::{report::labels, text::escape::escaped};

/// Maximum characters of a cell.
const MAX: usize = 1000;

const HEADING: [&str; 16] = [
    "instance",
    "host",
    "verdict",
    "needs_action",
    "program",
    "workload",
    "user",
    "tokenless",
    "total",
    "most_sensitive",
    "first_seen",
    "last_seen",
    "sdks",
    "fix",
    "rule",
    "confidence",
];

/// Writes a heading and a row for each client.
///
/// Every text is quoted; text that a spreadsheet would take for a formula gets the prefix `'`.
pub fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let mut rows = WriterBuilder::new()
        .quote_style(QuoteStyle::NonNumeric)
        .from_writer(out);
    rows.write_record(HEADING)?;
    for client in &report.clients {
        rows.write_record(row(report, client))?;
    }
    rows.flush()
}

fn row(report: &Report, client: &ClientReport) -> [String; HEADING.len()] {
    let judgement = &client.judgement;
    let sdks: Vec<String> = client.sdks.iter().map(labels::sdk).collect();
    [
        cell(report.instance.id.as_deref().unwrap_or_default()),
        cell(report.instance.hostname.as_deref().unwrap_or_default()),
        <&str>::from(judgement.verdict).into(),
        if judgement.needs_action { "yes" } else { "no" }.into(),
        cell(&labels::program(client)),
        cell(&labels::workload(client)),
        cell(&client.client.user),
        client.totals.tokenless.to_string(),
        client.totals.calls.to_string(),
        <&str>::from(client.most_sensitive).into(),
        client.first_seen.to_rfc3339(),
        client.last_seen.to_rfc3339(),
        cell(&sdks.join(", ")),
        cell(&judgement.remedy.short),
        cell(judgement.rule.into()),
        <&str>::from(judgement.confidence).into(),
    ]
}

/// Text that stays text in a spreadsheet. Excel and `LibreOffice` begin a formula at one of
/// `=+-@`, their full-width forms, a tab or a carriage return; control characters are escaped anyway.
fn cell(text: &str) -> String {
    let shown = escaped(text, MAX).to_string();
    let first = shown.trim_start().chars().next();
    match first {
        Some('=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠') => format!("'{shown}"),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1", "＝1"] {
            let first = cell(text).chars().next();
            assert!(matches!(first, Some('\'' | '\\')), "{text:?}: {first:?}");
        }
        assert_eq!(cell("/opt/a=b"), "/opt/a=b");
    }
}
