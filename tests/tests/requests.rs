//! Every request that IMDS may get: what it is, and what came of it. Needs no program but
//! `wire-client`.

use std::time::Duration;

use imdsmon::sandbox::{HttpTokens, ImdsConfig, TokenRequestMode};
use tests::{Call, Scene, optional, play, repetitions, send, skipped};

/// Far less than the silence after which a request is given up.
const PROMPTLY: Duration = Duration::from_secs(5);

fn required() -> ImdsConfig {
    ImdsConfig {
        http_tokens: HttpTokens::Required,
        ..optional()
    }
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
fn imdsv1_is_rejected_where_imdsv2_is_required() {
    play(
        required(),
        &["send", "--request", "v1"],
        &[Call::v1().status(401)],
    );
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
fn a_token_behind_more_than_imds_reads() {
    // 12 KB in one segment; the server gives up at 8, and says so before it closes.
    let v2 = Call::v2().status(431);
    send("very-late-token", &[], &[Call::put(), v2.clone()]);
    send("very-late-token", &["--socket", "ipv6"], &[Call::put(), v2]);
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
        token_requests: TokenRequestMode::HopLimit,
        ..optional()
    };
    let args = ["send", "--request", "put", "--timeout", "0.2"];
    play(config, &args, &[Call::put().unanswered()]);
}

#[test]
fn a_token_request_that_is_refused() {
    let config = ImdsConfig {
        token_requests: TokenRequestMode::Forbidden,
        ..optional()
    };
    play(
        config,
        &["send", "--request", "put,v1"],
        &[Call::put().status(403), Call::v1()],
    );
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
fn half_a_request_is_reported_when_its_client_is_gone() {
    if skipped() {
        return;
    }
    for socket in ["ipv4", "ipv6"] {
        let mut scene = Scene::new(optional());
        for _ in 0..repetitions() {
            let half = "GET /latest/user-data HTTP/1.1\\r\\nHost: x\\r\\n";
            let who = scene.wire(&["send", "--raw", half, "--exit-at-once", "--socket", socket]);
            // Not when the connection has been idle for long, and not at the end.
            let line = scene.printed(PROMPTLY);
            assert_eq!(line["event.name"], "imds.unparsed");
            assert_eq!(line["process.pid"], who.pid);
            assert_eq!(line["imds.unparsed_bytes"], 41, "{line}");
        }
        assert_eq!(scene.finish().len(), repetitions());
    }
}

#[test]
fn unanswered_request_is_reported_when_its_client_is_gone() {
    if skipped() {
        return;
    }
    let config = ImdsConfig {
        token_requests: TokenRequestMode::HopLimit,
        ..optional()
    };
    let mut scene = Scene::new(config);
    for _ in 0..repetitions() {
        let who = scene.wire(&["send", "--request", "put", "--timeout", "0.1"]);
        let line = scene.printed(PROMPTLY);
        assert_eq!(line["imds.outcome"], "no-answer");
        assert_eq!(line["process.pid"], who.pid);
    }
    assert_eq!(scene.finish().len(), repetitions());
}
