//! Replaces the parts of names that vary from run to run with `*`, to keep one client for all runs.
//!
//! These are UUIDs; 12 or more hexadecimal digits, some of them numerals; 6 or more decimal digits,
//! such as dates and long PIDs; and the suffixes of mktemp(1) and Python's `tempfile` after `tmp`.

/// Decimal digits in a row that mark a varying part.
const MIN_DECIMAL_DIGITS: usize = 6;
/// Hexadecimal digits in a row that mark a varying part.
const MIN_HEX_DIGITS: usize = 12;
/// Length of the suffixes that mktemp(1) and `tempfile` generate.
const RANDOM_SUFFIX_LEN: std::ops::RangeInclusive<usize> = 6..=12;

pub(crate) fn normalize(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars().chain(['/']) {
        if c.is_ascii_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        out.push_str(&stable_word(&word, &out));
        word.clear();
        out.push(c);
    }
    out.pop();
    // The parts of a UUID, and of `2024-01-02-123456`, become one `*`.
    while let Some(at) = out.find("*-*").or_else(|| out.find("*.*")) {
        out.replace_range(at..at + 3, "*");
    }
    out
}

/// `before` is what has been written so far; it ends where the word begins.
fn stable_word(word: &str, before: &str) -> String {
    let after_star = before.ends_with("*-");
    let random = word
        .strip_prefix("tmp")
        .filter(|rest| RANDOM_SUFFIX_LEN.contains(&rest.len()))
        .filter(|rest| rest.bytes().any(|b| !b.is_ascii_lowercase()));
    if random.is_some() {
        return "tmp*".into();
    }
    if before.ends_with("tmp.") && RANDOM_SUFFIX_LEN.contains(&word.len()) {
        return "*".into();
    }
    if is_descriptor(before) && word.bytes().all(|b| b.is_ascii_digit()) {
        return "*".into();
    }
    let is_hex = !word.is_empty() && word.bytes().all(|b| b.is_ascii_hexdigit());
    let has_numeral = word.bytes().any(|b| b.is_ascii_digit());
    // The four groups that follow the first of a UUID.
    let in_uuid = after_star && is_hex && word.len() >= 4;
    // The first group of a UUID has 8 digits.
    if is_hex && has_numeral && (word.len() >= MIN_HEX_DIGITS || word.len() == 8 || in_uuid)
        || in_uuid
    {
        return "*".into();
    }
    replace_decimals(word)
}

fn is_descriptor(before: &str) -> bool {
    before.ends_with("/fd/") || before.ends_with("/proc/")
}

fn replace_decimals(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut digits = String::new();
    for c in word.chars().map(Some).chain([None]) {
        match c {
            Some(c) if c.is_ascii_digit() => digits.push(c),
            _ => {
                let varies = digits.len() >= MIN_DECIMAL_DIGITS;
                out.push_str(if varies { "*" } else { &digits });
                digits.clear();
                out.extend(c);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::identity::normalize::*;

    #[test]
    fn varying_parts_become_stars_and_names_stay() {
        for (text, expected) in [
            ("/opt/app/worker.py", "/opt/app/worker.py"),
            ("/usr/lib/python3.11/site.py", "/usr/lib/python3.11/site.py"),
            ("/opt/app-1.2.3/run", "/opt/app-1.2.3/run"),
            ("/tmp/tmp.Xy12aBcD90/x.sh", "/tmp/tmp.*/x.sh"),
            ("/tmp/tmpab1_x9zq/x.py", "/tmp/tmp*/x.py"),
            ("/opt/tmpreaper/x", "/opt/tmpreaper/x"),
            (
                "/root/.ansible/tmp/ansible-tmp-1700000000.12-4242-88812345/Ansiballz.py",
                "/root/.ansible/tmp/ansible-tmp-*.12-4242-*/Ansiballz.py",
            ),
            (
                "/srv/releases/20240102030405/app.rb",
                "/srv/releases/*/app.rb",
            ),
            ("/dev/fd/63", "/dev/fd/*"),
            ("/proc/4242/fd/3", "/proc/*/fd/*"),
            ("task-3f2504e0-4f89-11d3-9a0c-0305e82c3301", "task-*"),
            (
                "vte-spawn-0a1b2c3d-ffff-4f89-abcd-0305e82c3301.scope",
                "vte-spawn-*.scope",
            ),
            ("deadbeefcafe0123456789", "*"),
            ("facade-decade", "facade-decade"),
            ("ec2-user", "ec2-user"),
            ("", ""),
        ] {
            assert_eq!(normalize(text), expected, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn it_ends_and_does_not_grow_and_once_is_enough(text: String) {
            let once = normalize(&text);
            proptest::prop_assert!(once.len() <= text.len() + 1);
        }
    }
}
