//! What bounds time and memory.

use std::time::Duration;

use super::HttpLimits;
use crate::http::test_support::{CLIENT, MS, SECOND, Story, V1, V1_UNANSWERED, V2, after};

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
    assert_eq!(
        story.http.next_deadline(),
        Some(after(600 * SECOND + 2 * MS))
    );
    assert_eq!(story.wait(601 * SECOND).told(), ["unparsed 5"]);
}

#[test]
fn the_least_recently_used_connection_makes_room() {
    let limits = HttpLimits {
        flows: 2,
        ..HttpLimits::default()
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
    let limits = HttpLimits {
        total_bytes: 4096,
        ..HttpLimits::default()
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
    let limits = HttpLimits {
        pending: 2,
        ..HttpLimits::default()
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
fn limits_of_nothing_do_no_harm() {
    let limits = HttpLimits {
        flows: 0,
        flow_bytes: 0,
        total_bytes: 0,
        pending: 0,
        response_timeout: Duration::ZERO,
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
