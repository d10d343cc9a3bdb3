//! What is missed costs what was missed, and nothing after it.

use std::time::Duration;

use super::HttpLimits;
use crate::event::Event;
use crate::http::test_support::{
    CLIENT, MS, PUT, SECOND, SERVER, Story, V1, V1_UNANSWERED, V2, V2_UNANSWERED, after, calls,
};

/// Bytes of what [`Story::status`] sends.
const STATUS: u32 = 55;
const LOST: &str = "GET /lost HTTP/1.1\r\n\r\n";

#[test]
fn lost_records_are_noted() {
    let mut story = Story::new();
    story.feed(&Event::Lost {
        time: after(Duration::ZERO),
        records: 7,
    });
    assert_eq!(story.counters().lost_records, 7);
}

#[test]
fn a_lost_answer_costs_the_status_of_its_own_call() {
    let expected = [
        "v1 GET /latest/meta-data/ ?",
        "token PUT /latest/api/token 200",
        "v2 GET /latest/user-data 401",
        "v2 GET /latest/user-data 403",
    ];
    // The first one on its connection, and a later one.
    for before in [0, 1, 2] {
        let mut story = Story::new();
        for _ in 0..before {
            story.send(V2).status(200);
        }
        story.told();
        story.send(V1).miss_answer(STATUS);
        story.send(PUT).status(200);
        story.send(V2).status(401);
        story.send(V2).status(403);
        assert_eq!(story.end(), expected, "{before}");
        let counters = story.counters();
        assert_eq!(counters.unseen_responses, 1, "{before}");
        assert_eq!(counters.late_responses, 0, "{before}");
        assert_eq!(counters.unmatched_responses, 0, "{before}");
    }
}

#[test]
fn a_lost_answer_before_the_last_call_costs_its_own_status_too() {
    let mut story = Story::new();
    story.send(V1).miss_answer(STATUS).send(V2).status(200);
    assert_eq!(story.told(), [""; 0]);
    story.close();
    assert_eq!(
        story.told(),
        [
            "v1 GET /latest/meta-data/ ?",
            "v2 GET /latest/user-data 200"
        ]
    );
}

#[test]
fn an_answer_whose_body_was_seen_is_an_answer_without_a_status() {
    let mut story = Story::new();
    story.send(V2).status(200).told();
    story
        .send(V1)
        .miss_answer(100)
        .received_as(|r| r.len = 50)
        .close();
    assert_eq!(story.told(), ["v1 GET /latest/meta-data/ ?"]);
    assert_eq!(story.counters().unseen_responses, 1);
}

#[test]
fn a_hole_within_a_body_puts_nothing_in_doubt() {
    let mut story = Story::new();
    story
        .send([V1, V2].concat())
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n", 50)
        .miss_answer(200)
        .received_as(|r| r.len = 50)
        .status(403);
    assert_eq!(
        story.end(),
        [
            "v1 GET /latest/meta-data/ 200",
            "v2 GET /latest/user-data 403"
        ]
    );
    assert_eq!(story.counters().unseen_responses, 0);
}

#[test]
fn a_hole_that_is_filled_puts_nothing_in_doubt() {
    let mut story = Story::new();
    story.send(V1).status(401).send([V1, V2].concat());
    let at = SERVER + STATUS;
    let head = "HTTP/1.1 200 OK\r\n\r\n";
    story
        .received_as(|r| (r.seq, r.len) = (at + 19, 81))
        .received_as(|r| (r.seq, r.len, r.head) = (at, 19, head.into()))
        .status(403);
    assert_eq!(
        story.end(),
        [
            "v1 GET /latest/meta-data/ 401",
            "v1 GET /latest/meta-data/ 200",
            "v2 GET /latest/user-data 403"
        ]
    );
    assert_eq!(story.counters().unseen_responses, 0);
}

#[test]
fn an_answer_lost_for_a_minute_costs_nothing_after_it() {
    for before in [0, 1] {
        let mut story = Story::new();
        for _ in 0..before {
            story.send(V2).status(200);
        }
        story.told();
        story.send(V1).miss_answer(STATUS).wait(61 * SECOND);
        assert_eq!(story.told(), [V1_UNANSWERED]);
        for _ in 0..3 {
            story.send(V2).status(200);
        }
        assert_eq!(story.end().len(), 3);
        let counters = story.counters();
        assert_eq!((counters.late_responses, counters.calls), (0, 4 + before));
    }
}

#[test]
fn a_connection_recovers_from_answers_that_are_owed_for_ever() {
    let mut story = Story::new();
    story.send(V1).status(200).send(V1).wait(61 * SECOND);
    assert_eq!(story.told().len(), 2);
    // No byte is missing, so that this is the answer that was owed; or else it is this call's.
    story.send(V2).status(200).wait(61 * SECOND);
    assert_eq!(story.told(), ["v2 GET /latest/user-data ?"]);
    story.send(V2).status(403);
    assert_eq!(story.end(), ["v2 GET /latest/user-data 403"]);
    let counters = story.counters();
    assert_eq!((counters.late_responses, counters.unseen_responses), (1, 1));
}

#[test]
fn one_answer_after_a_minute_of_silence_is_anybodys() {
    let mut story = Story::new();
    story.send(V1).wait(61 * SECOND).send(V2).status(200);
    assert_eq!(story.told(), [V1_UNANSWERED]);
    assert_eq!(story.end(), ["v2 GET /latest/user-data ?"]);
}

#[test]
fn a_lost_request_costs_itself_and_no_byte_is_called_unparsed() {
    let mut story = Story::new();
    story.send(V1).status(401).miss(LOST).status(404);
    story.send(V2).status(200);
    story.send(V1).status(403);
    assert_eq!(
        story.told(),
        [
            "v1 GET /latest/meta-data/ 401",
            "v2 GET /latest/user-data 200",
            "v1 GET /latest/meta-data/ 403"
        ]
    );
    let counters = story.counters();
    assert_eq!((counters.gaps, counters.gap_bytes), (1, 22));
    assert_eq!((counters.unparsed, counters.unparsed_bytes), (0, 0));
    assert_eq!(counters.unmatched_responses, 1);
}

#[test]
fn the_time_of_a_call_behind_a_hole_is_its_own() {
    let mut story = Story::new();
    story.miss(LOST).send(V2);
    story.now += 5 * MS;
    story.status(200);
    assert_eq!(calls(&story)[0].response.latency(), Some(6 * MS));
}

#[test]
fn hole_that_stays_is_given_up_with_the_response_timeout() {
    let mut story = Story::new();
    story.miss(LOST).send(V2);
    assert_eq!(
        story.http.next_deadline(),
        Some(after(60 * SECOND + 2 * MS))
    );
    assert_eq!(story.wait(61 * SECOND).told(), [V2_UNANSWERED]);
    assert_eq!(story.end(), [""; 0]);
    assert_eq!((story.counters().gaps, story.counters().gap_bytes), (1, 22));

    let mut story = Story::new();
    story.miss(LOST).send(V2).close();
    assert_eq!(story.told(), [V2_UNANSWERED]);

    let limits = HttpLimits {
        flow_bytes: 500,
        ..HttpLimits::default()
    };
    let mut story = Story::with_limits(limits);
    story.miss(LOST);
    for _ in 0..4 {
        story.send(V2);
    }
    assert_eq!(story.end().len(), 4);
}

#[test]
fn a_hole_in_a_head_costs_that_head() {
    let mut story = Story::new();
    story
        .send(&V1[..10])
        .miss(&V1[10..20])
        .send(&V1[20..])
        .send(V2)
        .close();
    assert_eq!(
        story.told(),
        [&format!("unparsed {}", V1.len() - 10), V2_UNANSWERED]
    );
    assert_eq!(story.counters().unparsed_bytes, V1.len() as u64 - 10);
    let mut cut = Story::new();
    cut.sent_as(|s| (s.len, s.bytes) = (100, V1[..30].into()));
    assert_eq!(cut.send(V2).end(), ["unparsed 30", V2_UNANSWERED]);
    assert_eq!(cut.counters().gap_bytes, 70);
}

#[test]
fn a_hole_that_ends_a_chunk_costs_nothing() {
    let mut story = Story::new();
    story
        .send("PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n")
        .miss("abcde")
        .send("\r\n0\r\n\r\n")
        .send(V2)
        .close();
    assert_eq!(story.told(), ["v1 PUT /a no answer", V2_UNANSWERED]);
}

#[test]
fn nothing_hides_behind_http_09() {
    for (behind, expected) in [
        ("\r\n", None),
        ("Host: x\r\n\r\n", Some("unparsed 11")),
        ("\r\nGET /b\r\nGE", Some("unparsed 10")),
    ] {
        let wire = format!("GET /a\n{behind}");
        let mut story = Story::new();
        let whole = story.send(&wire).end();
        assert_eq!(whole[0], "v1 GET /a HTTP/0.9 no answer", "{behind:?}");
        let rest: Vec<_> = whole[1..].iter().map(String::as_str).collect();
        assert_eq!(rest, Vec::from_iter(expected), "{behind:?}");
        let mut bytewise = Story::new();
        for byte in wire.as_bytes().chunks(1) {
            bytewise.send(byte);
        }
        assert_eq!(bytewise.end(), whole, "{behind:?}");
    }
    let mut story = Story::new();
    story.send(format!("GET /a\nHost: x\r\n{V1}{V2}"));
    assert_eq!(
        story.end(),
        [
            "unparsed 9",
            "v1 GET /a HTTP/0.9 no answer",
            V1_UNANSWERED,
            V2_UNANSWERED
        ]
    );
}

#[test]
fn behind_urgent_data_nothing_is_a_request() {
    let urgent = |story: &mut Story, bytes: &str| {
        story.sent_as(|s| {
            (s.urgent, s.len, s.bytes) = (true, u32::try_from(bytes.len()).unwrap(), bytes.into());
        });
    };
    let mut story = Story::new();
    story.send(V1).send("GET /a HT");
    urgent(&mut story, "x");
    story.send("TP/1.1\r\n\r\n").send(V2).status(200).close();
    assert_eq!(
        story.told(),
        [
            "v1 GET /latest/meta-data/ 200".to_owned(),
            format!("unparsed {}", 20 + V2.len())
        ]
    );
    // Nor after it was let go and goes on.
    let at = CLIENT.wrapping_add(u32::try_from(V1.len() + 20 + V2.len()).unwrap());
    story.send_at(at, V2);
    assert_eq!(story.end(), [format!("unparsed {}", V2.len())]);

    let mut in_body = Story::new();
    in_body.send("PUT /a HTTP/1.1\r\nContent-Length: 9\r\n\r\n1234");
    urgent(&mut in_body, "5");
    in_body.send("6789").send(V2);
    assert_eq!(
        in_body.end(),
        [
            "v1 PUT /a no answer".to_owned(),
            format!("unparsed {}", 5 + V2.len())
        ]
    );

    let mut reordered = Story::new();
    let at = CLIENT.wrapping_add(u32::try_from(V1.len()).unwrap());
    reordered.sent_as(|s| (s.urgent, s.seq, s.len, s.bytes) = (true, at, 1, "x".into()));
    reordered.send_at(CLIENT, V1);
    assert_eq!(reordered.end(), [format!("unparsed {}", V1.len() + 1)]);
    assert_eq!(reordered.counters().calls, 0);
}
