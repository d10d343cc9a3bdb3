//! Which request an answer belongs to when every segment is seen.

use crate::http::test_support::{
    MS, SECOND, SERVER, Story, V1, V1_UNANSWERED, V2, V2_UNANSWERED, after,
};

#[test]
fn answers_go_to_requests_in_order() {
    let mut story = Story::new();
    story
        .send([V1, V2, V1].concat())
        .status(401)
        .status(200)
        .status(404)
        .status(500);
    assert_eq!(
        story.end(),
        [
            "v1 GET /latest/meta-data/ 401",
            "v2 GET /latest/user-data 200",
            "v1 GET /latest/meta-data/ 404"
        ]
    );
    assert_eq!(story.counters().unmatched_responses, 1);
}

#[test]
fn a_retransmitted_answer_answers_nothing_else() {
    let mut story = Story::new();
    let head = "HTTP/1.1 200 OK\r\n\r\n";
    story.send(V1).answer(head, 9).send(V2);
    story.received_as(|r| (r.seq, r.len, r.head) = (SERVER, 28, head.into()));
    assert_eq!(
        story.end(),
        ["v1 GET /latest/meta-data/ 200", V2_UNANSWERED]
    );
}

#[test]
fn an_answer_that_its_body_overtook_still_counts() {
    let mut story = Story::new();
    let head = "HTTP/1.1 200 OK\r\n\r\n";
    story
        .send(V1)
        .received_as(|r| (r.seq, r.len) = (SERVER + 19, 100));
    story.received_as(|r| (r.seq, r.len, r.head) = (SERVER, 19, head.into()));
    assert_eq!(story.end(), ["v1 GET /latest/meta-data/ 200"]);
}

#[test]
fn an_answer_that_begins_within_a_segment_is_known_to_have_come() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    let expected = [
        "v1 GET /latest/meta-data/ 200",
        "v2 GET /latest/user-data ?",
    ];
    let pipelined = [V1, V2].concat();
    let mut same = Story::new();
    assert_eq!(same.send(&pipelined).answer(head, 60).end(), expected);
    let mut later = Story::new();
    later
        .send(&pipelined)
        .answer(head, 4)
        .received_as(|r| r.len = 30);
    assert_eq!(later.end(), expected);
    let mut exact = Story::new();
    exact
        .send(&pipelined)
        .answer(head, 4)
        .received_as(|r| r.len = 6)
        .status(403);
    assert_eq!(exact.end(), [expected[0], "v2 GET /latest/user-data 403"]);
}

#[test]
fn the_answer_to_head_has_no_body() {
    let mut story = Story::new();
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    story
        .send(format!("HEAD / HTTP/1.1\r\n\r\n{V1}"))
        .answer(head, 0)
        .status(404);
    assert_eq!(
        story.end(),
        ["v1 HEAD / 200", "v1 GET /latest/meta-data/ 404"]
    );
}

#[test]
fn a_body_that_looks_like_an_answer_is_none() {
    let mut story = Story::new();
    story
        .send([V1, V2].concat())
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n", 0);
    story.answer("HTTP/1.1 500 X\n", 0).status(403);
    assert_eq!(
        story.end(),
        [
            "v1 GET /latest/meta-data/ 200",
            "v2 GET /latest/user-data 403"
        ]
    );
}

#[test]
fn http_09_is_answered_without_a_head() {
    let mut story = Story::new();
    story.send("GET /a\r\n").send(V2).received_as(|r| r.len = 5);
    assert_eq!(story.end(), ["v1 GET /a HTTP/0.9 ?", V2_UNANSWERED]);
}

#[test]
fn a_connection_that_ends_leaves_its_requests_without_answers() {
    let part = &V2[..20];
    for end in ["closed", "reset by client", "reset by server", "finish"] {
        let mut story = Story::new();
        story.send([V1, V1, part].concat()).status(200);
        match end {
            "closed" => story.close(),
            "reset by client" => story.sent_as(|s| s.rst = true),
            "reset by server" => story.received_as(|r| r.rst = true),
            _ => &mut story,
        };
        let expected = [
            "v1 GET /latest/meta-data/ 200",
            V1_UNANSWERED,
            "unparsed 20",
        ];
        assert_eq!(story.end(), expected, "{end}");
    }
}

#[test]
fn the_servers_fin_ends_the_wait_after_its_own_answer() {
    let mut story = Story::new();
    story.send([V1, V2].concat());
    story.received_as(|r| (r.fin, r.len, r.head) = (true, 19, "HTTP/1.1 200 OK\r\n\r\n".into()));
    // The answer has no length, so nothing says that it is over.
    assert_eq!(
        story.told(),
        ["v1 GET /latest/meta-data/ 200", V2_UNANSWERED]
    );
}

#[test]
fn a_client_may_half_close_and_still_be_answered() {
    let mut story = Story::new();
    story.send(V1).sent_as(|s| s.fin = true).status(200);
    assert_eq!(story.end(), ["v1 GET /latest/meta-data/ 200"]);
}

#[test]
fn late_response_is_not_assigned_to_the_next_request() {
    let mut story = Story::new();
    story.send(V1);
    assert_eq!(
        story.http.next_deadline(),
        Some(after(60 * SECOND + 2 * MS))
    );
    assert_eq!(story.wait(59 * SECOND).told(), [""; 0]);
    assert_eq!(story.wait(SECOND).told(), [V1_UNANSWERED]);
    assert_eq!(story.http.next_deadline(), None);
    story.send(V2).status(200).status(403);
    assert_eq!(story.end(), ["v2 GET /latest/user-data 403"]);
    assert_eq!(story.counters().late_responses, 1);
}

#[test]
fn requests_that_are_pipelined_one_by_one_are_answered_in_order() {
    let mut story = Story::new();
    story.send(V1).send(V2).send(V1);
    story.status(401).status(200).status(404);
    assert_eq!(
        story.end(),
        [
            "v1 GET /latest/meta-data/ 401",
            "v2 GET /latest/user-data 200",
            "v1 GET /latest/meta-data/ 404"
        ]
    );
    assert_eq!(story.counters().unseen_responses, 0);
}

#[test]
fn responses_behind_the_second_in_a_segment_are_uncertain() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    for end in ["closed", "fin", "reset", "silent", "finish"] {
        let mut story = Story::new();
        story.send([V1, V2, V1, V2].concat()).answer(head, 300);
        match end {
            "closed" => story.close(),
            "fin" => story.received_as(|r| r.fin = true),
            "reset" => story.received_as(|r| r.rst = true),
            "silent" => story.wait(61 * SECOND),
            _ => &mut story,
        };
        assert_eq!(
            story.end(),
            [
                "v1 GET /latest/meta-data/ 200",
                "v2 GET /latest/user-data ?",
                "v1 GET /latest/meta-data/ ?",
                "v2 GET /latest/user-data ?"
            ],
            "{end}"
        );
        assert_eq!(story.counters().unseen_responses, 2, "{end}");
    }
}

#[test]
fn unsolicited_response_is_counted_wherever_it_begins() {
    let hidden = format!(
        "POST /a HTTP/1.1\r\nContent-Length: {}\r\n\r\n{V1}",
        V1.len()
    );
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    let mut own_segments = Story::new();
    own_segments.send(&hidden).status(405).status(200);
    assert_eq!(own_segments.end(), ["v1 POST /a 405"]);
    assert_eq!(own_segments.counters().unmatched_responses, 1);
    let mut one_segment = Story::new();
    one_segment.send(&hidden).answer(head, 60);
    assert_eq!(one_segment.end(), ["v1 POST /a 200"]);
    assert_eq!(one_segment.counters().unmatched_responses, 1);
    let mut within = Story::new();
    within
        .send(&hidden)
        .answer(head, 4)
        .received_as(|r| r.len = 30);
    assert_eq!(within.end(), ["v1 POST /a 200"]);
    assert_eq!(within.counters().unmatched_responses, 1);
}

#[test]
fn a_fin_that_overtakes_an_answer_does_not_end_the_wait() {
    let mut story = Story::new();
    story.send(V1).status(401).send(V2);
    let at = SERVER + 55;
    let head = "HTTP/1.1 200 OK\r\n\r\n";
    story.received_as(|r| (r.seq, r.fin) = (at + 19, true));
    assert_eq!(story.told(), ["v1 GET /latest/meta-data/ 401"]);
    story.received_as(|r| (r.seq, r.len, r.head) = (at, 19, head.into()));
    assert_eq!(story.told(), ["v2 GET /latest/user-data 200"]);

    let mut body_too = Story::new();
    body_too
        .send(V1)
        .received_as(|r| (r.seq, r.len, r.fin) = (SERVER + 19, 100, true))
        .received_as(|r| (r.seq, r.len, r.head) = (SERVER, 19, head.into()));
    assert_eq!(body_too.end(), ["v1 GET /latest/meta-data/ 200"]);
}
