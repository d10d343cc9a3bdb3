//! One line of a report: a label and its text, escaped.

use crate::text::escape::escaped;

/// Characters of one text.
const MAX_TEXT: usize = 2000;

/// A label and its text.
pub(super) struct Field {
    pub(super) label: &'static str,
    pub(super) text: String,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A statement by imdsmon.
    Statement,
    /// A statement that casts doubt on the result.
    Warning,
    /// What a process or its configuration chose: a name, a path, a header.
    Untrusted,
}

impl Field {
    pub(super) fn statement(label: &'static str, text: &str) -> Self {
        Self::new(label, text, Kind::Statement)
    }

    pub(super) fn untrusted(label: &'static str, text: &str) -> Self {
        Self::new(label, text, Kind::Untrusted)
    }

    /// A statement, or a warning unless `is_good`.
    pub(super) fn checked(label: &'static str, text: &str, is_good: bool) -> Self {
        let kind = if is_good {
            Kind::Statement
        } else {
            Kind::Warning
        };
        Self::new(label, text, kind)
    }

    fn new(label: &'static str, text: &str, kind: Kind) -> Self {
        Self {
            label,
            text: shown(text),
            kind,
        }
    }
}

pub(super) fn shown(text: &str) -> String {
    escaped(text, MAX_TEXT).to_string()
}
