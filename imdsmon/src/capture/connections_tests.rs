//! Connections by their records.

use crate::capture::connections::*;
use imdsmon_common::RecordType;

const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

fn segment(cookie: u64, len: usize, flags: u8, sender: u32) -> Segment {
    Segment {
        header: Header {
            record_type: RecordType::Sent as u32,
            family: Family::Inet as u16,
            reserved: 0,
            time: 1,
            cookie,
        },
        seq: 1,
        len: u32::try_from(len).unwrap(),
        captured: 0,
        sender,
        flags,
        reserved: [0; 7],
    }
}

fn feed(sessions: &mut Connections, record: Record<'_>) -> Vec<Event> {
    let mut events = Vec::new();
    sessions.record(
        record,
        |boot| Timestamp::from_nanos(boot.cast_signed()),
        &mut |event| events.push(event),
    );
    events
}

fn send(sessions: &mut Connections, cookie: u64) -> Vec<Event> {
    feed(
        sessions,
        Record::Sent(segment(cookie, GET.len(), 0, 77), GET),
    )
}

fn release(sessions: &mut Connections, cookie: u64) -> Vec<Event> {
    feed(sessions, Record::Release(segment(cookie, 0, 0, 0).header))
}

#[test]
fn a_sender_whose_task_was_lost_is_known_by_its_number() {
    let events = send(&mut Connections::new(), 5);
    assert!(
        matches!(&events[0], Event::Task(task) if task.pid == 77 && task.task == TaskId::default())
    );
    assert!(matches!(&events[1], Event::Sent(sent) if sent.task == TaskId::new(1)));
}

#[test]
fn what_is_sent_after_the_close_belongs_to_the_old_connection() {
    let mut sessions = Connections::new();
    send(&mut sessions, 5);
    assert!(matches!(
        release(&mut sessions, 5)[..],
        [Event::Closed {
            connection: ConnectionId(1),
            ..
        }]
    ));
    let again = send(&mut sessions, 5);
    assert!(
        matches!(&again[..], [Event::Sent(sent)] if sent.connection == ConnectionId(1)),
        "{again:?}"
    );
    let fin = feed(
        &mut sessions,
        Record::Sent(segment(5, 0, tcp_flag::FIN, 0), b""),
    );
    assert!(
        matches!(&fin[..], [Event::Sent(sent)] if sent.connection == ConnectionId(1)),
        "{fin:?}"
    );
}

#[test]
fn the_end_of_an_unknown_connection_is_no_connection() {
    let mut sessions = Connections::new();
    let fin = Record::Sent(segment(5, 0, tcp_flag::FIN, 0), b"");
    assert_eq!(feed(&mut sessions, fin), []);
    assert_eq!(
        feed(&mut sessions, Record::Received(segment(5, 9, 0, 0), b"")),
        []
    );
    assert_eq!(sessions.open.len(), 0);
}

#[test]
fn short_connections_do_not_crowd_out_a_long_one() {
    let mut sessions = Connections::new();
    send(&mut sessions, 1);
    for cookie in 2..20_000 {
        send(&mut sessions, cookie);
        release(&mut sessions, cookie);
        feed(
            &mut sessions,
            Record::Sent(segment(cookie, 0, tcp_flag::FIN, 0), b""),
        );
    }
    assert!(sessions.take_evicted().is_empty());
    assert!(
        matches!(&send(&mut sessions, 1)[..], [Event::Sent(sent)] if sent.connection == ConnectionId(1))
    );
}

#[test]
fn too_many_open_connections_evict_the_oldest_and_say_so() {
    let mut sessions = Connections::new();
    for cookie in 0..=8192 {
        send(&mut sessions, cookie);
    }
    assert_eq!(sessions.take_evicted(), [0]);
    // The kernel reports the task anew, or the number of the sender does.
    let events = send(&mut sessions, 0);
    assert!(
        events.iter().any(|event| matches!(event, Event::Task(_))),
        "{events:?}"
    );
}
