//! Format of a knowledge file, parsed strictly: values need no further check.
//!
//! The build script parses the files of `imdsmon/data` with this module, so invalid data fails the
//! build.

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::version::SoftwareVersion;

use crate::words::with_words;

/// Size of a file.
const MAX_FILE_BYTES: usize = 1 << 20;
/// Jaro-Winkler similarity from which a known key is suggested, 0 to 1.
const MIN_SIMILARITY: f64 = 0.6;
/// Every kind of entry with its keys.
const KEYS: [(&str, &[&str]); 4] = [
    (
        "sdk",
        &[
            "name", "title", "products", "major", "minimum", "note", "source",
        ],
    ),
    (
        "program",
        &[
            "name",
            "agents",
            "executables",
            "retries-since",
            "tokens-since",
            "option",
            "advice",
            "source",
        ],
    ),
    ("cloud", &["name", "paths", "source"]),
    ("path", &["path", "class", "source"]),
];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(crate) struct KnowledgeError {
    pub(crate) line: usize,
    pub(crate) what: String,
}

/// The entries of a file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Data {
    #[serde(default)]
    pub(crate) sdk: Vec<SdkFacts>,
    #[serde(default)]
    pub(crate) program: Vec<ProgramFacts>,
    #[serde(default)]
    pub(crate) cloud: Vec<CloudFacts>,
    #[serde(default)]
    pub(crate) path: Vec<PathFacts>,
}

/// An SDK, and its first version with `IMDSv2` support.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SdkFacts {
    /// Value of `imds.sdk.name`.
    pub(crate) name: NonEmptyString,
    pub(crate) title: NonEmptyString,
    /// Products of its User-Agent.
    pub(crate) products: Vec<NonEmptyString>,
    /// Restricts the entry to this major version.
    pub(crate) major: Option<u64>,
    /// The first version that supports `IMDSv2`; `None`: every version does.
    pub(crate) minimum: Option<SoftwareVersion>,
    /// Why a version that supports `IMDSv2` may still make `IMDSv1` calls.
    pub(crate) note: Option<NonEmptyString>,
    /// URL or file that shows it.
    #[cfg_attr(not(test), expect(dead_code, reason = "every fact must name it"))]
    pub(crate) source: NonEmptyString,
}

/// A program, and how it calls IMDS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ProgramFacts {
    pub(crate) name: NonEmptyString,
    /// Products of its User-Agent.
    #[serde(default)]
    pub(crate) agents: Vec<NonEmptyString>,
    /// File names, or ends of paths, of its executable or script.
    #[serde(default)]
    pub(crate) executables: Vec<NonEmptyString>,
    /// First version that retries with a token when an `IMDSv1` call is rejected.
    pub(crate) retries_since: Option<SoftwareVersion>,
    /// First version that requests a token first.
    pub(crate) tokens_since: Option<SoftwareVersion>,
    /// An argument that disables `IMDSv2`.
    pub(crate) option: Option<NonEmptyString>,
    /// What to do, if an update is not enough.
    pub(crate) advice: Option<NonEmptyString>,
    pub(crate) source: NonEmptyString,
}

/// Paths of another cloud's metadata service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloudFacts {
    #[cfg_attr(not(test), expect(dead_code, reason = "every fact must name it"))]
    pub(crate) name: NonEmptyString,
    /// Paths, each with all below it.
    pub(crate) paths: Vec<Segments>,
    #[cfg_attr(not(test), expect(dead_code, reason = "every fact must name it"))]
    pub(crate) source: NonEmptyString,
}

/// The class of the data at a path.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PathFacts {
    /// The path below the version, with all below it.
    pub(crate) path: Segments,
    pub(crate) class: PathClass,
    #[cfg_attr(not(test), expect(dead_code, reason = "every fact must name it"))]
    pub(crate) source: NonEmptyString,
}

with_words! {
    /// What a request reads, from harmless to most sensitive.
    #[derive(Default)]
    pub enum PathClass {
        /// A session token.
        #[default]
        Token,
        /// A path that only another cloud's metadata service has.
        OtherCloud,
        /// A description of the instance.
        Description,
        /// The instance's identity document, its signatures, public keys.
        Identity,
        /// User data, which often holds secrets.
        UserData,
        /// Credentials of a role.
        Credentials,
    }
}

/// Text with more than white space.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct NonEmptyString(String);

impl TryFrom<String> for NonEmptyString {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.trim().is_empty() {
            return Err("must not be empty");
        }
        Ok(Self(text))
    }
}

impl std::ops::Deref for NonEmptyString {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The parts of a path, at least one and none of them empty.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Segments(Vec<String>);

impl TryFrom<String> for Segments {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parts: Vec<_> = text
            .trim_matches('/')
            .split('/')
            .map(str::to_owned)
            .collect();
        if parts.iter().any(String::is_empty) {
            return Err("must be a path without empty components");
        }
        Ok(Self(parts))
    }
}

impl std::ops::Deref for Segments {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl Data {
    /// Parses a file.
    ///
    /// # Errors
    /// If it is not TOML, or has an unknown key or an invalid value.
    pub(crate) fn parse(text: &str) -> Result<Self, KnowledgeError> {
        if text.len() > MAX_FILE_BYTES {
            let what = format!("the file exceeds {MAX_FILE_BYTES} bytes");
            return Err(KnowledgeError { line: 1, what });
        }
        let document = DeTable::parse(text).map_err(|error| from_toml(text, &error))?;
        known_keys(text, document.get_ref())?;
        let data: Self = toml::from_str(text).map_err(|error| from_toml(text, &error))?;
        for program in &data.program {
            if program.agents.is_empty() && program.executables.is_empty() {
                let what = format!(
                    "`{}` has no key `agents` or `executables`; add one",
                    &*program.name
                );
                let at = text.find(&*program.name).unwrap_or(0);
                return Err(KnowledgeError {
                    line: line(text, at),
                    what,
                });
            }
        }
        Ok(data)
    }
}

/// Serde reports an unknown key without suggesting a similar one.
fn known_keys(text: &str, document: &DeTable<'_>) -> Result<(), KnowledgeError> {
    let kinds: Vec<_> = KEYS.iter().map(|(kind, _)| *kind).collect();
    for (kind, entries) in document {
        let keys = KEYS.iter().find(|(known, _)| kind.get_ref() == known);
        let Some((_, keys)) = keys else {
            return Err(unknown(text, kind.span().start, kind.get_ref(), &kinds));
        };
        let DeValue::Array(entries) = entries.get_ref() else {
            continue; // serde reports it
        };
        for entry in entries {
            let DeValue::Table(entry) = entry.get_ref() else {
                continue;
            };
            let unknown_key = entry.keys().find(|key| !keys.contains(&&**key.get_ref()));
            if let Some(key) = unknown_key {
                return Err(unknown(text, key.span().start, key.get_ref(), keys));
            }
        }
    }
    Ok(())
}

fn unknown(text: &str, at: usize, key: &str, known: &[&str]) -> KnowledgeError {
    let alike = |known: &&&str| strsim::jaro_winkler(key, known);
    let nearest = known
        .iter()
        .max_by(|a, b| alike(a).total_cmp(&alike(b)))
        .filter(|nearest| alike(nearest) >= MIN_SIMILARITY);
    let key: String = key.chars().take(80).flat_map(char::escape_debug).collect();
    let what = match nearest {
        Some(nearest) => format!("unknown key `{key}`; did you mean `{nearest}`?"),
        None => format!("unknown key `{key}`; use one of {}", known.join(", ")),
    };
    KnowledgeError {
        line: line(text, at),
        what,
    }
}

fn from_toml(text: &str, error: &toml::de::Error) -> KnowledgeError {
    KnowledgeError {
        line: line(text, error.span().map_or(0, |span| span.start)),
        what: error.message().to_owned(),
    }
}

fn line(text: &str, at: usize) -> usize {
    let before = text.bytes().take(at);
    1 + before.filter(|&b| b == b'\n').count()
}
