//! The script that an interpreter runs.
//!
//! The interpreter's own options are skipped; each table row cites their documentation. An
//! ambiguous command line gives no script.

use crate::event::bytes::ByteString;

/// What an interpreter runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// A file: the script's path, as given.
    File(String),
    /// A module, an archive with its option, or a class: `-m http.server`, `-jar app.jar`.
    Named(String),
    /// Code on the command line: the option, and the code.
    Code(&'static str, String),
}

/// How an interpreter reads its command line up to the script.
struct Rules {
    /// Short options that may be written in one word: those with code, and those that take a
    /// value in the same word or the next.
    code: &'static str,
    named: &'static str,
    file: &'static str,
    valued: &'static str,
    /// Short options after which the rest of the word is their value, or nothing.
    attached: &'static str,
    /// Whole words whose next word is code, a name or a value.
    code_words: &'static [&'static str],
    named_words: &'static [&'static str],
    valued_words: &'static [&'static str],
    /// Words before the script that are not options.
    commands: &'static [&'static str],
    /// Code is not the option's value but the first word that is no option.
    code_is_operand: bool,
    /// The first word that is no option is a name (a class), not a file.
    operand_is_name: bool,
}

const PLAIN: Rules = Rules {
    code: "",
    named: "",
    file: "",
    valued: "",
    attached: "",
    code_words: &[],
    named_words: &[],
    valued_words: &[],
    commands: &[],
    code_is_operand: false,
    operand_is_name: false,
};

/// How interpreters read their command lines, by their names without version.
const INTERPRETERS: &[(&[&str], Rules)] = &[
    // https://docs.python.org/3/using/cmdline.html
    (
        &["python", "python2", "python3", "pypy", "pypy3"],
        Rules {
            code: "c",
            named: "m",
            valued: "WXQ",
            valued_words: &["--check-hash-based-pycs"],
            ..PLAIN
        },
    ),
    // perlrun(1)
    (
        &["perl"],
        Rules {
            code: "eE",
            valued: "I",
            attached: "MmCDFVixd",
            ..PLAIN
        },
    ),
    // ruby(1)
    (
        &["ruby", "jruby"],
        Rules {
            code: "e",
            valued: "IrCEX",
            attached: "KWxFi",
            ..PLAIN
        },
    ),
    // https://nodejs.org/api/cli.html
    (
        &["node", "nodejs"],
        Rules {
            code_words: &["-e", "--eval", "-p", "--print", "-pe"],
            valued_words: &[
                "-r",
                "--require",
                "--import",
                "-C",
                "--conditions",
                "--loader",
                "--experimental-loader",
                "--title",
                "--input-type",
                "--openssl-config",
                "--icu-data-dir",
                "--inspect-port",
            ],
            ..PLAIN
        },
    ),
    // https://docs.deno.com/runtime/reference/cli/, https://bun.sh/docs/cli/run
    (
        &["deno", "bun"],
        Rules {
            code: "e",
            valued: "c",
            valued_words: &["--config", "--import-map", "--preload", "--cwd"],
            commands: &["run", "serve"],
            ..PLAIN
        },
    ),
    // https://www.php.net/manual/en/features.commandline.options.php
    (
        &["php", "php-cgi"],
        Rules {
            code: "rBRE",
            file: "fF",
            valued: "dczStg",
            ..PLAIN
        },
    ),
    // bash(1), dash(1), ksh(1), zsh(1): `-c` is a flag, the code an operand.
    (
        &["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"],
        Rules {
            code: "c",
            valued: "oO",
            valued_words: &["--rcfile", "--init-file"],
            code_is_operand: true,
            ..PLAIN
        },
    ),
    // https://docs.oracle.com/en/java/javase/21/docs/specs/man/java.html
    (
        &["java"],
        Rules {
            named_words: &["-jar", "-m", "--module"],
            valued_words: &[
                "-cp",
                "-classpath",
                "--class-path",
                "-p",
                "--module-path",
                "--upgrade-module-path",
                "--add-modules",
                "--add-reads",
                "--add-exports",
                "--add-opens",
                "--limit-modules",
                "--patch-module",
                "--enable-native-access",
                "--source",
            ],
            operand_is_name: true,
            ..PLAIN
        },
    ),
    (
        &["lua"],
        Rules {
            code: "e",
            valued: "l",
            ..PLAIN
        },
    ),
    // https://learn.microsoft.com/dotnet/core/tools/dotnet
    (
        &["dotnet"],
        Rules {
            valued_words: &[
                "--depsfile",
                "--runtimeconfig",
                "--additionalprobingpath",
                "--fx-version",
            ],
            commands: &["exec", "run"],
            ..PLAIN
        },
    ),
    (
        &["pwsh"],
        Rules {
            code_words: &["-c", "-Command", "-command"],
            named_words: &["-f", "-File", "-file"],
            ..PLAIN
        },
    ),
    (&["tclsh", "expect", "mono", "Rscript", "groovy"], PLAIN),
];

fn rules(interpreter: &str) -> Option<&'static Rules> {
    let mut all = INTERPRETERS.iter();
    let found = all.find(|(names, _)| names.contains(&interpreter));
    found.map(|(_, rules)| rules)
}

/// The name without the version that distributions append (`python3.11`, `ruby3.1`), if it is an
/// interpreter. Python 2 and 3 are distinct.
pub(crate) fn interpreter(name: &str) -> Option<&str> {
    if rules(name).is_some() {
        return Some(name);
    }
    let short = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    let python = name
        .get(..short.len() + 1)
        .filter(|n| matches!(*n, "python2" | "python3" | "pypy3"));
    let short = python.unwrap_or(short);
    rules(short).map(|_| short)
}

/// What `interpreter` runs with these arguments, the first of which is its own name.
pub(crate) fn script(interpreter: &str, args: &[ByteString]) -> Option<Script> {
    let rules = rules(interpreter)?;
    let mut code_follows = None;
    let mut words = args.iter().skip(1);
    while let Some(word) = words.next() {
        let word = word.to_text();
        let mut next = || words.next().map(ByteString::to_text);
        if matches!(&*word, "-" | "") {
            return None; // standard input, or a title that the process gave itself
        }
        if word == "--" {
            return operand(rules, code_follows, next()?);
        }
        if rules.commands.contains(&&*word) {
            continue;
        }
        if !word.starts_with(['-', '+']) {
            return operand(rules, code_follows, word);
        }
        if let Some(option) = one_of(rules.code_words, &word) {
            return Some(Script::Code(option, next()?));
        }
        if let Some(option) = one_of(rules.named_words, &word) {
            let name = next()?;
            return Some(Script::Named(format!("{option} {name}")));
        }
        if rules.valued_words.contains(&&*word) {
            next()?;
            continue;
        }
        if word.starts_with("--") {
            continue;
        }
        match short_options(rules, &word[1..]) {
            Short::Flags => {}
            Short::Value => drop(next()?),
            Short::CodeFollows(option) => code_follows = Some(option),
            Short::Code(option, rest) => {
                return Some(Script::Code(option, rest.map_or_else(next, Some)?));
            }
            Short::Named(option, rest) => {
                let name = rest.map_or_else(next, Some)?;
                return Some(Script::Named(format!("-{option} {name}")));
            }
            Short::File(rest) => return Some(Script::File(rest.map_or_else(next, Some)?)),
        }
    }
    None
}

fn one_of(options: &'static [&'static str], word: &str) -> Option<&'static str> {
    options.iter().copied().find(|option| *option == word)
}

fn operand(rules: &Rules, code: Option<&'static str>, word: String) -> Option<Script> {
    Some(match code {
        Some(option) => Script::Code(option, word),
        None if word.is_empty() => return None,
        // `java Hello.java` runs a file.
        None if rules.operand_is_name && !word.contains(".java") => Script::Named(word),
        None => Script::File(word),
    })
}

/// Result of a word of short options.
enum Short {
    Flags,
    /// The next word is a value.
    Value,
    /// A later word is code.
    CodeFollows(&'static str),
    /// Code, in this word or the next.
    Code(&'static str, Option<String>),
    /// A name, in this word or the next.
    Named(char, Option<String>),
    /// A file, in this word or the next.
    File(Option<String>),
}

fn short_options(rules: &Rules, letters: &str) -> Short {
    let mut code_follows = None;
    for (at, letter) in letters.char_indices() {
        let rest = &letters[at + letter.len_utf8()..];
        let value = (!rest.is_empty()).then(|| rest.to_owned());
        if rules.code.contains(letter) {
            let option = code_option(letter);
            if !rules.code_is_operand {
                return Short::Code(option, value);
            }
            code_follows = Some(option);
        } else if rules.named.contains(letter) {
            return Short::Named(letter, value);
        } else if rules.file.contains(letter) {
            return Short::File(value);
        } else if rules.valued.contains(letter) {
            if value.is_none() {
                return Short::Value;
            }
            break;
        } else if rules.attached.contains(letter) {
            break;
        }
    }
    code_follows.map_or(Short::Flags, Short::CodeFollows)
}

fn code_option(letter: char) -> &'static str {
    match letter {
        'c' => "-c",
        'r' => "-r",
        'E' => "-E",
        'B' => "-B",
        'R' => "-R",
        _ => "-e",
    }
}

#[cfg(test)]
#[path = "interpreter_tests.rs"]
mod tests;
