//! The words of the project: one term for each concept, as `docs/style.md` lists them.
//!
//! Every text file in the repository is read, code included: names count as words. A word between
//! backticks is not prose, and contracts (rule names, metric names) are listed here.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::{fs, path::Path, process::Command};

/// A word that is not used, as a regular expression would say it, and the preferred one.
///
/// Matched without regard to case; a letter on either side makes it another word.
const BANNED: &[(&[&str], &str)] = &[
    (&["mend", "mends", "mended", "mending"], "fix"),
    (
        &["flip", "flips", "flipped", "flipping"],
        "require IMDSv2, enforce",
    ),
    (
        &["somebody", "nobody", "anybody", "everybody"],
        "a process, a client, an operator",
    ),
    (
        &[
            "tokenless call",
            "tokenless calls",
            "tokenless client",
            "tokenless clients",
            "tokenless request",
            "tokenless requests",
            "tokenless access",
        ],
        "IMDSv1 call",
    ),
    (&["hear", "hears", "heard", "hearing", "unheard"], "capture"),
    (
        &["sing", "sings", "deaf", "herald", "vigil", "roster"],
        "the standard noun",
    ),
    (&["as it should"], "correctly, or leave it out"),
    (&["is told", "are told", "was told"], "the message itself"),
    (&["who calls", "who called"], "the client"),
    (
        &["ask for a token", "asks for a token", "asked for a token"],
        "request a token, token request",
    ),
    (&["in a word"], "leave it out"),
];

/// Files that quote the words: the style guide, this test, traffic of other programs, and what
/// earlier releases wrote.
const EXCEPT: &[&str] = &[
    "docs/style.md",
    "tests/tests/language.rs",
    "tests/corpus/",
    "imdsmon/tests/fixtures/",
    "imdsmon/src/store/schema.rs",
    "Cargo.lock",
];

/// Contracts: they hold a banned word and stay.
const CONTRACTS: &[&str] = &[
    "tokenless_calls",
    "all-once-mended",
    "self-tests were not heard",
    // A user name, and a verb with another meaning.
    "\"nobody\"",
    "told apart",
    "told from",
];

#[test]
fn texts_use_the_terms_of_the_style_guide() {
    let mut found = Vec::new();
    for file in files() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(&file);
        // A file that is no text holds no words.
        let Ok(text) = fs::read_to_string(path) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for (word, preferred) in banned_in(line) {
                found.push(format!("{file}:{}: `{word}`; say: {preferred}", number + 1));
            }
        }
    }
    assert!(
        found.is_empty(),
        "{} words that docs/style.md replaces:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn banned_words_are_found_in_prose_and_in_names() {
    let found = |line| banned_in(line).map(|(word, _)| word).collect::<Vec<_>>();
    assert_eq!(
        found("This mends it, and Nobody hears."),
        ["mends", "nobody", "hears"]
    );
    assert_eq!(found("fn nobody_is_told() {}"), ["nobody", "is told"]);
    assert_eq!(found("amend, flipper, `flip`, shearing"), [""; 0]);
    assert_eq!(found("sum(imdsmon:tokenless_calls:rate5m)"), [""; 0]);
}

/// Every file that git tracks or would track.
fn files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let files: Vec<String> = String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .filter(|file| !EXCEPT.iter().any(|except| file.starts_with(except)))
        .map(str::to_owned)
        .collect();
    assert!(files.len() > 300, "git lists only {} files", files.len());
    files
}

fn banned_in(line: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    // What stands between backticks is no prose; an underscore joins the words of a name.
    let lower = line.to_lowercase();
    let mut prose = lower.split('`').step_by(2).collect::<Vec<_>>().join("` ");
    for contract in CONTRACTS {
        prose = prose.replace(contract, "");
    }
    prose = prose.replace('_', " ");
    for contract in CONTRACTS {
        prose = prose.replace(contract, "");
    }
    BANNED.iter().flat_map(move |(words, preferred)| {
        let prose = prose.clone();
        words
            .iter()
            .filter(move |word| holds(&prose, word))
            .map(|word| (*word, *preferred))
    })
}

/// Whether `prose` holds `word` with no letter before or behind it.
fn holds(prose: &str, word: &str) -> bool {
    prose.match_indices(word).any(|(start, _)| {
        let before = prose[..start].chars().next_back();
        let behind = prose[start + word.len()..].chars().next();
        !before.is_some_and(char::is_alphabetic) && !behind.is_some_and(char::is_alphabetic)
    })
}
