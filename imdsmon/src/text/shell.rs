//! Arguments as a shell reads them.
//!
//! Own code: `shlex` quotes `a=b`, which is harder to read, and keeps control characters.

use std::fmt::Write as _;

use super::escape::is_unsafe;

/// The arguments in one line that a POSIX shell splits into the same arguments again.
///
/// Control characters, and characters that hide or reorder text, become escapes in `$'...'`
/// (POSIX.1-2024; dash before 0.5.13 does not support it).
pub(crate) fn join(args: &[String]) -> String {
    let quoted: Vec<_> = args.iter().map(|arg| quote(arg)).collect();
    quoted.join(" ")
}

fn quote(arg: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+".contains(c);
    if arg.contains(is_unsafe) {
        return quote_bytes(arg);
    }
    if !arg.is_empty() && arg.chars().all(is_plain) {
        return arg.to_owned();
    }
    format!("'{}'", arg.replace('\'', r"'\''"))
}

fn quote_bytes(arg: &str) -> String {
    let mut quoted = String::from("$'");
    for c in arg.chars() {
        match c {
            '\n' => quoted.push_str(r"\n"),
            '\t' => quoted.push_str(r"\t"),
            '\r' => quoted.push_str(r"\r"),
            '\'' | '\\' => quoted.extend(['\\', c]),
            c if is_unsafe(c) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    // Octal has three digits: a digit that follows is not part of the escape.
                    // Writing to a string cannot fail.
                    let _ = write!(quoted, "\\{byte:03o}");
                }
            }
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_what_a_shell_would_read_otherwise_is_quoted() {
        let args = [
            "-H",
            "X-aws-ec2-metadata-token: ",
            "",
            "it's",
            "a=b",
            "*",
            "a\nb\u{202e}7",
        ];
        assert_eq!(
            join(&args.map(str::to_owned)),
            r"-H 'X-aws-ec2-metadata-token: ' '' 'it'\''s' a=b '*' $'a\nb\342\200\2567'"
        );
    }

    #[test]
    fn bash_splits_the_line_into_the_same_arguments() {
        let args = [
            "a b",
            "",
            "it's",
            "$HOME",
            "`id`",
            "~",
            "!x",
            "a\\b",
            "*",
            "\t\r\n",
            "\u{1b}[31m7",
            "\u{202e}'x'",
            "ä",
        ]
        .map(str::to_owned);
        let script = format!("printf '%s\\0' {}", join(&args));
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        let read = String::from_utf8(output.stdout).unwrap();
        assert_eq!(read.split_terminator('\0').collect::<Vec<_>>(), args);
    }
}
