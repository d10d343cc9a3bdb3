//! A page of a known width: every text that is put on it is escaped and wrapped here.

use std::io::{self, Write};

use anstyle::Style;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::text::escape::escaped;

/// Narrower, nothing can be read any more.
const NARROWEST: usize = 80;
/// Wider, a line is hard to follow.
const WIDEST: usize = 160;
/// Characters of one text that are shown at most.
const MAX: usize = 2000;
/// Where the text of a field begins.
const FIELD: usize = 13;

pub(super) const HEADING: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const PLAIN: Style = Style::new();

/// Where the report is written.
pub(super) struct Page<'o, W> {
    pub(super) out: &'o mut W,
    pub(super) width: usize,
}

impl<'o, W: Write> Page<'o, W> {
    pub(super) fn new(out: &'o mut W, width: usize) -> Self {
        Self {
            out,
            width: width.clamp(NARROWEST, WIDEST),
        }
    }

    /// An empty line.
    pub(super) fn gap(&mut self) -> io::Result<()> {
        writeln!(self.out)
    }

    /// A section begins.
    pub(super) fn heading(&mut self, title: &str) -> io::Result<()> {
        writeln!(self.out, "\n{HEADING}{title}{HEADING:#}")
    }

    /// A label, and its text beside it; nothing where the text is empty.
    pub(super) fn field(&mut self, label: &str, text: &str, style: Style) -> io::Result<()> {
        let mut label = label;
        for line in self.wrapped(text, FIELD) {
            let pad = FIELD - 2;
            writeln!(self.out, "  {DIM}{label:pad$}{DIM:#}{style}{line}{style:#}")?;
            label = "";
        }
        Ok(())
    }

    /// A text by itself, from a column on.
    pub(super) fn text(&mut self, indent: usize, text: &str, style: Style) -> io::Result<()> {
        for line in self.wrapped(text, indent) {
            writeln!(self.out, "{:indent$}{style}{line}{style:#}", "")?;
        }
        Ok(())
    }

    /// The same after a mark that hangs to its left: `1. `.
    pub(super) fn item(&mut self, indent: usize, mark: &str, text: &str) -> io::Result<()> {
        let inside = indent + mark.width();
        let mut mark = mark;
        for line in self.wrapped(text, inside) {
            writeln!(
                self.out,
                "{:indent$}{mark:pad$}{line}",
                "",
                pad = inside - indent
            )?;
            mark = "";
        }
        Ok(())
    }

    /// Commands, to be pasted: on lines of their own, never wrapped and never cut. Each is one
    /// line: what a name smuggles in behind a line end must not be a command.
    pub(super) fn commands(&mut self, indent: usize, commands: &[String]) -> io::Result<()> {
        for command in commands {
            let command = escaped(command, usize::MAX);
            writeln!(self.out, "{:indent$}{HEADING}{command}{HEADING:#}", "")?;
        }
        Ok(())
    }

    /// A page of the web, to be clicked: not wrapped.
    pub(super) fn link(&mut self, indent: usize, label: &str, url: &str) -> io::Result<()> {
        writeln!(
            self.out,
            "{:indent$}{DIM}{label}{DIM:#}{}",
            "",
            escaped(url, MAX)
        )
    }

    pub(super) fn wrapped(&self, text: &str, indent: usize) -> Vec<String> {
        let shown = escaped(text, MAX).to_string();
        wrap(&shown, self.width.saturating_sub(indent))
    }
}

/// Lines of at most `width` columns; words that are longer than a line are broken.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(2);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let wide = word.width();
        if !line.is_empty() {
            if used + 1 + wide <= width {
                line.push(' ');
                used += 1;
            } else {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
        }
        if wide <= width - used {
            line.push_str(word);
            used += wide;
            continue;
        }
        for c in word.chars() {
            let wide = c.width().unwrap_or(0);
            if used + wide > width {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(c);
            used += wide;
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// Text filled up with spaces to a width in columns of the terminal.
pub(super) fn padded(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.width());
    format!("{text}{:missing$}", "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_kept_whole_where_they_fit() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
        assert!(wrap("  ", 9).is_empty());
        assert_eq!(padded("日本", 6), "日本  ");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_page_and_nothing_gets_lost(text: String, width in 2_usize..50) {
            let text = escaped(&text, MAX).to_string();
            let lines = wrap(&text, width);
            for line in &lines {
                // A cluster may be narrower than its characters, never wider.
                prop_assert!(line.chars().map(|c| c.width().unwrap_or(0)).sum::<usize>() <= width
                    || line.width() <= width);
            }
            let bare = |s: &str| s.replace(' ', "");
            prop_assert_eq!(bare(&lines.concat()), bare(&text));
        }
    }
}
