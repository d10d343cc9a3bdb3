//! The files that the service writes for others: what was called, and never a token.

#![expect(clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use imdsmon::{event::Endpoint, sandbox::client};
use serde_json::Value;
use tests::{prometheus::selectors, service::Service, stage::Stage};

const PATH: &str = "/latest/meta-data/instance-id";

/// Every file in a directory and below it, with what it holds.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(self::files(&entry.path()));
        } else if kind.is_file() {
            files.push((entry.path(), fs::read(entry.path()).unwrap()));
        }
    }
    files
}

fn json_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "{text}");
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn the_files_for_others_hold_what_was_called_and_no_token() {
    let Some(stage) = Stage::new("publisher") else {
        return;
    };
    let file = |name: &str| stage.place().join(name);
    let [log, emf, textfile] = ["calls.ndjson", "emf.ndjson", "imdsmon.prom"].map(file);
    let args = [
        "--canary",
        "off",
        "--log",
        log.to_str().unwrap(),
        "--emf",
        emf.to_str().unwrap(),
        "--textfile",
        textfile.to_str().unwrap(),
    ];
    let service = Service::start(stage.place(), &args);
    stage.call(4);
    // This process calls, too, with a token that is known here.
    let token = stage
        .simulator
        .run(|| {
            let token = client::token(Endpoint::V4, 600).unwrap();
            let response = client::get(Endpoint::V4, PATH, Some(&token)).unwrap();
            assert_eq!(response.status, 200);
            token
        })
        .unwrap();
    stage.has(4);
    assert!(service.stop().success());

    // Other tests may call at the same time.
    let is_own = |text: &Value| text.as_str().unwrap_or_default().contains(stage.program());
    let events = json_lines(&log);
    let own: Vec<&Value> = events
        .iter()
        .filter(|event| is_own(&event["process.executable.path"]))
        .collect();
    assert_eq!(own.len(), 4, "{events:#?}");
    for event in own {
        assert_eq!(event["event.name"], "imds.call", "{event:#}");
        assert_eq!(event["imds.version"], "v1", "{event:#}");
        assert_eq!(event["url.path"], PATH, "{event:#}");
        assert_eq!(event["http.response.status_code"], 200, "{event:#}");
    }
    let by_this = |version: &str| {
        let pid = std::process::id();
        let mut events = events.iter();
        events.any(|event| event["process.pid"] == pid && event["imds.version"] == version)
    };
    assert!(by_this("token") && by_this("v2"), "{events:#?}");

    let lines = json_lines(&emf);
    let mut calls = 0;
    for line in lines.iter().filter(|line| is_own(&line["Client"])) {
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Metrics"][0]["Name"], "TokenlessCalls", "{line}");
        assert!(line["_aws"]["Timestamp"].as_u64().unwrap() > 1_600_000_000_000);
        assert_eq!(line["TokenlessCalls"], line["Successful"], "{line}");
        calls += line["TokenlessCalls"].as_u64().unwrap();
    }
    assert_eq!(calls, 4, "{lines:#?}");

    let page = fs::read_to_string(&textfile).unwrap();
    let calls = selectors(&page)
        .into_iter()
        .filter(|(selector, _)| selector.metric == "imdsmon_calls_total")
        .filter(|(selector, _)| {
            let client = selector.labels.get("client");
            client.is_some_and(|client| client[0].ends_with(stage.program()))
        })
        .map(|(_, rest)| rest.lines().next().unwrap().trim().parse::<u64>().unwrap());
    assert_eq!(calls.sum::<u64>(), 4, "{page}");
    let mode = fs::metadata(&textfile).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "the collector is another user");

    let files = files(stage.place());
    assert!(files.len() > 4, "{files:?}");
    // A part of it is too much, too.
    let part = &token.as_bytes()[..16];
    for (path, bytes) in files {
        let has_token = bytes.windows(part.len()).any(|window| window == part);
        assert!(!has_token, "{} holds a token", path.display());
    }
}
