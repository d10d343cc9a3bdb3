//! Versions as written in User-Agents, package databases and release notes.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};

/// Numbers of a version that are compared.
const MAX_NUMBERS: usize = 8;
const PRE_RELEASE_LABELS: [&str; 6] = ["alpha", "beta", "rc", "pre", "dev", "snapshot"];

/// A version that can be compared: `1.13.25`, `v2.10.21`, `3.0.0-rc1`, `1:1.35.0-4+deb12u1`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct SoftwareVersion {
    text: String,
    numbers: Vec<u64>,
    is_early: bool,
}

impl SoftwareVersion {
    /// Parses a version; `None` if it does not begin with a number. Ignores an epoch, a leading
    /// `v` and a distribution's revision.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text: String = text.trim().chars().take(64).collect();
        let rest = match text.split_once(':') {
            Some((epoch, rest)) if epoch.bytes().all(|b| b.is_ascii_digit()) => rest,
            _ => &text,
        };
        let rest = rest.strip_prefix(['v', 'V']).unwrap_or(rest);
        let end = rest
            .find(|c: char| c != '.' && !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (numbers, behind) = rest.split_at(end);
        let numbers: Vec<u64> = numbers
            .split('.')
            .filter(|number| !number.is_empty())
            .take(MAX_NUMBERS)
            .map(|number| number.parse().unwrap_or(u64::MAX))
            .collect();
        if numbers.is_empty() || !rest.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let is_early = is_early(behind);
        Some(Self {
            text,
            numbers,
            is_early,
        })
    }

    pub(crate) fn major(&self) -> u64 {
        self.numbers.first().copied().unwrap_or_default()
    }
}

/// Whether the text after the numbers marks a pre-release: `-rc1`, `b2`, `~git2019`.
fn is_early(behind: &str) -> bool {
    if behind.starts_with('~') {
        return true;
    }
    let word = behind
        .trim_start_matches(['-', '.', '_'])
        .to_ascii_lowercase();
    let letters = word.find(|c: char| !c.is_ascii_alphabetic());
    let (letters, rest) = word.split_at(letters.unwrap_or(word.len()));
    let is_short =
        matches!(letters, "a" | "b" | "c") && rest.starts_with(|c: char| c.is_ascii_digit());
    is_short || PRE_RELEASE_LABELS.contains(&letters)
}

impl Ord for SoftwareVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        let len = self.numbers.len().max(other.numbers.len());
        let number = |version: &Self, at| version.numbers.get(at).copied().unwrap_or(0);
        (0..len)
            .map(|at| number(self, at).cmp(&number(other, at)))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| other.is_early.cmp(&self.is_early))
    }
}

impl PartialOrd for SoftwareVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for SoftwareVersion {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for SoftwareVersion {}

impl fmt::Display for SoftwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for SoftwareVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("`{text}` is not a version; begin with a number"))
    }
}

impl From<SoftwareVersion> for String {
    fn from(version: SoftwareVersion) -> Self {
        version.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> SoftwareVersion {
        SoftwareVersion::parse(text).unwrap()
    }

    #[test]
    fn real_versions_are_ordered() {
        let ordered = [
            "0.19.0",
            "1.12.253",
            "1.13.9",
            "1.13.25",
            "1.13.50",
            "v2.0.0-rc.1",
            "2.0.0",
            "2.1693.0",
            "3.0.430.9",
            "3.0.431.0",
            "3.79.0",
            "1:3.79.1-4+deb12u1",
            "3006.9",
            "3007.4",
        ];
        for pair in ordered.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn equivalent_versions_are_equal() {
        for (a, b) in [
            ("1.13", "1.13.0"),
            ("v1.2", "1.2"),
            ("2.45-1", "2.45"),
            ("1:1.35.0-4+b1", "1.35.0"),
            ("1.5.0+ds1-1+b4", "1.5"),
            ("0.33-1", "0.33"),
            ("2.28.1ubuntu3", "2.28.1"),
            ("1.44.133,", "1.44.133"),
            ("3.0a1", "3.0b2"),
        ] {
            assert_eq!(version(a), version(b), "{a} {b}");
        }
    }

    #[test]
    fn text_without_a_leading_number_is_no_version() {
        for text in ["", "newest", ".1", "v", "-1", ":", "git-1234", "１.２"] {
            assert_eq!(SoftwareVersion::parse(text), None, "{text}");
        }
        let huge = "9".repeat(1000);
        assert!(version(&huge) > version("1"));
        assert!(version(&format!("1{}", ".1".repeat(1000))) > version("1"));
    }
}
