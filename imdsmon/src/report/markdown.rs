//! The report as Markdown, to be pasted into a ticket: GitHub's dialect, which Jira's editor and
//! GitLab read as well.
//!
//! Every value in the template goes through a filter: untrusted text becomes code, in which nothing
//! is markup, a link or a mention; the rest is `prose`.

use std::io::{self, Write};

use askama::Template;

use super::{
    model::Report,
    view::{NO_CLIENTS, View},
};

#[derive(Template)]
#[template(path = "report.md", escape = "none")]
struct Page {
    view: View,
}

/// Writes the report; fails only if `out` does.
pub fn write(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let view = View::new(report);
    Page { view }.write_into(out)
}

#[expect(
    clippy::inline_always,
    clippy::unnecessary_wraps,
    clippy::unused_self,
    reason = "askama's macro generates it"
)]
mod filters {
    use askama::{Result, Values, filter_fn};

    use crate::report::{
        field::{Field, Kind},
        view::StepView,
    };

    /// Text that is not markup.
    #[filter_fn]
    pub(super) fn prose(text: &str, _: &dyn Values) -> Result<String> {
        Ok(super::prose(text))
    }

    #[filter_fn]
    pub(super) fn code(text: &str, _: &dyn Values) -> Result<String> {
        Ok(super::code(text))
    }

    /// Text as code in a table.
    #[filter_fn]
    pub(super) fn cell(text: &str, _: &dyn Values) -> Result<String> {
        Ok(super::cell(text))
    }

    /// A field's text, marked by its kind.
    #[filter_fn]
    pub(super) fn described(field: &Field, _: &dyn Values) -> Result<String> {
        Ok(match field.kind {
            Kind::Statement => super::prose(&field.text),
            Kind::Warning => format!("⚠️ {}", super::prose(&field.text)),
            Kind::Untrusted => super::code(&field.text),
        })
    }

    /// A step's commands in a block, and its link.
    #[filter_fn]
    pub(super) fn typed(step: &StepView, _: &dyn Values) -> Result<String> {
        Ok(super::typed(&step.commands, step.reference.as_deref()))
    }
}

fn typed(commands: &[String], reference: Option<&str>) -> String {
    let mut text = String::new();
    if !commands.is_empty() {
        // The fence is longer than any in the commands.
        let longest = commands.iter().map(|command| longest_run(command, '`'));
        let fence = "`".repeat(longest.max().unwrap_or(0).max(2) + 1);
        text = format!("\n{fence}sh\n{}\n{fence}\n", commands.join("\n"));
    }
    if let Some(url) = reference {
        text.push_str("\n<");
        text.push_str(url);
        text.push_str(">\n");
    }
    text
}

fn cell(text: &str) -> String {
    // A pipe ends a cell even in code, unless a backslash stands before it.
    code(text).replace('|', "\\|")
}

/// Encloses the text in more backticks than it has in a row.
fn code(text: &str) -> String {
    if text.trim().is_empty() {
        return String::new();
    }
    let ticks = "`".repeat(longest_run(text, '`') + 1);
    // Markdown strips one space on both sides; without it, an outer backtick extends the fence.
    let needs_space = text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']);
    let space = if needs_space { " " } else { "" };
    format!("{ticks}{space}{text}{space}{ticks}")
}

/// Escapes everything that could be markup, a link or a mention.
fn prose(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            // GitHub detects mentions and links after unescaping: only a zero-width character
            // prevents them.
            '@' | '#' => safe.extend(['\\', c, '\u{200b}']),
            ':' | '.' if is_before_link(&safe, c) => safe.extend([c, '\u{200b}']),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '$' => {
                safe.extend(['\\', c]);
            }
            _ => safe.push(c),
        }
    }
    safe
}

/// Whether a character makes what precedes it the start of a link: `http:`, `www.`.
fn is_before_link(before: &str, c: char) -> bool {
    let ends_with = |word: &str| {
        let at = before.len().checked_sub(word.len());
        at.and_then(|at| before.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(word))
    };
    match c {
        ':' => ["http", "https", "ftp", "mailto", "xmpp"]
            .iter()
            .any(|word| ends_with(word)),
        _ => ends_with("www"),
    }
}

fn longest_run(text: &str, of: char) -> usize {
    let runs = text.split(|c| c != of);
    runs.map(|run| run.chars().count()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_holds_any_number_of_backticks() {
        for (text, shown) in [
            ("/opt/app", "`/opt/app`"),
            ("a`b", "``a`b``"),
            ("`x", "`` `x ``"),
            ("```", "```` ``` ````"),
            ("", ""),
        ] {
            assert_eq!(code(text), shown, "{text:?}");
        }
        assert_eq!(cell("a|b"), "`a\\|b`");
    }

    #[test]
    fn prose_with_markup_links_and_mentions_is_plain() {
        assert_eq!(prose("a *b* <i>"), "a \\*b\\* &lt;i&gt;");
        assert_eq!(prose("@octocat"), "\\@\u{200b}octocat");
        assert_eq!(prose("HTTPS://x"), "HTTPS:\u{200b}//x");
        assert_eq!(prose("www.x"), "www.\u{200b}x");
        assert_eq!(prose("update to 1.2: now"), "update to 1.2: now");
    }

    /// The template does not escape by itself.
    #[test]
    fn every_value_in_the_template_has_a_filter() {
        let template = include_str!("../../templates/report.md");
        let values = template.split("{{").skip(1);
        for value in values {
            let (value, _) = value.split_once("}}").unwrap();
            if value.trim() == "loop.index" {
                continue;
            }
            let (_, filter) = value.rsplit_once('|').unwrap_or_default();
            assert!(
                ["prose", "code", "cell", "described", "typed"].contains(&filter.trim()),
                "{value}"
            );
        }
    }
}
