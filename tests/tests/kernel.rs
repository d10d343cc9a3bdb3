//! What depends on the kernel, in one run with one monitor: small virtual machines with old and
//! new kernels play it, too, where starting a monitor takes seconds.

use imdsmon::sandbox::{FastOpen, ImdsConfig};
use tests::{Call, Scene, Who, skipped};

/// Debian's 5.10 is built without.
fn has_mptcp() -> bool {
    // SAFETY: plain system calls; the descriptor is closed if there is one.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP);
        socket >= 0 && libc::close(socket) == 0
    }
}

#[test]
fn every_way_to_send_in_one_run() {
    if skipped() {
        return;
    }
    let v1 = || vec![Call::v1()];
    let v2 = || vec![Call::put(), Call::v2()];
    let mut stories: Vec<(Vec<&str>, Vec<Call>)> = vec![
        (vec!["--request", "v1"], v1()),
        (vec!["--request", "v2"], v2()),
        (vec!["--request", "v2", "--socket", "ipv6"], v2()),
        (vec!["--request", "v1", "--socket", "mapped"], v1()),
        (
            vec!["--request", "v2", "--how", "split", "--split-at", "105"],
            v2(),
        ),
        (
            vec!["--request", "v1,v2", "--pipeline"],
            vec![Call::put(), Call::v1(), Call::v2()],
        ),
        (vec!["--request", "late-token"], v2()),
        (vec!["--request", "v1", "--how", "writev"], v1()),
        (vec!["--request", "v1", "--how", "sendfile"], v1()),
        (vec!["--request", "v1", "--how", "splice"], v1()),
        (vec!["--request", "v1", "--how", "fast-open"], v1()),
        (vec!["--request", "v1", "--by", "fork"], v1()),
        (vec!["--request", "v1", "--by", "exec"], v1()),
        (vec!["--request", "v1", "--by", "pass-fd"], v1()),
        (vec!["--silent"], vec![]),
        (vec!["--request", "v1", "--port", "8080"], vec![]),
    ];
    if has_mptcp() {
        stories.push((vec!["--request", "v1", "--socket", "mptcp"], v1()));
    } else {
        eprintln!("SKIPPED: this kernel has no MPTCP");
    }
    let config = ImdsConfig {
        fast_open: FastOpen::NoCookie,
        ..ImdsConfig::default()
    };
    let mut scene = Scene::new(config);
    let ran: Vec<Who> = stories
        .iter()
        .map(|(args, _)| scene.wire(&[&["send"], &args[..]].concat()))
        .collect();
    let seen = scene.finish();
    let mut expected_in_all = 0;
    for (who, (args, expected)) in ran.iter().zip(&stories) {
        // A token is fetched by the process that was started, whoever sends then.
        let calls: Vec<_> = seen
            .iter()
            .filter(|call| {
                [who.pid, who.sender]
                    .iter()
                    .any(|&pid| call["process.pid"] == pid)
            })
            .collect();
        let right = calls.len() == expected.len()
            && expected
                .iter()
                .zip(&calls)
                .all(|(expected, seen)| expected.matches(seen));
        assert!(
            right,
            "{args:?} by {who:?}\nexpected {expected:#?}\nbut saw {calls:#?}"
        );
        if let Some(last) = calls.last() {
            assert_eq!(last["process.pid"], who.sender, "{args:?}");
            assert_eq!(last["process.executable.name"], "wire-client", "{args:?}");
        }
        expected_in_all += expected.len();
    }
    assert_eq!(
        seen.len(),
        expected_in_all,
        "calls of processes that made none: {seen:#?}"
    );
}
