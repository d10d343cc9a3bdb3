//! Conversations, and the calls they are.

use crate::event::{ConnectionId, TaskId};
use crate::http::test_support::{
    CLIENT, MS, PUT, Story, V1, V1_UNANSWERED, V2, V2_UNANSWERED, after, calls,
};

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
    assert_eq!(calls[0].response.server(), Some("EC2ws"));
    assert_eq!(
        (calls[0].time, calls[0].task),
        (after(2 * MS), TaskId::new(5))
    );
    assert_eq!(calls[0].response.latency(), Some(MS));
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
        .status(200)
        .status(403);
    assert_eq!(
        story.told(),
        [
            "v1 GET /latest/meta-data/ 200",
            "v2 GET /latest/user-data 403"
        ]
    );
    assert_eq!(
        story.counters().retransmitted_bytes,
        (V1.len() + 9 + V1.len() - 5) as u64
    );
    assert_eq!(story.close().told(), [""; 0]);
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
fn connection_older_than_the_monitor_begins_where_captured() {
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
fn a_connection_that_sends_nothing_is_no_finding() {
    let mut story = Story::new();
    story
        .sent_as(|s| s.fin = true)
        .received_as(|r| r.fin = true)
        .close();
    assert_eq!(story.end(), [""; 0]);
}

#[test]
fn findings_come_out_by_connection_at_the_end() {
    let mut story = Story::new();
    for connection in [7, 3, 5, 2] {
        story.connect(connection).send(V1);
    }
    story.http.finish(&mut story.found);
    let order: Vec<_> = calls(&story).iter().map(|call| call.connection).collect();
    assert_eq!(order, [2, 3, 5, 7].map(ConnectionId));
}
