//! Clips untrusted text for use in a name.

/// Maximum bytes of one part of a name.
const MAX_BYTES: usize = 256;

/// Removes control characters, collapses white space, and cuts to 256 bytes.
pub(crate) fn clip(text: &str) -> String {
    clip_to(text, MAX_BYTES)
}

/// As [`clip`], but cuts to `max` bytes; a cut text ends in `…`.
pub(crate) fn clip_to(text: &str, max: usize) -> String {
    let mut out = String::new();
    // Bounds the time for long runs of removed characters.
    for c in text.trim_start().chars().take(4 * max) {
        let c = match c {
            c if c.is_whitespace() && out.ends_with(' ') => continue,
            c if c.is_whitespace() => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        };
        if out.len() + c.len_utf8() > max {
            while out.len() + '…'.len_utf8() > max {
                out.pop();
            }
            out.push('…');
            return out;
        }
        out.push(c);
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use crate::text::clip::*;

    #[test]
    fn what_is_kept_is_one_short_line() {
        assert_eq!(clip(" a \n\t b\x1b[2J\0 "), "a b\u{fffd}[2J\u{fffd}");
        assert_eq!(clip_to("äöüäöü", 8), "äö…");
        assert_eq!(clip_to("abcdefgh", 8), "abcdefgh");
        assert!(clip(&"x".repeat(10_000)).len() <= MAX_BYTES);
        assert_eq!(clip(&" ".repeat(10_000)), "");
    }
}
