//! Each format as a string.

use imdsmon::report::{csv, html, json, markdown, model::Report, text};

/// What makes a string of a report.
pub type Format = fn(&Report) -> String;

/// The formats, by the extension of their files.
pub const FORMATS: [(&str, Format); 5] = [
    ("txt", |report| plain(report, 100)),
    ("json", |report| written(|out| json::write(out, report))),
    ("md", |report| written(|out| markdown::write(out, report))),
    ("html", |report| written(|out| html::write(out, report))),
    ("csv", |report| written(|out| csv::write(out, report))),
];

/// The text form without colors.
#[must_use]
pub fn plain(report: &Report, width: usize) -> String {
    let colored = colored(report, width);
    anstream::adapter::strip_str(&colored).to_string()
}

/// The text form as a terminal gets it.
#[must_use]
pub fn colored(report: &Report, width: usize) -> String {
    written(|out| text::write(out, report, width))
}

fn written(write: impl Fn(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}
