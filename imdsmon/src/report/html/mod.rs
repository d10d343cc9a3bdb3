//! The report as one HTML file: nothing is loaded, it reads in the light, in the dark, on a phone
//! and on paper, and without JavaScript only filter and order are missing.
//!
//! The template escapes every text; the content security policy lets run only what has the hash
//! of our own style and script.

mod chart;
mod view;

use std::io::{self, Write};

use askama::Template as _;

use self::view::View;
use super::model::Report;

const STYLE: &str = include_str!("../../../templates/report.css");
const SCRIPT: &str = include_str!("../../../templates/report.js");
// A test says what they must be when the files change.
const STYLE_HASH: &str = "sha256-tj2y2rxzlTr5d2LPUQCgzQuLrmXbkFv43l5yNdDmBHQ=";
const SCRIPT_HASH: &str = "sha256-femQyz/TQQoIq/c0DZyTk9k2NdF5aLZiF5FPXT2ZD+o=";

/// Writes the report.
pub fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    View::new(report).write_into(out)
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
