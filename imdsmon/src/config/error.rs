//! What is wrong with a configuration, in sentences that name the place.

use std::{fmt, path::Path};

use super::{KEYS, Origin, value::Raw};

/// Everything that is wrong.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// One for each mistake; at least one.
    pub problems: Vec<Problem>,
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

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    place: String,
    text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

impl Problem {
    pub(super) fn new(origin: &Origin, text: impl Into<String>) -> Self {
        Self {
            place: origin.to_string(),
            text: text.into(),
        }
    }

    /// About a file as a whole.
    pub(super) fn file(path: &Path, text: impl fmt::Display) -> Self {
        Self {
            place: path.display().to_string(),
            text: text.to_string(),
        }
    }

    pub(super) fn value(origin: &Origin, key: &str, allowed: &str, raw: &Raw) -> Self {
        Self::new(origin, format!("{key} must be {allowed}, not {raw}"))
    }

    /// A key that is none, and the one that was probably meant.
    pub(super) fn unknown(origin: &Origin, key: &str) -> Self {
        let text = match nearest(key) {
            Some(known) => format!("there is no key {key:?}; did you mean {known}?"),
            None => format!("there is no key {key:?}; the keys are {}", KEYS.join(", ")),
        };
        Self::new(origin, text)
    }
}

/// The key that is most like `key`, if one is: as a whole, or without its table.
fn nearest(key: &str) -> Option<&'static str> {
    let last = |key: &'_ str| key.rsplit('.').next().map(str::to_owned);
    let distance = |known: &str| {
        let whole = strsim::osa_distance(known, key);
        let parts = last(known).zip(last(key));
        // The same name elsewhere is nearer than any other name, but less near than a letter off.
        let part = parts.map_or(usize::MAX, |(a, b)| strsim::osa_distance(&a, &b) * 2 + 1);
        whole.min(part)
    };
    // Keys that are no keys at all may be long, and the distance takes time with each letter.
    if key.len() > 64 {
        return None;
    }
    let (distance, known) = KEYS.iter().map(|known| (distance(known), *known)).min()?;
    (distance <= 1 + key.len() / 4).then_some(known)
}
