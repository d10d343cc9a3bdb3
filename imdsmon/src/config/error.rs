//! Configuration errors, each with its file and line, variable or flag.

use std::{fmt, path::Path};

use super::{KEYS, ValueOrigin, value::Raw};

#[derive(Debug, thiserror::Error)]
pub(crate) struct ConfigError {
    /// At least one.
    pub(crate) problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    origin: String,
    text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.text)
    }
}

impl Problem {
    pub(super) fn new(origin: &ValueOrigin, text: impl Into<String>) -> Self {
        Self {
            origin: origin.to_string(),
            text: text.into(),
        }
    }

    pub(super) fn unreadable(path: &Path, text: impl fmt::Display) -> Self {
        Self {
            origin: format!("cannot read configuration {}", path.display()),
            text: text.to_string(),
        }
    }

    pub(super) fn value(origin: &ValueOrigin, key: &str, allowed: &str, raw: &Raw) -> Self {
        Self::new(origin, format!("{key} must be {allowed}, not {raw}"))
    }

    /// An unknown key, with the most similar known one.
    pub(super) fn unknown(origin: &ValueOrigin, key: &str) -> Self {
        let text = match nearest(key) {
            Some(known) => format!("unknown key {key:?}; did you mean {known}?"),
            None => format!("unknown key {key:?}; the keys are {}", KEYS.join(", ")),
        };
        Self::new(origin, text)
    }
}

/// The most similar key, if any: as a whole, or without its table.
fn nearest(key: &str) -> Option<&'static str> {
    let last = |key: &'_ str| key.rsplit('.').next().map(str::to_owned);
    let distance = |known: &str| {
        let whole = strsim::osa_distance(known, key);
        let parts = last(known).zip(last(key));
        // The same name in another table is nearer than another name; a typing error is nearest.
        let part = parts.map_or(usize::MAX, |(a, b)| strsim::osa_distance(&a, &b) * 2 + 1);
        whole.min(part)
    };
    // The distance takes quadratic time, and a file may have keys of any length.
    if key.len() > 64 {
        return None;
    }
    let (distance, known) = KEYS.iter().map(|known| (distance(known), *known)).min()?;
    (distance <= 1 + key.len() / 4).then_some(known)
}
