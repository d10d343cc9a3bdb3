//! Conversations, and the calls they are.

use std::time::Duration;

use super::Limits;
use super::story::{
    CLIENT, MS, PUT, SECOND, SERVER, Story, V1, V1_UNANSWERED, V2, V2_UNANSWERED, calls,
};
use crate::capture::event::Event;

#[test]
fn an_sdk_fetches_a_token_and_uses_it_on_one_connection() {
    let mut story = Story::new();
    story
        .send(PUT)
        .status(200)
        .send(V2)
        .status(200)
        .send(V1)
        .status(401);
    let calls = calls(&story);
    assert_eq!(calls[0].imds_server.as_deref(), Some("EC2ws"));
    assert_eq!((calls[0].time, calls[0].task), (2 * MS, 5));
    assert_eq!(calls[0].latency_us, Some(1000));
    assert_eq!(
        story.end(),
        [
            "token PUT /latest/api/token 200",
            "v2 GET /latest/user-data 200",
            "v1 GET /latest/meta-data/ 401"
        ]
    );
}

#[test]
fn retransmits_count_once() {
    let mut story = Story::new();
    story.send(V1).send_at(CLIENT, V1).send_at(CLIENT, &V1[..9]);
    // A retransmit may carry new bytes behind the old ones.
    story
        .send_at(CLIENT.wrapping_add(5), format!("{}{V2}", &V1[5..]))
        .status(200);
    assert_eq!(story.told(), ["v1 GET /latest/meta-data/ 200"]);
    assert_eq!(
        story.counters().retransmitted_bytes,
        (V1.len() + 9 + V1.len() - 5) as u64
    );
    assert_eq!(story.close().told(), [V2_UNANSWERED]);
    // The kernel retransmits after the program has closed its socket, too.
    story.send_at(CLIENT, format!("{V1}{V2}"));
    assert_eq!(story.end(), [""; 0]);
}

#[test]
fn segments_may_come_out_of_order() {
    let mut story = Story::new();
    let at = |i: u32| CLIENT.wrapping_add(i);
    story
        .send_at(at(30), &V1[30..])
        .send_at(at(10), &V1[10..20])
        .send_at(at(5), &V1[5..12]);
    assert_eq!(story.told(), [""; 0]);
    story
        .send_at(at(20), &V1[20..35])
        .send_at(at(0), &V1[..7])
        .status(200);
    assert_eq!(story.end(), ["v1 GET /latest/meta-data/ 200"]);
    assert_eq!(story.counters().gaps, 0);
}

#[test]
fn fast_open_is_not_a_second_request() {
    let mut story = Story::new();
    story.connect(2);
    story.sent_as(|s| (s.syn, s.len, s.bytes) = (true, 5, V1[..5].into()));
    story.send_at(CLIENT, V1).status(200);
    assert_eq!(story.end(), ["v1 GET /latest/meta-data/ 200"]);
}

#[test]
fn a_connection_older_than_the_monitor_begins_where_it_is_heard() {
    let mut story = Story::new();
    story.connection = 9;
    story.send_at(123, V2).status(200);
    assert_eq!(story.end(), ["v2 GET /latest/user-data 200"]);
}

#[test]
fn a_socket_that_is_connected_again_is_a_new_connection() {
    let mut story = Story::new();
    story.send(V1).sent_as(|s| (s.syn, s.seq) = (true, 99));
    assert_eq!(story.told(), [V1_UNANSWERED]);
    story.send_at(99, V2);
    assert_eq!(story.end(), [V2_UNANSWERED]);
}

#[test]
fn a_hole_that_nobody_fills_is_unparsed_and_the_next_request_is_not() {
    let lost = "GET /lost HTTP/1.1\r\n\r\n";
    let expected = [&format!("unparsed {}", lost.len()), V2_UNANSWERED];
    let mut story = Story::new();
    story.miss(lost).send(V2);
    assert_eq!(story.http.next_deadline(), Some(60 * SECOND + 2 * MS));
    assert_eq!(story.wait(61 * SECOND).told(), expected[..1]);
    assert_eq!(story.end(), expected[1..]);
    assert_eq!((story.counters().gaps, story.counters().gap_bytes), (1, 22));

    let mut story = Story::new();
    story.miss(lost).send(V2).close();
    assert_eq!(story.told(), expected);

    let limits = Limits {
        flow_bytes: 500,
        ..Limits::default()
    };
    let mut story = Story::with_limits(limits);
    story.miss(lost);
    for _ in 0..4 {
        story.send(V2);
    }
    assert_eq!(story.end().len(), 5);
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
        [&format!("unparsed {}", V1.len()), V2_UNANSWERED]
    );
    let mut cut = Story::new();
    cut.sent_as(|s| (s.len, s.bytes) = (100, V1[..30].into()));
    assert_eq!(cut.send(V2).end(), ["unparsed 100", V2_UNANSWERED]);
}

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
fn http_09_is_answered_without_a_head_and_ends_the_talk() {
    let mut story = Story::new();
    story.send("GET /a\r\n").send(V2).received_as(|r| r.len = 5);
    assert_eq!(story.end(), ["v1 GET /a HTTP/0.9 ?"]);
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
fn an_answer_that_takes_a_minute_is_none_and_does_not_go_to_the_next_request() {
    let mut story = Story::new();
    story.send(V1);
    assert_eq!(story.http.next_deadline(), Some(60 * SECOND + 2 * MS));
    assert_eq!(story.wait(59 * SECOND).told(), [""; 0]);
    assert_eq!(story.wait(SECOND).told(), [V1_UNANSWERED]);
    assert_eq!(story.http.next_deadline(), None);
    story.send(V2).status(200).status(403);
    assert_eq!(story.end(), ["v2 GET /latest/user-data 403"]);
    assert_eq!(story.counters().late_responses, 1);
}

#[test]
fn silence_costs_no_wakeup() {
    let mut story = Story::new();
    assert_eq!(story.http.next_deadline(), None);
    story.send(V1).status(200);
    assert_eq!(story.http.next_deadline(), None);
    story.wait(700 * SECOND);
    assert!(story.http.table.oldest().is_none());
    assert_eq!(story.end().len(), 1);
}

#[test]
fn an_incomplete_head_is_unparsed_after_ten_minutes() {
    let mut story = Story::new();
    story.send("GET /");
    assert_eq!(story.http.next_deadline(), Some(600 * SECOND + 2 * MS));
    assert_eq!(story.wait(601 * SECOND).told(), ["unparsed 5"]);
}

#[test]
fn a_connection_that_sends_nothing_is_no_finding() {
    let mut story = Story::new();
    story
        .sent_as(|s| s.fin = true)
        .received_as(|r| r.fin = true)
        .close();
    assert_eq!(story.end(), [""; 0]);
}

#[test]
fn the_least_recently_used_connection_makes_room() {
    let limits = Limits {
        flows: 2,
        ..Limits::default()
    };
    let mut story = Story::with_limits(limits);
    story.send(V1).connect(2).send("GET /");
    story.connection = 1;
    story.send_at(CLIENT, V1).connect(3);
    assert_eq!(story.told(), ["unparsed 5"]);
    assert_eq!(story.counters().evicted_flows, 1);
    assert_eq!(story.end(), [V1_UNANSWERED]);
}

#[test]
fn too_many_bytes_make_room_and_never_a_guess() {
    let limits = Limits {
        total_bytes: 4096,
        ..Limits::default()
    };
    let mut story = Story::with_limits(limits);
    let long = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(2500));
    story.send(&long).connect(2).send(&long);
    assert_eq!(story.told(), [format!("unparsed {}", long.len())]);
    assert_eq!(
        story.connect(3).send(V1).status(200).told(),
        ["v1 GET /latest/meta-data/ 200"]
    );
}

#[test]
fn too_many_waiting_requests_give_up_the_oldest() {
    let limits = Limits {
        pending: 2,
        ..Limits::default()
    };
    let mut story = Story::with_limits(limits);
    story
        .send([V1, V2, V1].concat())
        .status(401)
        .status(200)
        .status(404);
    assert_eq!(
        story.end(),
        [
            V1_UNANSWERED,
            "v2 GET /latest/user-data 200",
            "v1 GET /latest/meta-data/ 404"
        ]
    );
}

#[test]
fn findings_come_out_by_connection_at_the_end() {
    let mut story = Story::new();
    for connection in [7, 3, 5, 2] {
        story.connect(connection).send(V1);
    }
    story.http.finish(&mut story.found);
    let order: Vec<_> = calls(&story).iter().map(|call| call.connection).collect();
    assert_eq!(order, [2, 3, 5, 7]);
}

#[test]
fn lost_records_are_noted() {
    let mut story = Story::new();
    story.feed(&Event::Lost {
        time: 0,
        records: 7,
    });
    assert_eq!(story.counters().lost_records, 7);
}

#[test]
fn limits_of_nothing_do_no_harm() {
    let limits = Limits {
        flows: 0,
        flow_bytes: 0,
        total_bytes: 0,
        pending: 0,
        answer_timeout: Duration::ZERO,
        idle: Duration::ZERO,
    };
    let mut story = Story::with_limits(limits);
    story
        .send(V1)
        .send_at(99, V1)
        .status(200)
        .wait(SECOND)
        .close();
    story.end();
}

/// `cargo test --release -p imdsmon a_busy_host -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn a_busy_host_costs_little() {
    let started = std::time::Instant::now();
    let rounds = 200_000_u32;
    let mut story = Story::new();
    for _ in 0..rounds {
        story.send(V2).status(200);
        story.found.clear();
    }
    println!("{:?} per request and answer", started.elapsed() / rounds);
}
