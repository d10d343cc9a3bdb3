//! Responses of the simulated IMDS, and its handling of connections.

use std::{thread, time::Duration};

use crate::event::Endpoint;

use super::{
    super::{
        client::{ClientError, ImdsConnection, get, token},
        *,
    },
    fetch, simulator,
};

const PUT: &str = "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n";

#[test]
fn optional_serves_imdsv1_and_imdsv2() {
    let Some(simulator) = simulator(ImdsConfig::default()) else {
        return;
    };
    let response = fetch(&simulator, "/latest/meta-data/instance-id", None);
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, "i-0123456789abcdef0")
    );
    for (name, value) in [
        ("Content-Type", "text/plain"),
        ("Accept-Ranges", "none"),
        ("Content-Length", "19"),
        ("Server", "EC2ws"),
        ("Connection", "keep-alive"),
    ] {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    for name in ["Last-Modified", "Date"] {
        assert!(
            response
                .header(name)
                .is_some_and(|date| date.ends_with(" GMT")),
            "{name}"
        );
    }

    let token = simulator
        .run(|| token(Endpoint::V4, 60).expect("a token"))
        .expect("runs");
    assert_eq!(
        fetch(&simulator, "/latest/user-data", Some(&token)).status,
        200
    );
    assert_eq!(fetch(&simulator, "/latest/user-data", Some("")).status, 401);
    assert_eq!(
        fetch(&simulator, "/latest/user-data", Some("nonsense")).status,
        401
    );

    let counts = simulator.requests();
    assert_eq!(
        counts,
        RequestCounts {
            connections: 5,
            total: 5,
            v1: 1,
            v2: 3,
            v2_empty_token: 1,
            token_requests: 1,
            by_status: [(200, 3), (401, 2)].into(),
            ..RequestCounts::default()
        }
    );
}

#[test]
fn ipv6_address_responds_if_available() {
    let Some(simulator) = simulator(ImdsConfig::default()) else {
        return;
    };
    let response = simulator
        .run(|| get(Endpoint::V6, "/latest/meta-data/ami-id", None))
        .expect("runs");
    assert_eq!(
        response.is_ok_and(|response| response.status == 200),
        simulator.has_ipv6()
    );
}

#[test]
fn requests_get_the_status_of_the_user_guide() {
    let Some(simulator) = simulator(ImdsConfig::default()) else {
        return;
    };
    for (request, expected) in [
        (format!("{PUT}\r\n"), 200),
        (format!("{PUT}X-Forwarded-For: 10.0.0.1\r\n\r\n"), 403),
        (PUT.replace("latest", "2021-03-23") + "\r\n", 403),
        (PUT.replace("token HTTP", "token/ HTTP") + "\r\n", 200),
        (PUT.replace("60", "0") + "\r\n", 400),
        (PUT.replace("60", "21600") + "\r\n", 200),
        (PUT.replace("60", "21601") + "\r\n", 400),
        (PUT.replace("60", "an hour") + "\r\n", 400),
        ("PUT /latest/api/token HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("{PUT}Content-Length: 2\r\n\r\nab"), 200),
        (
            format!("{PUT}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            200,
        ),
        (PUT.replace("PUT", "POST") + "\r\n", 405),
        ("DELETE /latest/user-data HTTP/1.1\r\n\r\n".to_owned(), 405),
        ("GET /latest/api/token HTTP/1.1\r\n\r\n".to_owned(), 405),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 200),
        ("GET /latest//meta-data/ HTTP/1.1\r\n\r\n".to_owned(), 200),
        (
            "GET /2009-04-04/meta-data/ami-id/ HTTP/1.0\r\n\r\n".to_owned(),
            200,
        ),
        ("GET /latest/meta-data/ami-id\r\n".to_owned(), 200),
        ("GET /latest/meta-data/ami-id HTTP/1.0\n\n".to_owned(), 200),
        (
            "HEAD /latest/meta-data/ami-id HTTP/1.1\r\n\r\n".to_owned(),
            200,
        ),
        ("GET /computeMetadata/v1/ HTTP/1.1\r\n\r\n".to_owned(), 404),
        ("hello\r\n".to_owned(), 400),
        ("\u{16}\u{3}\u{1}".to_owned(), 400),
        (
            format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(9000)),
            431,
        ),
    ] {
        assert_eq!(status(&simulator, &request), expected, "{request:.300}");
    }
    let counts = simulator.requests();
    assert_eq!((counts.malformed, counts.total), (3, 21));
}

#[test]
fn required_rejects_missing_and_expired_tokens() {
    let Some(simulator) = simulator(ImdsConfig {
        http_tokens: HttpTokens::Required,
        ..ImdsConfig::default()
    }) else {
        return;
    };
    assert_eq!(fetch(&simulator, "/latest/meta-data/", None).status, 401);
    let token = simulator
        .run(|| token(Endpoint::V4, 1).expect("a token"))
        .expect("runs");
    assert_eq!(
        fetch(&simulator, "/latest/meta-data/", Some(&token)).status,
        200
    );
    thread::sleep(Duration::from_millis(1100));
    assert_eq!(
        fetch(&simulator, "/latest/meta-data/", Some(&token)).status,
        401,
        "expired"
    );
}

#[test]
fn token_request_fails_as_configured() {
    for (token_requests, expected) in [
        (TokenRequestMode::Forbidden, 403),
        (TokenRequestMode::Throttled, 503),
    ] {
        let Some(simulator) = simulator(ImdsConfig {
            token_requests,
            ..ImdsConfig::default()
        }) else {
            return;
        };
        assert_eq!(status(&simulator, &format!("{PUT}\r\n")), expected);
    }
}

#[test]
fn hop_limit_leaves_token_request_without_response() {
    let Some(simulator) = simulator(ImdsConfig {
        token_requests: TokenRequestMode::HopLimit,
        ..ImdsConfig::default()
    }) else {
        return;
    };
    let error = simulator
        .run(|| {
            let mut connection =
                ImdsConnection::open(IMDS_V4, Duration::from_millis(200)).expect("inside");
            connection.token(60).expect_err("no response")
        })
        .expect("runs");
    assert!(matches!(error, ClientError::Timeout), "{error}");
    assert_eq!(
        fetch(&simulator, "/latest/meta-data/", None).status,
        200,
        "only the token request hangs"
    );
    let counts = simulator.requests();
    assert_eq!(
        (counts.token_requests, counts.unanswered, counts.v1),
        (1, 1, 1)
    );
}

#[test]
fn connections_follow_http_keep_alive_rules() {
    let Some(simulator) = simulator(ImdsConfig::default()) else {
        return;
    };
    let three = "GET / HTTP/1.1\r\n\r\nGET /nothing HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    assert_eq!(statuses(&simulator, three.as_bytes(), 3), [200, 404, 200]);
    let old = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n";
    assert_eq!(statuses(&simulator, old.as_bytes(), 2), [200, 200]);
    assert_eq!(simulator.requests().connections, 2);

    let Some(closing) = super::simulator(ImdsConfig {
        close: true,
        ..ImdsConfig::default()
    }) else {
        return;
    };
    closing
        .run(|| {
            let mut connection =
                ImdsConnection::open(IMDS_V4, Duration::from_secs(2)).expect("inside");
            let response = connection.get("/", None).expect("a response");
            assert_eq!(response.header("connection"), Some("close"));
            connection.read_response(false).expect_err("closed");
        })
        .expect("runs");
}

#[test]
fn other_ports_and_addresses_are_not_counted_as_imds() {
    let Some(simulator) = simulator(ImdsConfig::default()) else {
        return;
    };
    for address in [OTHER_PORT, OTHER_ADDRESS] {
        let response = simulator
            .run(|| {
                ImdsConnection::open(address, Duration::from_secs(2))?
                    .get("/latest/meta-data/", None)
            })
            .expect("runs")
            .expect("a response");
        assert_eq!(response.status, 200);
    }
    assert_eq!(
        simulator.requests(),
        RequestCounts {
            elsewhere: 2,
            ..RequestCounts::default()
        }
    );
}

/// Sends raw bytes on a new connection and collects the statuses of `count` responses.
fn statuses(simulator: &ImdsSimulator, bytes: &[u8], count: usize) -> Vec<u16> {
    simulator
        .run(|| {
            let mut connection =
                ImdsConnection::open(IMDS_V4, Duration::from_secs(2)).expect("inside");
            connection.send(bytes).expect("sent");
            let head = bytes.starts_with(b"HEAD");
            (0..count)
                .map(|_| connection.read_response(head).expect("a response").status)
                .collect()
        })
        .expect("runs")
}

fn status(simulator: &ImdsSimulator, request: &str) -> u16 {
    statuses(simulator, request.as_bytes(), 1)[0]
}
