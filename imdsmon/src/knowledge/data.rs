//! The form of a knowledge file, read so strictly that what comes out needs no more checks.
//!
//! The build script reads the files of `imdsmon/data` with this very module, so that wrong data
//! fail the build.

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use super::version::Version;

/// Bytes of a file.
const MAX: usize = 1 << 20;
/// How much a key must resemble another to be taken for it, from 0 to 1.
const ALIKE: f64 = 0.6;
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

/// What is wrong with a knowledge file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct KnowledgeError {
    /// Counted from 1.
    pub line: usize,
    /// In a sentence.
    pub what: String,
}

/// Everything that a file holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// SDKs.
    #[serde(default)]
    pub sdk: Vec<SdkFacts>,
    /// Programs.
    #[serde(default)]
    pub program: Vec<ProgramFacts>,
    /// Other clouds.
    #[serde(default)]
    pub cloud: Vec<CloudFacts>,
    /// Paths.
    #[serde(default)]
    pub path: Vec<PathFacts>,
}

/// An SDK, and since when it speaks `IMDSv2`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SdkFacts {
    /// How imdsmon calls it.
    pub name: Word,
    /// How people call it.
    pub title: Word,
    /// Products of its User-Agent.
    pub products: Vec<Word>,
    /// Only versions with this first number.
    pub major: Option<u64>,
    /// The first version that speaks `IMDSv2`; every version does if there is none.
    pub minimum: Option<Version>,
    /// Why a version that speaks `IMDSv2` may still call without a token.
    pub note: Option<Word>,
    /// Where this comes from.
    pub source: Word,
}

/// A program, and how it calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProgramFacts {
    /// How people call it.
    pub name: Word,
    /// Products of its User-Agent.
    #[serde(default)]
    pub agents: Vec<Word>,
    /// File names, or ends of paths, of its executable or script.
    #[serde(default)]
    pub executables: Vec<Word>,
    /// From this version on it calls without a token first, and with one when refused.
    pub retries_since: Option<Version>,
    /// From this version on it asks for a token first.
    pub tokens_since: Option<Version>,
    /// An argument that makes it call without tokens.
    pub option: Option<Word>,
    /// What to do, if it is more than an update.
    pub advice: Option<Word>,
    /// Where this comes from.
    pub source: Word,
}

/// Paths of another cloud's metadata service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudFacts {
    /// Which.
    pub name: Word,
    /// Paths, each with all below it.
    pub paths: Vec<Segments>,
    /// Where this comes from.
    pub source: Word,
}

/// What a path holds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathFacts {
    /// The path below the version, with all below it.
    pub path: Segments,
    /// What it holds.
    pub class: PathClass,
    /// Where this comes from.
    pub source: Word,
}

/// What a request asks for, from harmless to what an attacker wants most.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
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
    /// User data: often holds secrets.
    UserData,
    /// Credentials of a role.
    Credentials,
}

/// Text that is not empty.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Word(String);

impl TryFrom<String> for Word {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.trim().is_empty() {
            return Err("must not be empty");
        }
        Ok(Self(text))
    }
}

impl std::ops::Deref for Word {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The parts of a path, at least one and none of them empty.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Segments(Vec<String>);

impl TryFrom<String> for Segments {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parts: Vec<_> = text
            .trim_matches('/')
            .split('/')
            .map(str::to_owned)
            .collect();
        if parts.iter().any(String::is_empty) {
            return Err("must be a path without empty parts");
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
    /// Reads a file.
    ///
    /// # Errors
    /// If it is no TOML, holds a key that is not known, or a value that cannot be.
    pub fn parse(text: &str) -> Result<Self, KnowledgeError> {
        if text.len() > MAX {
            let what = format!("the file is longer than {MAX} bytes");
            return Err(KnowledgeError { line: 1, what });
        }
        let document = DeTable::parse(text).map_err(|error| from_toml(text, &error))?;
        known_keys(text, document.get_ref())?;
        let data: Self = toml::from_str(text).map_err(|error| from_toml(text, &error))?;
        for program in &data.program {
            if program.agents.is_empty() && program.executables.is_empty() {
                let what = format!("`{}` needs `agents` or `executables`", &*program.name);
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

/// Serde knows the key it does not know, but not the one that was meant.
fn known_keys(text: &str, document: &DeTable<'_>) -> Result<(), KnowledgeError> {
    let kinds: Vec<_> = KEYS.iter().map(|(kind, _)| *kind).collect();
    for (kind, entries) in document {
        let keys = KEYS.iter().find(|(known, _)| kind.get_ref() == known);
        let Some((_, keys)) = keys else {
            return Err(unknown(text, kind.span().start, kind.get_ref(), &kinds));
        };
        let DeValue::Array(entries) = entries.get_ref() else {
            continue; // serde says what is wrong
        };
        for entry in entries {
            let DeValue::Table(entry) = entry.get_ref() else {
                continue;
            };
            let stranger = entry.keys().find(|key| !keys.contains(&&**key.get_ref()));
            if let Some(key) = stranger {
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
        .filter(|nearest| alike(nearest) >= ALIKE);
    let key: String = key.chars().take(80).flat_map(char::escape_debug).collect();
    let what = match nearest {
        Some(nearest) => format!("unknown key `{key}`; `{nearest}` is one"),
        None => format!("unknown key `{key}`; known are {}", known.join(", ")),
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
