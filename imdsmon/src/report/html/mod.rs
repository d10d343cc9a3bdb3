//! The report as one HTML file without external resources, for light and dark mode, phones and
//! print. Without JavaScript only the filter and sorting are missing.
//!
//! The template escapes every text; the content security policy allows only our style and script,
//! by hash.

mod chart;

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use askama::Template;

use self::chart::Chart;
use super::{
    field::Kind,
    model::Report,
    view::{ClientView, NO_CLIENTS, View},
};
use crate::verdict::HostVerdict;

const STYLE: &str = include_str!("../../../templates/report.css");
const SCRIPT: &str = include_str!("../../../templates/report.js");
// A test computes both hashes.
const STYLE_HASH: &str = "sha256-tj2y2rxzlTr5d2LPUQCgzQuLrmXbkFv43l5yNdDmBHQ=";
const SCRIPT_HASH: &str = "sha256-femQyz/TQQoIq/c0DZyTk9k2NdF5aLZiF5FPXT2ZD+o=";

/// Clients whose details are initially open.
const MAX_OPEN: usize = 8;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    style: &'static str,
    style_hash: &'static str,
    script: &'static str,
    script_hash: &'static str,
    headline_class: &'static str,
    view: &'a View,
    /// Verdicts, worst first, with the number of their clients.
    verdicts: Vec<(&'static str, usize)>,
    rows: Vec<Row<'a>>,
}

struct Row<'a> {
    client: &'a ClientView,
    chart: Option<Chart>,
    /// 0 is the worst.
    severity: u8,
    is_open: bool,
}

/// Writes the report; fails only if `out` does.
pub fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let view = View::new(report);
    let mut verdicts = BTreeMap::new();
    for client in &view.clients {
        let (_, number) = verdicts
            .entry(client.verdict)
            .or_insert((client.verdict_name, 0));
        *number += 1;
    }
    let rows = view.clients.iter().zip(&report.clients);
    let row = |(client, reported)| Row {
        client,
        chart: Chart::new(&report.period, reported),
        severity: client.verdict as u8,
        is_open: client.needs_action && client.number <= MAX_OPEN,
    };
    let page = Page {
        style: STYLE,
        style_hash: STYLE_HASH,
        script: SCRIPT,
        script_hash: SCRIPT_HASH,
        headline_class: match view.verdict {
            HostVerdict::Ready => "ready",
            HostVerdict::NotReady => "not-ready",
            HostVerdict::Inconclusive => "inconclusive",
        },
        view: &view,
        verdicts: verdicts.into_values().collect(),
        rows: rows.map(row).collect(),
    };
    page.write_into(out)
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// A source of a content security policy, as CSP Level 3 has it.
    fn source(text: &str) -> String {
        format!("sha256-{}", BASE64.encode(&Sha256::digest(text)))
    }

    #[test]
    fn the_policy_names_the_style_and_the_script_that_are_there() {
        assert_eq!(source(STYLE), STYLE_HASH, "of report.css");
        assert_eq!(source(SCRIPT), SCRIPT_HASH, "of report.js");
    }
}
