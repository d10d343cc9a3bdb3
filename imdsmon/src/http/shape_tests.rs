//! What single requests look like on the wire, and what is no request.

use super::HttpLimits;
use crate::http::test_support::{Story, V1, V1_UNANSWERED, V2, V2_UNANSWERED, calls};

/// What is sent, and what it is.
const SHAPES: &[(&str, &str)] = &[
    // Header names in any case, with and without spaces around the colon.
    (
        "GET / HTTP/1.1\r\nx-aws-ec2-metadata-token: a==\r\n\r\n",
        "v2 GET / no answer",
    ),
    (
        "GET / HTTP/1.1\r\nX-Aws-Ec2-Metadata-Token:**\r\n\r\n",
        "v2 GET / no answer",
    ),
    (
        "GET / HTTP/1.1\r\nX-AWS-EC2-METADATA-TOKEN\t :\t**\t\r\n\r\n",
        "v2 GET / no answer",
    ),
    (
        "GET / HTTP/1.1\r\nHost : a\r\nx-aws-ec2-metadata-token : **\r\n\r\n",
        "v2 GET / no answer",
    ),
    // Empty and malformed values.
    (
        "GET / HTTP/1.1\r\nx-aws-ec2-metadata-token:\r\n\r\n",
        "v2(empty) GET / no answer",
    ),
    (
        "GET / HTTP/1.1\r\nx-aws-ec2-metadata-token: \t \r\n\r\n",
        "v2(empty) GET / no answer",
    ),
    (
        "GET / HTTP/1.1\r\nx-aws-ec2-metadata-token: ****!!!!\r\n\r\n",
        "v2(empty) GET / no answer",
    ),
    (
        "GET / HTTP/1.1\r\nx-aws-ec2-metadata-token: ** **\r\n\r\n",
        "v2(empty) GET / no answer",
    ),
    (
        "GET / HTTP/1.1\r\nx-aws-ec2-metadata-token: <html>\r\n\r\n",
        "v2(empty) GET / no answer",
    ),
    // A folded value.
    (
        "GET / HTTP/1.1\r\nx-aws-ec2-metadata-token:\r\n ****\r\nA: b\r\n\r\n",
        "v2 GET / no answer",
    ),
    // The header's name is not a header elsewhere.
    (
        "GET /x-aws-ec2-metadata-token HTTP/1.1\r\n\r\n",
        "v1 GET /x-aws-ec2-metadata-token no answer",
    ),
    (
        "GET /?x-aws-ec2-metadata-token:a HTTP/1.1\r\n\r\n",
        "v1 GET / no answer",
    ),
    (
        "GET / HTTP/1.1\r\nUser-Agent: x-aws-ec2-metadata-token: a\r\n\r\n",
        "v1 GET / no answer",
    ),
    (
        "GET / HTTP/1.1\r\nA: b\r\n x-aws-ec2-metadata-token: a\r\n\r\n",
        "v1 GET / no answer",
    ),
    (
        "GET / HTTP/1.1\r\n x-aws-ec2-metadata-token: a\r\n\r\n",
        "v1 GET / no answer",
    ),
    (
        "GET / HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n",
        "v1 GET / no answer",
    ),
    (
        "POST / HTTP/1.1\r\nContent-Length: 31\r\n\r\nx-aws-ec2-metadata-token: abcd\r\n",
        "v1 POST / no answer",
    ),
    // Token requests.
    (
        "PUT /latest/api/token/ HTTP/1.1\r\n\r\n",
        "token PUT /latest/api/token/ no answer",
    ),
    (
        "PUT /latest//api//token HTTP/1.1\r\n\r\n",
        "token PUT /latest//api//token no answer",
    ),
    (
        "PUT /2021-03-23/api/token HTTP/1.0\r\n\r\n",
        "token PUT /2021-03-23/api/token HTTP/1.0 no answer",
    ),
    (
        "PUT http://169.254.169.254/latest/api/token HTTP/1.1\r\n\r\n",
        "token PUT /latest/api/token no answer",
    ),
    (
        "PUT /latest/api/token HTTP/1.1\r\nx-aws-ec2-metadata-token: a\r\n\r\n",
        "v2 PUT /latest/api/token no answer",
    ),
    (
        "GET /latest/api/token HTTP/1.1\r\n\r\n",
        "v1 GET /latest/api/token no answer",
    ),
    (
        "POST /latest/api/token HTTP/1.1\r\n\r\n",
        "v1 POST /latest/api/token no answer",
    ),
    (
        "PUT /latest/api/tokens HTTP/1.1\r\n\r\n",
        "v1 PUT /latest/api/tokens no answer",
    ),
    (
        "PUT /latest/myapi/token HTTP/1.1\r\n\r\n",
        "v1 PUT /latest/myapi/token no answer",
    ),
    // What hand-made clients send.
    (
        "GET /latest/ HTTP/1.0\n\n",
        "v1 GET /latest/ HTTP/1.0 no answer",
    ),
    (
        "GET / HTTP/1.1\nX-aws-ec2-metadata-token: a\n\r\n",
        "v2 GET / no answer",
    ),
    ("\r\n\n\r\nGET / HTTP/1.1\r\n\r\n", "v1 GET / no answer"),
    ("GET /a b/c d HTTP/1.1\r\n\r\n", "v1 GET /a b/c d no answer"),
    ("GET  /a\tHTTP/1.1 \r\n\r\n", "v1 GET /a no answer"),
    (
        "GET /latest/ami id\r\n",
        "v1 GET /latest/ami id HTTP/0.9 no answer",
    ),
    (
        "GET /latest/ami-id\n\r\n",
        "v1 GET /latest/ami-id HTTP/0.9 no answer",
    ),
    ("GET /a http/1.1\r\n\r\n", "v1 GET /a no answer"),
    (
        "GET /a b hTTp/1.0\r\nx-aws-ec2-metadata-token: a\r\n\r\n",
        "v2 GET /a b HTTP/1.0 no answer",
    ),
    (
        "GET HTTP://169.254.169.254?a HTTP/1.1\r\n\r\n",
        "v1 GET / no answer",
    ),
    (
        "HEAD / HTTP/1.1\r\nbroken line\r\n\r\n",
        "v1 HEAD / no answer",
    ),
    ("OPTIONS * HTTP/1.1\r\n\r\n", "v1 OPTIONS * no answer"),
    // No requests.
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "unparsed 24"),
    ("\x16\x03\x01\0\x05hello", "unparsed 10"),
    ("hello\r\nworld\r\n", "unparsed 14"),
    ("GET / HTTP/1.1\r\nHost: x\r\n", "unparsed 25"),
    ("GET HTTP/1.1\r\n\r\n", "unparsed 16"),
    ("GET http/1.1\r\n\r\n", "unparsed 16"),
    ("GET /a http/3\r\n", "unparsed 15"),
];

#[test]
fn every_shape_on_the_wire_is_the_call_it_is() {
    for (wire, expected) in SHAPES {
        let mut whole = Story::new();
        assert_eq!(whole.send(wire).end(), [*expected], "{wire:?}");
        let mut bytewise = Story::new();
        for byte in wire.as_bytes().chunks(1) {
            bytewise.send(byte);
        }
        assert_eq!(bytewise.end(), [*expected], "byte by byte: {wire:?}");
    }
}

#[test]
fn path_query_and_user_agent_are_cut_at_a_character() {
    let long = "\u{20ac}".repeat(2000);
    let mut story = Story::new();
    story
        .send(format!(
            "GET /{long}?{long} HTTP/1.1\r\nUser-Agent: {long}\r\n\r\n"
        ))
        .status(200);
    let calls = calls(&story);
    assert_eq!(calls[0].request.path.len(), 2047 - 2047 % 3 + 1);
    assert!(
        calls[0]
            .request
            .query
            .as_ref()
            .is_some_and(|q| q.len() == 2046 && q.ends_with('\u{20ac}'))
    );
    assert!(
        calls[0]
            .request
            .user_agent
            .as_ref()
            .is_some_and(|u| u.len() == 1023)
    );
}

#[test]
fn a_byte_that_is_no_text_is_replaced() {
    let mut story = Story::new();
    story
        .send(b"GET /\xff HTTP/1.1\r\nUser-Agent: a\xffb\r\n\r\n")
        .status(200);
    assert_eq!(
        calls(&story)[0].request.user_agent.as_deref(),
        Some("a\u{fffd}b")
    );
    assert_eq!(story.end(), ["v1 GET /\u{fffd} 200"]);
}

#[test]
fn any_number_of_headers_may_come_before_the_token() {
    let many = "A: b\r\n".repeat(5000);
    let wire = format!("GET / HTTP/1.1\r\n{many}x-aws-ec2-metadata-token: a\r\n\r\n");
    assert_eq!(Story::new().send(wire).end(), ["v2 GET / no answer"]);
}

#[test]
fn bodies_are_skipped() {
    for body in [
        "Content-Length: 14\r\n\r\nGET / HTTP/1.1",
        "Transfer-Encoding: chunked\r\n\r\ne\r\nGET / HTTP/1.1\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, Chunked\r\n\r\n2;a=b\r\nab\r\n00E ;c\r\nGET / HTTP/1.1\r\n0\r\nA: b\r\n\r\n",
        "Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\n\n2\nab\n0\n\n",
    ] {
        let wire = format!("POST /a HTTP/1.1\r\n{body}{V1}");
        let expected = ["v1 POST /a no answer", V1_UNANSWERED];
        assert_eq!(Story::new().send(&wire).end(), expected, "{body:?}");
        let mut bytewise = Story::new();
        for byte in wire.as_bytes().chunks(1) {
            bytewise.send(byte);
        }
        assert_eq!(bytewise.end(), expected, "{body:?}");
    }
}

#[test]
fn a_body_that_is_huge_costs_nothing() {
    let mut story = Story::new();
    story.send("PUT /a HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\n");
    let mut left = 1 << 30;
    while left > 0 {
        let len = left.min(60_000);
        left -= len;
        // Only the beginning of each segment is captured.
        story.sent_as(|sent| (sent.len, sent.bytes) = (len, vec![b'\n'; 16].into()));
    }
    assert_eq!(story.send(V1).end(), ["v1 PUT /a no answer", V1_UNANSWERED]);
    assert_eq!(story.counters().unparsed, 0);
    assert!(story.counters().gap_bytes > 1 << 29);
}

#[test]
fn client_expecting_100_may_send_its_body_or_a_new_request() {
    let length = "PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 20\r\n\r\n";
    let chunked = "PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
    let go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    for (head, body) in [
        (length, "GET / HTTP/1.1\r\n\r\n//"),
        (chunked, "1\r\na\r\n0\r\n\r\n"),
    ] {
        let mut story = Story::new();
        story
            .send(head)
            .answer(go_on, 0)
            .send(body)
            .status(200)
            .send(V1)
            .status(200);
        assert_eq!(
            story.end(),
            ["v1 PUT /a 200", "v1 GET /latest/meta-data/ 200"]
        );
        let mut refused = Story::new();
        refused
            .send(head)
            .status(417)
            .send(&V1[..3])
            .send(&V1[3..])
            .status(200);
        assert_eq!(
            refused.end(),
            ["v1 PUT /a 417", "v1 GET /latest/meta-data/ 200"]
        );
    }
    for body in [
        "GETTING it together..",
        "PUT /never mind\r\n....",
        "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n",
    ] {
        let mut late = Story::new();
        late.send(length).status(200);
        for byte in body.as_bytes()[..20].chunks(1) {
            late.send(byte);
        }
        assert_eq!(
            late.send(V1).end(),
            ["v1 PUT /a 200", V1_UNANSWERED],
            "{body:?}"
        );
    }
}

#[test]
fn an_interim_answer_and_the_final_one_may_share_a_segment() {
    let both = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n";
    assert_eq!(
        Story::new().send(V1).answer(both, 0).end(),
        ["v1 GET /latest/meta-data/ 404"]
    );
    let blanked = "HTTP/1.1 100 Continue\r\n\r\n\0\0\0\0\0\0";
    assert_eq!(
        Story::new().send(V1).answer(blanked, 20).end(),
        ["v1 GET /latest/meta-data/ ?"]
    );
    let switch = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
    assert_eq!(
        Story::new().send(V1).answer(switch, 0).end(),
        ["v1 GET /latest/meta-data/ 101"]
    );
}

#[test]
fn after_garbage_the_next_certain_request_counts() {
    for garbage in [
        "nonsense\r\n",
        "\x01\x02\x03\n\r\n",
        "GET / HTTP/3\r\nHost: a\r\n\r\n",
        "xx\r\nget / HTTP/1.1\r\nGET x HTTP/1.1\r\nGET / HTTP/1.1 \r\n",
        "PUT /a HTTP/1.1 x\r\nABCDEFGHIJKLMNOPQ / HTTP/1.1\r\n",
    ] {
        let bytes = garbage.len() as u64;
        let wire = format!("{V1}{garbage}{V2}");
        let expected = [&format!("unparsed {bytes}"), V1_UNANSWERED, V2_UNANSWERED];
        assert_eq!(Story::new().send(&wire).end(), expected, "{garbage:?}");
        let mut bytewise = Story::new();
        for byte in wire.as_bytes().chunks(1) {
            bytewise.send(byte);
        }
        assert_eq!(bytewise.end(), expected, "{garbage:?}");
        assert_eq!(bytewise.counters().unparsed_bytes, bytes);
    }
}

#[test]
fn a_head_beyond_the_limit_is_unparsed_whole() {
    let limits = || HttpLimits {
        flow_bytes: 100,
        ..HttpLimits::default()
    };
    let wire = format!(
        "GET / HTTP/1.1\r\nA: {}\r\nB: c\r\n\r\n{V1}",
        "a".repeat(200)
    );
    let expected = ["unparsed 229", V1_UNANSWERED];
    assert_eq!(Story::with_limits(limits()).send(&wire).end(), expected);
    let mut bytewise = Story::with_limits(limits());
    for byte in wire.as_bytes().chunks(1) {
        bytewise.send(byte);
    }
    assert_eq!(bytewise.end(), expected);
}
