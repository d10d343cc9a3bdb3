//! The wire client, each of its ways tried against the simulator: what it says it got is what
//! the server says it saw. Only then can it bear witness against the monitor.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests panic, and say what they skip"
)]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use imdsmon::sandbox::{FastOpen, ImdsConfig, ImdsSimulator, RequestCounts, TokenRequestMode};

const PROGRAM: &str = env!("CARGO_BIN_EXE_wire-client");

fn simulator(config: ImdsConfig) -> Option<ImdsSimulator> {
    // SAFETY: a call without arguments or effects.
    if unsafe { libc::geteuid() } != 0 {
        println!("SKIPPED: needs root");
        return None;
    }
    Some(ImdsSimulator::start(config).expect("a simulator"))
}

/// Runs one command line, words separated by spaces; returns the lines after `pid`.
fn run(simulator: &ImdsSimulator, line: &str) -> Vec<String> {
    let mut command = Command::new(PROGRAM);
    let output = simulator
        .enter(command.args(line.split(' ')))
        .stdin(Stdio::null())
        .output()
        .expect("runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut lines = text.lines().map(str::to_owned);
    let pid = lines.next().expect("a first line");
    assert!(pid.starts_with("pid "), "{line}: {pid}");
    lines.collect()
}

/// As [`run`], without the lines that name a sender.
fn responses(simulator: &ImdsSimulator, line: &str) -> Vec<String> {
    let mut lines = run(simulator, line);
    lines.retain(|line| !line.starts_with("sender "));
    lines
}

/// What the server saw of one command line.
fn seen(config: &ImdsConfig, line: &str) -> Option<(Vec<String>, RequestCounts)> {
    let simulator = simulator(config.clone())?;
    let responses = responses(&simulator, line);
    Some((responses, simulator.requests()))
}

const HOWS: &[&str] = &[
    "write",
    "split",
    "writev",
    "sendmsg",
    "sendmmsg",
    "sendfile",
    "splice",
    "zerocopy",
    "unfaulted",
    "overwritten",
    "uring",
    "uring-sqpoll",
    "uring-connect",
    "fast-open",
    "fast-open-connect",
];

#[test]
fn every_way_arrives_over_every_socket_from_every_sender() {
    let Some(simulator) = simulator(ImdsConfig::default()) else {
        return;
    };
    for how in HOWS {
        for socket in ["ipv4", "ipv6", "mapped", "mptcp"] {
            if socket == "ipv6" && !simulator.has_ipv6() {
                println!("SKIPPED: no IPv6 here");
                continue;
            }
            if socket == "mptcp" && (how.starts_with("fast-open") || *how == "zerocopy") {
                continue; // MPTCP has neither the socket options nor the flag on every kernel.
            }
            for by in ["caller", "thread", "fork", "exec", "pass-fd"] {
                let before = simulator.requests();
                let line = format!(
                    "send --how {how} --socket {socket} --by {by} --request v1,v2,not-found"
                );
                let mut lines = responses(&simulator, &line);
                lines.retain(|line| !line.starts_with("fast-open"));
                assert_eq!(lines, ["200", "200", "404"], "{line}");
                let after = simulator.requests();
                assert_eq!(after.v1 - before.v1, 2, "{line}");
                assert_eq!(after.v2 - before.v2, 1, "{line}");
                assert_eq!(after.token_requests - before.token_requests, 1, "{line}");
                assert_eq!(after.malformed, 0, "{line}");
            }
        }
    }
}

#[test]
fn every_request_is_what_its_name_says() {
    // Statuses; then IMDSv1, IMDSv2, IMDSv2 with an empty token, token request, malformed.
    for (requests, expected, counts) in [
        ("v1", &["200"][..], (1, 0, 0, 0, 0)),
        ("v2", &["200"], (0, 1, 0, 1, 0)),
        ("put", &["200"], (0, 0, 0, 1, 0)),
        ("put-no-ttl", &["400"], (0, 0, 0, 1, 0)),
        ("expect-chunked-put,v1", &["200", "200"], (1, 0, 0, 1, 0)),
        ("empty-token", &["401"], (0, 1, 1, 0, 0)),
        ("bad-token", &["401"], (0, 1, 0, 0, 0)),
        ("unpadded-token", &["401"], (0, 1, 0, 1, 0)),
        (
            "lower,upper,nospace,late-token",
            &["200"; 4],
            (0, 4, 0, 1, 0),
        ),
        ("very-late-token", &["431"], (0, 0, 0, 1, 1)),
        (
            "token-in-query,token-in-agent",
            &["200"; 2],
            (2, 0, 0, 0, 0),
        ),
        ("token-in-body,v1", &["405", "200"], (2, 0, 0, 0, 0)),
        ("head,v1", &["200", "200"], (2, 0, 0, 0, 0)),
        ("http10", &["200"], (1, 0, 0, 0, 0)),
        ("http10-keep-alive,http10", &["200", "200"], (2, 0, 0, 0, 0)),
        ("http09", &["200"], (1, 0, 0, 0, 0)),
        (
            "bare-lf,no-host,raw-space,non-utf8",
            &["200", "200", "404", "200"],
            (4, 0, 0, 0, 0),
        ),
        ("close,v1", &["200", "closed"], (1, 0, 0, 0, 0)),
        ("credentials", &["200"], (1, 0, 0, 0, 0)),
        ("garbage", &["400"], (0, 0, 0, 0, 1)),
        ("tls-hello", &["400"], (0, 0, 0, 0, 1)),
    ] {
        let line = format!("send --request {requests}");
        let Some((lines, seen)) = seen(&ImdsConfig::default(), &line) else {
            return;
        };
        assert_eq!(lines, expected, "{line}");
        let got = (
            seen.v1,
            seen.v2,
            seen.v2_empty_token,
            seen.token_requests,
            seen.malformed,
        );
        assert_eq!(got, counts, "{line}");
    }
}

#[test]
fn a_pipeline_is_one_send_and_many_answers() {
    let line = "send --pipeline --request v1,v2,not-found,head,v1";
    for how in [
        "write",
        "sendmmsg",
        "uring",
        "split --split-at 20,21,200,300",
    ] {
        let line = format!("{line} --how {how}");
        let Some((lines, seen)) = seen(&ImdsConfig::default(), &line) else {
            return;
        };
        assert_eq!(lines, ["200", "200", "404", "200", "200"], "{line}");
        assert_eq!((seen.connections, seen.total), (2, 6), "{line}");
    }
}

#[test]
fn a_request_rides_in_the_syn() {
    for how in ["fast-open", "fast-open-connect"] {
        for (fast_open, rides) in [
            (FastOpen::Cookie, true),
            (FastOpen::NoCookie, true),
            (FastOpen::Off, false),
        ] {
            let line = format!("send --how {how} --request v1");
            let config = ImdsConfig {
                fast_open,
                ..ImdsConfig::default()
            };
            let Some((lines, seen)) = seen(&config, &line) else {
                return;
            };
            let says = if rides {
                "fast-open yes"
            } else {
                "fast-open no"
            };
            assert_eq!(lines, [says, "200"], "{line} {fast_open:?}");
            assert_eq!(
                (seen.fast_open, seen.v1),
                (rides.into(), 1),
                "{line} {fast_open:?}"
            );
        }
    }
}

#[test]
fn the_sender_is_who_it_should_be() {
    let Some(simulator) = simulator(ImdsConfig::default()) else {
        return;
    };
    for (by, same_process) in [
        ("exec", Some(true)),
        ("fork", Some(false)),
        ("pass-fd", Some(false)),
        ("caller", None),
    ] {
        let mut command = Command::new(PROGRAM);
        let output = simulator
            .enter(command.args(["send", "--request", "v1", "--by", by]))
            .output()
            .expect("runs");
        let text = String::from_utf8(output.stdout).expect("text");
        let number = |word: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(word))?;
            line.trim().parse::<u32>().ok()
        };
        let (pid, sender) = (number("pid").expect("a pid"), number("sender"));
        assert_eq!(sender.map(|sender| sender == pid), same_process, "{by}");
    }
}

#[test]
fn names_and_arguments_may_be_any_bytes() {
    let Some(simulator) = simulator(ImdsConfig::default()) else {
        return;
    };
    let lines = run(
        &simulator,
        r"send --request v1 --comm a\xff\xfeb --argv-junk",
    );
    assert_eq!(lines, ["200"]);

    let mut command = Command::new(PROGRAM);
    let mut child = simulator
        .enter(command.args([
            "send",
            "--request",
            "v1",
            "--comm",
            r"a\xff\xfeb",
            "--argv-junk",
            "--wait-stdin",
        ]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    lines.next().expect("a pid").expect("text");
    let proc = format!("/proc/{}", child.id());
    assert_eq!(
        std::fs::read(format!("{proc}/comm")).expect("proc"),
        b"a\xff\xfeb\n"
    );
    let argv = std::fs::read(format!("{proc}/cmdline")).expect("proc");
    assert!(
        argv.ends_with(b"--junk\0\xff\xfejunk\x80\0"),
        "{}",
        argv.escape_ascii()
    );
    assert_eq!(simulator.requests().total, 1, "the second waits");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(b"\n")
        .expect("sent");
    assert_eq!(lines.next().expect("an answer").expect("text"), "200");
    assert!(child.wait().expect("ends").success());
}

#[test]
fn silence_haste_and_patience() {
    let Some(simulator) = simulator(ImdsConfig::default()) else {
        return;
    };
    assert!(run(&simulator, "send --silent").is_empty());
    assert_eq!(simulator.requests().total, 0);

    assert!(run(&simulator, "send --request v1 --exit-at-once").is_empty());
    let end = Instant::now() + Duration::from_secs(2);
    while simulator.requests().total == 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(simulator.requests().v1, 1);

    let began = Instant::now();
    assert_eq!(
        run(
            &simulator,
            "send --request v1 --hold-before 0.2 --hold-after 0.3"
        ),
        ["200"]
    );
    assert!(began.elapsed() >= Duration::from_millis(500));

    let Some(silent) = self::simulator(ImdsConfig {
        token_requests: TokenRequestMode::HopLimit,
        ..ImdsConfig::default()
    }) else {
        return;
    };
    assert_eq!(run(&silent, "send --request put --timeout 0.2"), ["none"]);
    assert_eq!(silent.requests().unanswered, 1);
}

#[test]
fn other_ports_addresses_and_protocols_are_not_imds() {
    let Some(simulator) = simulator(ImdsConfig::default()) else {
        return;
    };
    assert_eq!(run(&simulator, "send --request v1 --port 8080"), ["200"]);
    assert_eq!(
        run(&simulator, "send --request v1 --address 127.0.0.1"),
        ["200"]
    );
    assert_eq!(run(&simulator, "udp --count 1"), ["sent"]);
    assert_eq!(
        simulator.requests(),
        RequestCounts {
            elsewhere: 2,
            ..RequestCounts::default()
        }
    );
}

#[test]
fn options_and_a_half_close_do_not_keep_a_request_from_arriving() {
    for line in [
        "send --request v1 --ip-options",
        "send --request v1 --ipv6-options --socket ipv6",
        "send --request v1 --half-close",
    ] {
        let Some((lines, seen)) = seen(&ImdsConfig::default(), line) else {
            return;
        };
        assert_eq!((lines, seen.v1), (vec!["200".into()], 1), "{line}");
    }
}

#[test]
fn load_is_counted_on_both_ends() {
    for (line, expected, connections) in [
        ("load --parallel 4 --count 50", 200, 4),
        ("load --parallel 2 --count 20 --pattern sdk", 120, 2),
        (
            "load --parallel 2 --count 20 --pattern v2 --new-connections",
            40,
            41,
        ),
    ] {
        let Some((lines, seen)) = seen(&ImdsConfig::default(), line) else {
            return;
        };
        assert_eq!(lines[0], format!("count 200 {expected}"), "{line}");
        // The token of `v2` is fetched before, and not counted by the client.
        assert_eq!(
            seen.by_status[&200],
            expected + u64::from(line.contains("v2")),
            "{line}"
        );
        assert_eq!(seen.connections, connections, "{line}");
    }
}

#[test]
fn outside_the_simulator_it_sends_nothing() {
    for line in [
        "send --request v1",
        "send --address 127.0.0.1 --request v1",
        "load",
        "udp",
    ] {
        let output = Command::new(PROGRAM)
            .args(line.split(' '))
            .output()
            .expect("runs");
        assert!(!output.status.success(), "{line}");
        assert!(output.stdout.is_empty(), "{line}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            errors.contains("not inside the IMDS simulator"),
            "{line}: {errors}"
        );
    }
}
