//! Every way in which bytes can get to IMDS, whatever they are. Needs no program but
//! `wire-client`.

use std::{thread, time::Duration};

use imdsmon::sandbox::{FastOpen, ImdsConfig};
use tests::{Call, Scene, optional, play, repetitions, send, skipped};

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
fn options_between_ipv4_and_tcp() {
    send(
        "v2,v1",
        &["--ip-options"],
        &[Call::put(), Call::v2(), Call::v1()],
    );
}

#[test]
fn extension_headers_between_ipv6_and_tcp() {
    send(
        "v1,v1",
        &["--socket", "ipv6", "--ipv6-options"],
        &[Call::v1(), Call::v1()],
    );
}

#[test]
fn a_client_that_has_no_more_to_say_is_still_answered() {
    send("v1", &["--half-close"], &[Call::v1()]);
    send("put", &["--half-close", "--socket", "ipv6"], &[Call::put()]);
}

#[test]
fn neighbours_of_imds_are_not_imds() {
    if skipped() {
        return;
    }
    let mut scene = Scene::new(optional());
    let mut neighbours = vec!["169.254.169.253", "169.254.168.254", "168.254.169.254"];
    if scene.simulator.has_ipv6() {
        // Each differs from the address of IMDS in another of its 32-bit words.
        neighbours.extend([
            "fd00:ec2::1:254",
            "fd00:ec2::1:0:254",
            "fd00:ec2:0:1::254",
            "fd00:ec3::254",
        ]);
    }
    for address in neighbours {
        tests::neighbour::serve(&scene.simulator, address.parse().unwrap());
        let sockets: &[_] = if address.contains(':') {
            &["ipv6"]
        } else {
            &["ipv4", "mapped"]
        };
        for socket in sockets {
            let who = scene.wire(&[
                "send",
                "--request",
                "v1",
                "--address",
                address,
                "--socket",
                socket,
            ]);
            assert_eq!(who.printed, ["200"], "{address} answers");
        }
    }
    let who = scene.wire(&["send", "--request", "v1"]);
    let seen = scene.finish();
    assert_eq!(seen.len(), 1, "{seen:#?}");
    assert_eq!(seen[0]["process.pid"], who.pid);
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
                .filter(|l| l["linux.netns"] == scene.simulator.netns())
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
    assert_eq!(by(one.pid)["linux.netns"], here.simulator.netns());
    assert_eq!(by(other.pid)["linux.netns"], there.simulator.netns());
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
