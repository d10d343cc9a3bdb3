//! What a configuration may say, and what is said about one that may not.

use std::{fmt::Write as _, fs};

use proptest::prelude::*;

use super::*;

/// Loads a file with this text.
fn load(text: &str, environment: &[(&str, &str)], flags: &[Flag]) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    fs::write(&path, text).unwrap();
    let environment = environment
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let short = |error: ConfigError| {
        let directory = format!("{}/", directory.path().display());
        error.to_string().replace(&directory, "")
    };
    Config::load(Some(&path), environment, flags).map_err(short)
}

const EVERYTHING: &str = r#"
knowledge = ["/etc/imdsmon/ours.toml"]

[store]
dir = "/data/imdsmon"
retention_days = 30
max_mib = 64

[canary]
interval = "off"

[metrics]
listen = "unix:/run/imdsmon/metrics.sock"
textfile = "/var/lib/node_exporter/imdsmon.prom"

[emf]
path = "stdout"
namespace = "Fleet/imds"

[log]
path = "/var/log/imdsmon/calls.ndjson"
max_mib = 10
keep = 0

[capture]
buffer = "8M"
snapshot = false

[report]
min_window = "12h"
"#;

#[test]
fn every_key_can_be_set_and_knows_its_line() {
    let config = load(EVERYTHING, &[], &[]).unwrap();
    assert_eq!(config.store_dir.value, Path::new("/data/imdsmon"));
    assert_eq!(config.store_max_mib.value, Bounded(64));
    assert_eq!(config.canary_interval.value, None);
    let socket = PathBuf::from("/run/imdsmon/metrics.sock");
    assert_eq!(config.metrics_listen.value, Some(Listen::Unix(socket)));
    assert_eq!(config.emf_path.value, Some(Destination::Stdout));
    assert_eq!(config.emf_namespace.value.as_str(), "Fleet/imds");
    assert_eq!(config.capture_buffer.value, BufferSize(8 << 20));
    assert!(!config.capture_snapshot.value);
    assert_eq!(
        config.knowledge.value,
        [Path::new("/etc/imdsmon/ours.toml")]
    );
    let shown = config.show();
    assert_eq!(shown.len(), KEYS.len());
    for Shown {
        key, origin, about, ..
    } in shown
    {
        let ValueOrigin::File { line, .. } = origin else {
            panic!("{key}: {origin}");
        };
        let text = EVERYTHING.lines().nth(line - 1).unwrap();
        let name = key.rsplit('.').next().unwrap();
        assert!(text.starts_with(&format!("{name} = ")), "{key}: {text}");
        assert!(about.ends_with('.'), "{about}");
    }
}

#[test]
fn an_empty_file_and_no_file_mean_the_defaults() {
    assert_eq!(load("", &[], &[]).unwrap(), Config::default());
    let nowhere = Path::new("/nowhere/imdsmon.toml");
    let error = Config::load(Some(nowhere), [], &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(
            "cannot read configuration /nowhere/imdsmon.toml: no such file or directory; check"
        ),
        "{error}"
    );
    assert_eq!(file::read(nowhere, false).unwrap(), None);
}

#[test]
fn the_reference_page_has_every_key_default_and_meaning() {
    let rows: Vec<Vec<&str>> = include_str!("../../../docs/reference/configuration.md")
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            line.split(" | ")
                .map(|cell| cell.trim_matches(['|', ' ']))
                .collect()
        })
        .collect();
    let config = Config::default();
    let expected = config.show().into_iter().map(|shown| {
        let default = match &shown.value {
            serde_json::Value::Array(_) => "none".to_owned(),
            serde_json::Value::String(text) => format!("`{text}`"),
            value => format!("`{value}`"),
        };
        (format!("`{}`", shown.key), default, shown.about.to_owned())
    });
    let documented = rows
        .iter()
        .map(|row| (row[0].to_owned(), row[1].to_owned(), row[3].to_owned()));
    assert_eq!(documented.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

#[test]
fn flags_go_over_the_environment_and_that_over_the_file() {
    let file = "[store]\nretention_days = 1\nmax_mib = 10\ndir = '/file'\n";
    let environment = [
        ("IMDSMON_STORE_MAX_MIB", "20"),
        ("IMDSMON_STORE_DIR", "/environment"),
        ("IMDSMON_KNOWLEDGE", "/a:/b"),
        ("IMDSMON_LOG", "debug"),
        ("IMDSMON_SERVICE_HOST", "10.0.0.1"),
    ];
    let flags = [Flag {
        name: "--store",
        key: "store.dir",
        value: "/flag".into(),
    }];
    let config = load(file, &environment, &flags).unwrap();
    assert_eq!(config.store_retention_days.value, Bounded(1));
    let variable = ValueOrigin::Environment("IMDSMON_STORE_MAX_MIB".into());
    assert_eq!(
        config.store_max_mib,
        Sourced {
            value: Bounded(20),
            origin: variable
        }
    );
    let flag = ValueOrigin::Flag("--store");
    assert_eq!(
        config.store_dir,
        Sourced {
            value: "/flag".into(),
            origin: flag
        }
    );
    assert_eq!(config.knowledge.value.len(), 2);
    assert_eq!(config.notes, [""; 0]);
}

#[test]
fn a_variable_that_is_nearly_one_of_ours_is_worth_a_word() {
    let config = load("", &[("IMDSMON_STORE_DIRS", "/x")], &[]).unwrap();
    let note = "unknown variable IMDSMON_STORE_DIRS; did you mean IMDSMON_STORE_DIR?";
    assert_eq!(config.notes, [note]);
}

#[test]
fn errors_have_their_origin_and_the_allowed_values() {
    for (text, sentence) in [
        (
            "[store]\n\nretension_days = 3\n",
            "c.toml:3: unknown key \"store.retension_days\"; did you mean store.retention_days?",
        ),
        (
            "retention_days = 3",
            "c.toml:1: unknown key \"retention_days\"; did you mean store.retention_days?",
        ),
        (
            "[stor]\ndir = '/x'",
            "c.toml:2: unknown key \"stor.dir\"; did you mean store.dir?",
        ),
        (
            "[store]\nretention_days = 0",
            "c.toml:2: store.retention_days must be a whole number from 1 to 3650, not 0",
        ),
        (
            "[store]\nretention_days = 1.5",
            "c.toml:2: store.retention_days must be a whole number from 1 to 3650, not a fraction",
        ),
        (
            "[store]\nretention_days = 99999999999999999999",
            "c.toml:2: store.retention_days must be a whole number from 1 to 3650, not a number \
             that is too large",
        ),
        (
            "[store]\ndir = 'relative'",
            "c.toml:2: store.dir must be a path that begins with /, not \"relative\"",
        ),
        (
            "canary.interval = 'soon'",
            "c.toml:1: canary.interval must be a duration of at least a second such as \"90s\", \
             \"10m\" or \"1h30m\", or \"off\", not \"soon\"",
        ),
        (
            "emf.namespace = 'AWS/EC2'",
            "c.toml:1: emf.namespace must be 1 to 255 letters, digits and any of . - _ / # :, not \
             beginning with \"AWS/\" or \":\", not \"AWS/EC2\"",
        ),
        (
            "metrics.listen = '9464'",
            "c.toml:1: metrics.listen must be an address and a port such as \"127.0.0.1:9464\", \
             or a Unix socket such as \"unix:/run/imdsmon/metrics.sock\", or \"off\", not \"9464\"",
        ),
        (
            "knowledge = ['/a', 3]",
            "c.toml:1: knowledge must be a list of paths that begin with /, not this list",
        ),
        (
            "knowledge = {a = 1}",
            "c.toml:1: knowledge must be a list of paths that begin with /, not a table",
        ),
        (
            "store.dir = \"/a\\u001b[31m\\n\"\nlog.keep = \"\\u001b[31m\"",
            "c.toml:2: log.keep must be a whole number from 0 to 99, not \"\\u{1b}[31m\"",
        ),
    ] {
        assert_eq!(load(text, &[], &[]).unwrap_err(), sentence);
    }
    let error = load("[store]\ndir = '/a'\ndir = '/b'", &[], &[]).unwrap_err();
    assert!(error.starts_with("c.toml:3: duplicate key"), "{error}");
    let error = load("a = 1\nb = [1, 2\n", &[], &[]).unwrap_err();
    assert!(error.starts_with("c.toml:"), "{error}");
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let environment = [("IMDSMON_LOG_KEEP", "many")];
    let flags = [Flag {
        name: "--metrics",
        key: "metrics.listen",
        value: "everywhere".into(),
    }];
    let error = load("a = 1\nlog.max_mib = 0\n", &environment, &flags).unwrap_err();
    let places: Vec<&str> = error
        .lines()
        .filter_map(|line| line.split(": ").next())
        .collect();
    assert_eq!(
        places,
        ["c.toml:1", "c.toml:2", "IMDSMON_LOG_KEEP", "--metrics"]
    );
}

#[test]
fn what_is_shown_is_accepted_again() {
    for config in [Config::default(), load(EVERYTHING, &[], &[]).unwrap()] {
        let mut text = String::new();
        for Shown { key, value, .. } in config.show() {
            writeln!(text, "{key} = {value}").unwrap();
        }
        let again = load(&text, &[], &[]).unwrap();
        let values = |config: &Config| {
            let shown = config.show().into_iter();
            shown.map(|shown| shown.value).collect::<Vec<_>>()
        };
        assert_eq!(values(&again), values(&config));
    }
}

#[test]
fn a_file_that_is_no_text_or_too_large_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.toml");
    fs::write(&path, [0xff, 0xfe, 0]).unwrap();
    let error = Config::load(Some(&path), [], &[]).unwrap_err();
    assert!(error.to_string().contains("utf-8"), "{error}");
    fs::write(&path, "#".repeat(2 << 20)).unwrap();
    let error = Config::load(Some(&path), [], &[]).unwrap_err();
    assert!(error.to_string().contains("larger than 1 MiB"), "{error}");
    fs::write(&path, "a = ".to_owned() + &"[".repeat(100_000)).unwrap();
    assert!(Config::load(Some(&path), [], &[]).is_err());
}

proptest! {
    #[test]
    fn any_text_parses_or_fails_with_a_printable_error(text in "[ -~\\n\\x1b\u{202e}é]{0,200}") {
        if let Err(error) = load(&text, &[("IMDSMON_LOG_KEEP", &text)], &[]) {
            prop_assert!(!error.contains('\x1b') && !error.contains('\u{202e}'), "{:?}", error);
        }
    }
}
