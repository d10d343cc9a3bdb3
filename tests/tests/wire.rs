//! Every way in which bytes can get to IMDS. Needs no program but `wire-client`, so that it also
//! runs in small virtual machines.

use std::{thread, time::Duration};

use imdsmon::sandbox::{FastOpen, ImdsConfig, PutMode, TokenMode};
use tests::{Call, Scene, play, repetitions, skipped};

fn optional() -> ImdsConfig {
    ImdsConfig::default()
}

fn required() -> ImdsConfig {
    ImdsConfig {
        tokens: TokenMode::Required,
        ..optional()
    }
}

fn send(requests: &str, more: &[&'static str], expected: &[Call]) {
    let args: Vec<&str> = ["send", "--request", requests]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    play(optional(), &args, expected);
}

#[test]
fn a_request_without_a_token_is_v1() {
    send("v1", &[], &[Call::v1()]);
}

#[test]
fn a_request_with_a_token_is_v2() {
    send("v2", &[], &[Call::put(), Call::v2()]);
}

#[test]
fn tokenless_is_refused_where_tokens_are_required() {
    play(
        required(),
        &["send", "--request", "v1"],
        &[Call::v1().status(401)],
    );
}

#[test]
fn native_ipv6() {
    send(
        "v2,v1",
        &["--socket", "ipv6"],
        &[Call::put(), Call::v2(), Call::v1()],
    );
}

#[test]
fn ipv4_through_an_ipv6_socket() {
    let args = ["send", "--socket", "mapped", "--request", "v1"];
    for (_, calls) in play(optional(), &args, &[Call::v1()]) {
        assert_eq!(calls[0]["server.address"], "169.254.169.254");
    }
}

#[test]
fn an_mptcp_socket() {
    send("v1", &["--socket", "mptcp"], &[Call::v1()]);
}

#[test]
fn one_connection_with_both_versions() {
    send(
        "put,v2,v1",
        &[],
        &[Call::put(), Call::put(), Call::v2(), Call::v1()],
    );
}

#[test]
fn both_versions_in_one_send() {
    send(
        "v1,v2",
        &["--pipeline"],
        &[Call::put(), Call::v1(), Call::v2()],
    );
}

#[test]
fn a_header_split_in_its_name() {
    // Within "X-aws-ec2-metadata-token".
    send(
        "v2",
        &["--how", "split", "--split-at", "105"],
        &[Call::put(), Call::v2()],
    );
}

#[test]
fn a_request_split_everywhere() {
    let cuts = "1,5,20,44,60,90,100,110,120,125,130,140";
    send(
        "v2",
        &["--how", "split", "--split-at", cuts, "--pause", "2"],
        &[Call::put(), Call::v2()],
    );
}

#[test]
fn three_writes_for_one_old_request() {
    let how = ["--how", "split", "--split-at", "44,68"];
    send("http10", &how, &[Call::v1().protocol("1.0")]);
}

#[test]
fn writev_with_an_empty_first_buffer() {
    send("v2", &["--how", "writev"], &[Call::put(), Call::v2()]);
}

#[test]
fn sendmsg() {
    send("v1", &["--how", "sendmsg"], &[Call::v1()]);
}

#[test]
fn sendmmsg_of_two_requests() {
    send(
        "v1,v2",
        &["--how", "sendmmsg"],
        &[Call::put(), Call::v1(), Call::v2()],
    );
}

#[test]
fn sendfile() {
    send("v2", &["--how", "sendfile"], &[Call::put(), Call::v2()]);
}

#[test]
fn splice() {
    send("v1", &["--how", "splice"], &[Call::v1()]);
}

#[test]
fn zero_copy() {
    send("v1", &["--how", "zerocopy"], &[Call::v1()]);
}

#[test]
fn a_page_that_was_never_touched() {
    send("v1", &["--how", "unfaulted"], &[Call::v1()]);
}

#[test]
fn a_buffer_that_is_overwritten_at_once() {
    send("v1", &["--how", "overwritten"], &[Call::v1()]);
}

#[test]
fn io_uring() {
    for how in ["uring", "uring-sqpoll", "uring-connect"] {
        send("v1", &["--how", how], &[Call::v1()]);
    }
}

#[test]
fn a_request_in_the_syn() {
    let config = || ImdsConfig {
        fast_open: FastOpen::NoCookie,
        ..optional()
    };
    for how in ["fast-open", "fast-open-connect"] {
        let args = ["send", "--how", how, "--request", "v1"];
        for (who, _) in play(config(), &args, &[Call::v1()]) {
            assert!(
                who.printed.iter().any(|line| line == "fast-open yes"),
                "{who:?}"
            );
        }
    }
}

#[test]
fn a_token_that_is_no_token() {
    send("empty-token", &[], &[Call::v2().token("empty").status(401)]);
    send("bad-token", &[], &[Call::v2().token("empty").status(401)]);
}

#[test]
fn a_token_without_its_padding() {
    send(
        "unpadded-token",
        &[],
        &[Call::put(), Call::v2().status(401)],
    );
}

#[test]
fn the_header_in_every_case_and_without_a_space() {
    let put_v2 = [Call::put(), Call::v2()];
    for request in ["lower", "upper", "nospace", "late-token"] {
        send(request, &[], &put_v2);
    }
}

#[test]
fn the_headers_name_elsewhere_is_not_the_header() {
    send("token-in-query", &[], &[Call::v1()]);
    send("token-in-agent", &[], &[Call::v1()]);
    send(
        "token-in-body,v1",
        &[],
        &[Call::v1().method("POST").status(405), Call::v1()],
    );
}

#[test]
fn head() {
    send("head,v1", &[], &[Call::v1().method("HEAD"), Call::v1()]);
}

#[test]
fn old_and_odd_requests() {
    send("http10", &[], &[Call::v1().protocol("1.0")]);
    send("http09", &[], &[Call::v1().protocol("0.9")]);
    send("bare-lf,v1", &[], &[Call::v1(), Call::v1()]);
    send("no-host", &[], &[Call::v1()]);
    send("non-utf8", &[], &[Call::v1()]);
    send(
        "not-found",
        &[],
        &[Call::v1().path("/computeMetadata/v1/").status(404)],
    );
}

#[test]
fn a_token_request_with_a_chunked_body_and_expectations() {
    send("expect-chunked-put,v1", &[], &[Call::put(), Call::v1()]);
}

#[test]
fn a_token_request_that_is_never_answered() {
    let config = ImdsConfig {
        put: PutMode::HopLimit,
        ..optional()
    };
    let args = ["send", "--request", "put", "--timeout", "0.2"];
    play(config, &args, &[Call::put().unanswered()]);
}

#[test]
fn a_token_request_that_is_refused() {
    let config = ImdsConfig {
        put: PutMode::Forbidden,
        ..optional()
    };
    play(
        config,
        &["send", "--request", "put,v1"],
        &[Call::put().status(403), Call::v1()],
    );
}

#[test]
fn a_connection_that_sends_nothing() {
    send("v1", &["--silent", "--hold-after", "0.1"], &[]);
}

#[test]
fn another_port_another_address_and_datagrams_are_not_imds() {
    play(
        optional(),
        &["send", "--port", "8080", "--request", "v1"],
        &[],
    );
    play(
        optional(),
        &["send", "--address", "127.0.0.1", "--request", "v1"],
        &[],
    );
    play(optional(), &["udp", "--count", "3"], &[]);
}

#[test]
fn a_client_that_ends_at_once_is_known_by_its_arguments() {
    let args = ["send", "--request", "v1", "--exit-at-once"];
    if skipped() {
        return;
    }
    let mut scene = Scene::new(optional());
    let ran: Vec<_> = (0..repetitions()).map(|_| scene.wire(&args)).collect();
    let seen = scene.finish();
    assert_eq!(seen.len(), ran.len(), "{seen:#?}");
    for (who, call) in ran.iter().zip(&seen) {
        assert_eq!(call["process.pid"], who.pid);
        assert_eq!(call["imds.version"], "v1");
        let path = call["process.executable.path"].as_str().unwrap();
        assert_eq!(
            path,
            tests::program("wire-client").to_str().unwrap(),
            "also if it is gone"
        );
        let seen_args: Vec<_> = call["process.command_args"]
            .as_array()
            .unwrap()
            .iter()
            .skip(1)
            .collect();
        assert_eq!(seen_args, args, "{call}");
    }
}

#[test]
fn a_forked_child_that_sends_is_the_caller_and_its_parent_the_connector() {
    for (who, calls) in play(
        optional(),
        &["send", "--request", "v1", "--by", "fork"],
        &[Call::v1()],
    ) {
        assert_ne!(who.sender, who.pid);
        assert_eq!(calls[0]["process.pid"], who.sender);
        assert_eq!(calls[0]["process.parent_pid"], who.pid);
        assert_eq!(calls[0]["imds.connector.pid"], who.pid);
    }
}

#[test]
fn a_program_that_replaced_the_connector_is_the_caller() {
    for (who, calls) in play(
        optional(),
        &["send", "--request", "v1", "--by", "exec"],
        &[Call::v1()],
    ) {
        assert_eq!(calls[0]["process.pid"], who.pid);
        assert_eq!(
            calls[0]["imds.connector.pid"], who.pid,
            "the same process before its exec"
        );
        assert_ne!(
            calls[0]["process.command_args"],
            calls[0]["imds.connector.command_args"]
        );
    }
}

#[test]
fn a_process_that_was_handed_the_socket_is_the_caller() {
    let args = ["send", "--request", "v1", "--by", "pass-fd"];
    for (who, calls) in play(optional(), &args, &[Call::v1()]) {
        assert_ne!(who.sender, who.pid);
        assert_eq!(calls[0]["process.pid"], who.sender);
        assert_eq!(calls[0]["imds.connector.pid"], who.pid);
    }
}

#[test]
fn another_thread_is_the_same_process() {
    for (who, calls) in play(
        optional(),
        &["send", "--request", "v1,v1", "--by", "thread"],
        &[Call::v1(), Call::v1()],
    ) {
        assert_eq!(calls[0]["process.pid"], who.pid);
        assert_eq!(calls[0]["imds.connector.pid"], serde_json::Value::Null);
    }
}

#[test]
fn names_and_arguments_that_are_not_utf8() {
    send("v1", &["--comm", "\\xff\\xfe)\\n x"], &[Call::v1()]);
    for (_, calls) in play(
        optional(),
        &["send", "--request", "v1", "--argv-junk"],
        &[Call::v1()],
    ) {
        let args = calls[0]["process.command_args"].to_string();
        assert!(args.contains('\u{fffd}'), "{args}");
    }
}

#[test]
fn bytes_that_are_no_request_are_counted() {
    if skipped() {
        return;
    }
    for request in ["garbage", "tls-hello"] {
        let mut scene = Scene::new(optional());
        let ran: Vec<_> = (0..repetitions())
            .map(|_| scene.wire(&["send", "--request", request]))
            .collect();
        let seen = scene.finish();
        assert_eq!(seen.len(), ran.len(), "{seen:#?}");
        for (who, line) in ran.iter().zip(&seen) {
            assert_eq!(line["event.name"], "imds.unparsed");
            assert_eq!(line["process.pid"], who.pid);
            assert!(line["imds.unparsed_bytes"].as_u64().unwrap() > 5, "{line}");
        }
    }
}

#[test]
fn a_connection_that_was_open_before_the_monitor() {
    if skipped() {
        return;
    }
    for _ in 0..repetitions() {
        for args in [
            ["send", "--request", "v1", "--wait-stdin"],
            ["send", "--request", "put", "--wait-stdin"],
        ] {
            let mut scene = Scene::without_monitor(optional());
            let mut watch = None;
            let who = scene.wire_after(&args, || watch = Some(tests::Watch::start(&[])));
            let ended = watch.unwrap().interrupt();
            let seen: Vec<_> = ended
                .json()
                .into_iter()
                .filter(|l| l["linux.netns"] == scene.sandbox.netns())
                .collect();
            assert_eq!(seen.len(), 1, "{ended:?}");
            assert_eq!(seen[0]["process.pid"], who.pid);
            assert_eq!(seen[0]["http.response.status_code"], 200);
            scene.start_monitor(&[]);
        }
    }
}

#[test]
fn two_network_namespaces_are_told_apart() {
    if skipped() {
        return;
    }
    let mut here = Scene::new(optional());
    let there = Scene::without_monitor(optional());
    let (one, other) = (
        here.wire(&["send", "--request", "v1"]),
        there.wire(&["send", "--request", "v1"]),
    );
    let seen = here.end().json();
    let by = |pid: u32| seen.iter().find(|l| l["process.pid"] == pid).unwrap();
    assert_eq!(by(one.pid)["linux.netns"], here.sandbox.netns());
    assert_eq!(by(other.pid)["linux.netns"], there.sandbox.netns());
}

#[test]
fn two_hundred_clients_at_once() {
    if skipped() {
        return;
    }
    let mut scene = Scene::new(optional());
    let scene_ref = &scene;
    let pids: Vec<u32> = thread::scope(|scope| {
        let start = || {
            let request = ["send", "--request", "v1,put", "--timeout", "20"];
            scope.spawn(move || scene_ref.wire(&request).pid)
        };
        let clients: Vec<_> = (0..200).map(|_| start()).collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    thread::sleep(Duration::from_millis(200));
    let seen = scene.finish();
    assert_eq!(seen.len(), 400);
    for pid in pids {
        let calls: Vec<_> = seen.iter().filter(|l| l["process.pid"] == pid).collect();
        assert_eq!(calls.len(), 2, "{pid}");
        assert_eq!(calls[0]["imds.version"], "v1");
        assert_eq!(calls[1]["imds.version"], "token");
    }
}
