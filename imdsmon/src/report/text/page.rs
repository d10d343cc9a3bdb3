//! A page of a known width, on which every text is wrapped.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use anstyle::{AnsiColor, Style};
use textwrap::{Options, WordSeparator, WordSplitter};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::report::{
    field::{Field, Kind},
    view::StepView,
};

/// Bounds of the page width, in columns; other widths are not readable.
const MIN_WIDTH: usize = 80;
const MAX_WIDTH: usize = 160;

pub(super) const HEADING: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const PLAIN: Style = Style::new();
pub(super) const WARN: Style = AnsiColor::Yellow.on_default();

pub(super) struct Page<'o, W> {
    pub(super) out: &'o mut W,
    pub(super) width: usize,
}

impl<'o, W: Write> Page<'o, W> {
    pub(super) fn new(out: &'o mut W, width: usize) -> Self {
        Self {
            out,
            width: width.clamp(MIN_WIDTH, MAX_WIDTH),
        }
    }

    pub(super) fn gap(&mut self) -> io::Result<()> {
        writeln!(self.out)
    }

    pub(super) fn heading(&mut self, title: &str) -> io::Result<()> {
        writeln!(self.out, "\n{HEADING}{title}{HEADING:#}")
    }

    /// Fields whose labels take this many columns.
    pub(super) fn fields(&mut self, labels: usize, fields: &[Field]) -> io::Result<()> {
        let mut previous = "";
        for field in fields {
            let style = match field.kind {
                Kind::Statement | Kind::Untrusted => PLAIN,
                Kind::Warning => WARN,
            };
            let label = if field.label == previous {
                ""
            } else {
                field.label
            };
            self.field(labels, label, &field.text, style)?;
            previous = field.label;
        }
        Ok(())
    }

    /// A label and its text; nothing where the text is empty.
    pub(super) fn field(
        &mut self,
        labels: usize,
        label: &str,
        text: &str,
        style: Style,
    ) -> io::Result<()> {
        let mut label = label;
        for line in self.wrapped(text, labels + 2) {
            writeln!(
                self.out,
                "  {DIM}{label:labels$}{DIM:#}{style}{line}{style:#}"
            )?;
            label = "";
        }
        Ok(())
    }

    /// A text indented to a column.
    pub(super) fn text(&mut self, indent: usize, text: &str, style: Style) -> io::Result<()> {
        for line in self.wrapped(text, indent) {
            writeln!(self.out, "{:indent$}{style}{line}{style:#}", "")?;
        }
        Ok(())
    }

    /// A text with a mark to its left: `1. `.
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

    /// A step's commands, which are pasted, and its link, which is clicked: neither is wrapped.
    pub(super) fn typed(&mut self, indent: usize, step: &StepView) -> io::Result<()> {
        for command in &step.commands {
            writeln!(self.out, "{:indent$}{HEADING}{command}{HEADING:#}", "")?;
        }
        match &step.reference {
            Some(url) => writeln!(self.out, "{:indent$}{DIM}See {DIM:#}{url}", ""),
            None => Ok(()),
        }
    }

    pub(super) fn wrapped(&self, text: &str, indent: usize) -> Vec<String> {
        wrap(text, self.width.saturating_sub(indent))
    }
}

/// Lines of at most `width` columns; longer words are broken.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let options = Options::new(width)
        .word_separator(WordSeparator::AsciiSpace)
        // Paths and URLs are pasted: no line break at a hyphen.
        .word_splitter(WordSplitter::NoHyphenation);
    let lines = textwrap::wrap(text, options).into_iter();
    lines
        .filter(|line| !line.is_empty())
        .map(Cow::into_owned)
        .collect()
}

/// Cuts the beginning of a text that is too long: the end of a path matters more.
pub(super) fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut room = width.saturating_sub(1);
    let tail = text.char_indices().rev().take_while(|(_, c)| {
        let wide = c.width().unwrap_or(0);
        let fits = wide <= room;
        room = room.saturating_sub(wide);
        fits
    });
    let begin = tail.last().map_or(text.len(), |(at, _)| at);
    format!("…{}", &text[begin..])
}

/// Pads the text with spaces to a width in columns.
pub(super) fn padded(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.width());
    format!("{text}{:missing$}", "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::escape::escaped;

    #[test]
    fn words_that_fit_are_kept_whole() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
        assert_eq!(wrap("\u{17d8}a", 2), ["\u{17d8}", "a"]);
        assert!(wrap("  ", 9).is_empty());
        assert_eq!(padded("日本", 6), "日本  ");
    }

    proptest! {
        #[test]
        fn lines_fit_the_page_and_keep_every_character(text: String, width in 2_usize..50) {
            let text = escaped(&text, 2000).to_string();
            let lines = wrap(&text, width);
            for line in &lines {
                let widths = line.chars().filter_map(unicode_width::UnicodeWidthChar::width).filter(|&width| width > 0);
                // A cluster may be narrower than its characters, never wider. A character of
                // three columns, like U+17D8, is a line even where two columns are left.
                prop_assert!(widths.clone().sum::<usize>() <= width
                    || line.width() <= width || widths.count() == 1);
            }
            let bare = |s: &str| s.replace(' ', "");
            prop_assert_eq!(bare(&lines.concat()), bare(&text));
        }
    }
}
