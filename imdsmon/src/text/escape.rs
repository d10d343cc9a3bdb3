//! Untrusted text for a terminal: it must not move the cursor, color the screen, or reorder a line.

use std::fmt;

/// Shows untrusted text, escaped, and cut to a number of characters.
pub(crate) struct Escaped<'a> {
    text: &'a str,
    max: usize,
}

/// Shows up to `max` characters; a longer text ends in `…`.
pub(crate) fn escaped(text: &str, max: usize) -> Escaped<'_> {
    Escaped { text, max }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An escape counts as one character: the limit bounds the output, not the columns.
        let mut shown = String::new();
        for (i, c) in self.text.chars().enumerate() {
            if i == self.max {
                shown.push('…');
                break;
            }
            if is_unsafe(c) {
                shown.extend(c.escape_default());
            } else {
                shown.push(c);
            }
        }
        f.pad(&shown)
    }
}

/// Control characters, and format characters that hide or reorder text.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use crate::text::escape::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        for text in [
            "\x1b[2J",
            "a\rb",
            "a\nb",
            "\u{9b}31m",
            "\u{202e}txt.exe",
            "\u{7f}",
            "\0",
        ] {
            let shown = escaped(text, 100).to_string();
            assert!(shown.chars().all(|c| !is_unsafe(c)), "{shown:?}");
        }
        assert_eq!(escaped("\x1b[31m", 100).to_string(), "\\u{1b}[31m");
    }

    #[test]
    fn plain_text_stays_and_long_text_is_cut() {
        assert_eq!(escaped("/opt/äpp", 100).to_string(), "/opt/äpp");
        assert_eq!(escaped("abcdef", 3).to_string(), "abc…");
        assert_eq!(format!("{:5}|", escaped("ab", 9)), "ab   |");
    }
}
