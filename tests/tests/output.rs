//! What comes out: in which form, and what never does.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
    time::Duration,
};

use imdsmon::sandbox::{ImdsConfig, TokenRequestMode};
use serde_json::Value;
use tests::{
    OwnClient, Scene, contract, own_client, program, repetitions, skipped, time, watch::signal_to,
};

/// How soon a call is printed; the shortest of imdsmon's own timeouts is far longer.
const PROMPTLY: Duration = Duration::from_secs(5);

/// What is in the simulation's credentials, user data and tokens, and nowhere else.
const SECRETS: &[&str] = &[
    "SecretAccessKey",
    "NOTAREALKEY",
    "this/is/a/simulation",
    "not-a-session-token",
    "echo this is",
    "AQAE",
];

/// Requests of each kind from one client, in one row of the summary.
fn mixed(scene: &Scene, client: &OwnClient) {
    for requests in ["v1", "v1,v1", "v2", "put", "empty-token,bare-lf,garbage"] {
        let _ = scene.client(
            scene
                .command(&client.path)
                .args(["send", "--request", requests]),
        );
    }
}

/// IMDSv1 calls, IMDSv2 calls and token requests of a client, from a report.
fn counts(report: &str, client: &OwnClient) -> [u64; 3] {
    let name = client.path.file_name().unwrap().to_str().unwrap();
    // The block of the client begins with its number and its name.
    let begins = |line: &str| {
        let mut words = line.split_whitespace();
        words.next().is_some_and(|n| n.parse::<u32>().is_ok()) && words.next() == Some(name)
    };
    let mut blocks = report.lines().skip_while(|line| !begins(line));
    assert_eq!(
        report.lines().filter(|line| begins(line)).count(),
        1,
        "one block in\n{report}"
    );
    let line = blocks
        .find(|line| line.trim_start().starts_with("Calls "))
        .unwrap();
    [" IMDSv1", " IMDSv2", " token request"].map(|kind| {
        let before = line
            .split(kind)
            .next()
            .filter(|before| before.len() < line.len());
        let number = before.and_then(|before| before.split([' ', '(']).next_back());
        number.and_then(|n| n.parse().ok()).unwrap_or(0)
    })
}

#[test]
fn timestamps_are_of_now_and_in_order() {
    if skipped() {
        return;
    }
    let mut scene = Scene::new(ImdsConfig::default());
    let mut last = 0.0;
    for _ in 0..repetitions() {
        let began = time::now();
        let _ = scene.wire(&[
            "send",
            "--request",
            "v1,put,v1,garbage",
            "--hold-before",
            "0.1",
        ]);
        let ended = time::now();
        for number in 0..4 {
            let line = scene.printed(PROMPTLY);
            let at = time::parse(line["timestamp"].as_str().unwrap());
            // The wall clock may be set by a little at any time.
            let sent = if number == 0 { began + 0.1 } else { began };
            assert!(
                (sent - 0.05..ended + 0.05).contains(&at),
                "{began} {at} {ended}"
            );
            assert!(at > last, "{last} {at}");
            last = at;
        }
    }
    assert_eq!(scene.finish().len(), 4 * repetitions());
}

#[test]
fn with_v1_only_the_others_are_counted_and_not_shown() {
    if skipped() {
        return;
    }
    let client = own_client("teller");
    let mut scene = Scene::without_monitor(ImdsConfig::default());
    scene.start_monitor(&["--v1-only"]);
    mixed(&scene, &client);
    let ended = scene.end();
    let shown = ended.json();
    assert!(
        shown.iter().all(|line| line["imds.version"] == "v1"),
        "{shown:#?}"
    );
    let netns = scene.simulator.netns();
    assert_eq!(
        shown
            .iter()
            .filter(|line| line["linux.netns"] == netns)
            .count(),
        4
    );
    assert_eq!(counts(&ended.err, &client), [4, 2, 2], "{}", ended.err);
}

#[test]
fn the_report_counts_what_was_sent() {
    if skipped() {
        return;
    }
    let client = own_client("counter");
    let config = ImdsConfig {
        token_requests: TokenRequestMode::HopLimit,
        ..ImdsConfig::default()
    };
    let (here, behind_a_hop) = (
        Scene::without_monitor(ImdsConfig::default()),
        Scene::without_monitor(config),
    );
    let mut child = Command::new(program("imdsmon"))
        .arg("watch")
        .env_remove("CLICOLOR_FORCE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    err.read_line(&mut String::new()).unwrap();
    for _ in 0..repetitions() {
        mixed(&here, &client);
        let _ = behind_a_hop.client(behind_a_hop.command(&client.path).args([
            "send",
            "--request",
            "put",
            "--timeout",
            "0.1",
        ]));
    }
    std::thread::sleep(Duration::from_millis(60));
    signal_to(child.id(), "-INT");
    let (mut text, mut told) = (String::new(), String::new());
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    err.read_to_string(&mut told).unwrap();
    assert!(child.wait().unwrap().success(), "{told}");
    let n = u64::try_from(repetitions()).unwrap();
    assert_eq!(counts(&text, &client), [4 * n, 2 * n, 3 * n], "{text}");
}

#[test]
fn every_line_has_the_documented_fields_and_no_others() {
    if skipped() {
        return;
    }
    let unanswered = Scene::without_monitor(ImdsConfig {
        token_requests: TokenRequestMode::HopLimit,
        ..ImdsConfig::default()
    });
    let mut scene = Scene::new(ImdsConfig::default());
    for args in [
        "v2,v1,empty-token,bad-token,token-in-query,head,not-found",
        "put,put-no-ttl,expect-chunked-put,non-utf8,http10-keep-alive",
        "http09",
        "garbage",
        "v1 --by fork",
        "v1 --by exec",
        "garbage --by pass-fd",
        "v1 --exit-at-once",
        "v1 --argv-junk",
        "v1,v2 --socket ipv6",
        "put --how split --split-at 5,9",
    ] {
        let _ = scene.wire(
            &[
                &["send", "--request"],
                &args.split(' ').collect::<Vec<_>>()[..],
            ]
            .concat(),
        );
    }
    let _ = unanswered.wire(&["send", "--request", "put", "--timeout", "0.1"]);
    let half = scene.wire(&["send", "--raw", "GET / HTTP/1.1\\r\\n", "--exit-at-once"]);
    let stages = [scene.simulator.netns(), unanswered.simulator.netns()];
    let mut seen = scene.end().json();
    seen.retain(|line| stages.iter().any(|&netns| line["linux.netns"] == netns));
    assert_eq!(seen.len(), 26, "{seen:#?}");
    for line in &seen {
        contract::check(line);
        values(line);
    }
    // Nothing that may be absent is always so, and nothing always there.
    let (calls, others): (Vec<_>, Vec<_>) =
        seen.iter().partition(|l| l["event.name"] == "imds.call");
    for field in [
        "imds.token",
        "url.query",
        "user_agent.original",
        "imds.server",
        "http.response.status_code",
        "imds.connector.pid",
        "imds.connector.executable.name",
        "imds.connector.command_args",
    ] {
        let kinds: BTreeSet<bool> = calls.iter().map(|call| call[field].is_null()).collect();
        assert_eq!(kinds.len(), 2, "{field} is always or never null");
    }
    assert_eq!(others.len(), 3);
    assert_eq!(others[2]["process.pid"], half.pid);
    assert_eq!(others[2]["imds.unparsed_bytes"], 16);
    assert_eq!(others[0]["imds.unparsed_bytes"], 20);
}

/// Values that the document names.
fn values(line: &Value) {
    let is = |field: &str, any: &[&str]| {
        let value = line[field].as_str();
        assert!(
            value.is_none_or(|value| any.contains(&value)),
            "{field} in {line}"
        );
    };
    is("imds.version", &["v1", "v2", "token"]);
    is("imds.token", &["present", "empty"]);
    is("imds.outcome", &["answered", "no-answer"]);
    is("network.protocol.version", &["0.9", "1.0", "1.1"]);
    is("server.address", &["169.254.169.254", "fd00:ec2::254"]);
    is("imds.server", &["EC2ws"]);
    assert_eq!(line["imds.token"].is_null(), line["imds.version"] != "v2");
    if line["imds.outcome"] == "no-answer" {
        assert!(line["http.response.status_code"].is_null(), "{line}");
        assert!(line["imds.latency_us"].is_null(), "{line}");
    }
    assert!(line["imds.connection"].as_u64().unwrap() > 0);
    assert!(
        !line["url.path"]
            .as_str()
            .is_some_and(|path| path.contains('?'))
    );
    if let Some(query) = line["url.query"].as_str() {
        // The value is blanked there, too.
        assert!(query.starts_with("X-aws-ec2-metadata-token:"), "{query}");
    }
}

#[test]
fn neither_bodies_nor_tokens_are_in_a_recording() {
    if skipped() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("calls.imdsmon");
    let mut scene = Scene::without_monitor(ImdsConfig::default());
    scene.start_monitor(&["--record", file.to_str().unwrap()]);
    for args in [
        "send --request credentials,credentials",
        "send --request credentials,credentials,put,credentials --pipeline",
        "send --request credentials,put --socket ipv6",
        "send --request credentials --half-close",
        "send --request v1,v2,bare-lf,http10 --path /latest/user-data",
        "send --request http09 --path /latest/user-data",
        "send --request v2,upper,nospace,unpadded-token --how split --split-at 90,120,140",
        "load --pattern sdk --count 20 --parallel 2",
    ] {
        let who = scene.wire(&args.split(' ').collect::<Vec<_>>());
        let got = who.printed.iter().filter(|line| line.contains("200"));
        assert!(got.count() > 0, "{args}: {who:?}");
    }
    let ended = scene.end();
    let recording = fs::read_to_string(&file).unwrap();
    assert!(recording.contains("EC2ws"), "heads are there");
    for secret in SECRETS {
        assert!(!recording.contains(secret), "{secret} is in the recording");
        let lines = ended.lines.join("\n");
        assert!(!lines.contains(secret), "{secret} is printed");
    }
}
