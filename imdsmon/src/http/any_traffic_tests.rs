//! Any traffic whatever: nothing panics, memory is bounded, and how a stream is cut, repeated or
//! shuffled does not change what it says.

use std::time::Duration;

use proptest::prelude::*;

use super::{Http, HttpLimits};
use crate::event::bytes::ByteString;
use crate::event::{ConnectionId, Endpoint, Event, Received, Sent, TaskId};
use crate::http::test_support::line;
use crate::time::Timestamp;

/// Pieces that mean something, so that random streams reach every state.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known = prop_oneof![
        Just("GET / HTTP/1.1\r\n\r\n"),
        Just("GET /a b HTTP/1.1\r\nx-aws-ec2-metadata-token: **\n\n"),
        Just("PUT /latest/api/token HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
        Just("PUT /b HTTP/1.0\r\nContent-Length: 20\r\n\r\n"),
        Just("PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Just("5\r\nabcde\r\n"),
        Just("0\r\n\r\n"),
        Just("GET /nine\r\n"),
        Just("HEAD / HTTP/1.1\r\n"),
        Just("nonsense\n"),
        Just("\r\n"),
    ]
    .prop_map(|text: &str| text.as_bytes().to_vec());
    prop_oneof![8 => known, 1 => prop::collection::vec(any::<u8>(), 0..40)]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece(), 0..12).prop_map(|pieces| pieces.concat())
}

fn response() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(&b""[..]),
        Just(&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"[..]),
        Just(&b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"[..]),
        Just(&b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"[..]),
        Just(&b"HTTP/1.1 20"[..]),
        Just(&b"\0\0\0"[..]),
    ]
    .prop_map(<[u8]>::to_vec)
}

/// Mostly close to each other, and around the wrap.
fn seq() -> impl Strategy<Value = u32> {
    prop_oneof![8 => (0..120_u32).prop_map(|n| n.wrapping_sub(60)), 1 => any::<u32>()]
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![20 => 0..3000_i64, 1 => any::<i64>()].prop_map(Timestamp::from_nanos)
}

fn event() -> impl Strategy<Value = Event> {
    let extra = prop_oneof![9 => Just(0_u32), 2 => 0..100_u32, 1 => any::<u32>()];
    let sent = (
        time(),
        0..4_u64,
        seq(),
        extra.clone(),
        prop::bits::u8::ANY,
        stream(),
    )
        .prop_map(|(time, connection, seq, extra, flags, bytes)| {
            Event::Sent(Sent {
                time,
                connection: ConnectionId(connection),
                task: TaskId::new(1),
                server: Endpoint::V6,
                seq,
                len: u32::try_from(bytes.len()).unwrap().saturating_add(extra),
                syn: flags & 7 == 1,
                fin: flags & 8 != 0,
                rst: flags & 0x70 == 0x70,
                urgent: flags & 0xb0 == 0xb0,
                bytes: bytes.into(),
            })
        });
    let received = (
        time(),
        0..4_u64,
        seq(),
        extra,
        prop::bits::u8::ANY,
        response(),
    )
        .prop_map(|(time, connection, seq, extra, flags, head)| {
            Event::Received(Received {
                time,
                connection: ConnectionId(connection),
                seq,
                len: u32::try_from(head.len()).unwrap().saturating_add(extra),
                fin: flags & 7 == 7,
                rst: flags & 0x70 == 0x70,
                head: head.into(),
            })
        });
    prop_oneof![
        10 => sent,
        8 => received,
        1 => (time(), 0..4_u64).prop_map(|(time, connection)| Event::Closed { time, connection: ConnectionId(connection) }),
        1 => time().prop_map(|time| Event::Tick { time }),
    ]
}

fn limits() -> impl Strategy<Value = HttpLimits> {
    (
        0..5_usize,
        0..300_usize,
        0..5000_usize,
        0..4_usize,
        0..2000_u64,
        0..2000_u64,
    )
        .prop_map(
            |(flows, flow_bytes, total_bytes, pending, response_timeout, idle)| HttpLimits {
                flows,
                flow_bytes,
                total_bytes,
                pending,
                response_timeout: Duration::from_nanos(response_timeout),
                idle: Duration::from_nanos(idle),
            },
        )
}

/// Segments of a stream: where each begins, and its bytes.
fn cut(stream: &[u8], cuts: &[prop::sample::Index]) -> Vec<(usize, Vec<u8>)> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    ends.push(stream.len());
    ends.sort_unstable();
    let mut start = 0;
    ends.into_iter()
        .map(|end| {
            let from = std::mem::replace(&mut start, end);
            (from, stream[from..end].to_vec())
        })
        .collect()
}

/// What segments say, all sent at once by one task.
fn told(segments: &[(usize, Vec<u8>)], first: u32, limits: HttpLimits) -> Vec<String> {
    let mut http = Http::new(limits);
    let mut found = Vec::new();
    let mut send = |seq, syn, bytes: ByteString| {
        let len = u32::try_from(bytes.len()).unwrap();
        let sent = Sent {
            time: Timestamp::from_nanos(1),
            connection: ConnectionId(1),
            task: TaskId::new(1),
            server: Endpoint::V4,
            seq,
            len,
            syn,
            fin: false,
            rst: false,
            urgent: false,
            bytes,
        };
        http.feed(&Event::Sent(sent), &mut found);
    };
    send(first, true, ByteString::default());
    for (at, bytes) in segments {
        let seq = first.wrapping_add(u32::try_from(*at).unwrap());
        send(seq, false, bytes.clone().into());
    }
    http.finish(&mut found);
    found.iter().map(line).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn nothing_panics_and_memory_is_bounded(
        limits in limits(),
        events in prop::collection::vec(event(), 0..60),
    ) {
        let mut http = Http::new(limits.clone());
        let mut found = Vec::new();
        for event in &events {
            http.feed(event, &mut found);
            http.table.check(&limits);
        }
        http.finish(&mut found);
        prop_assert_eq!(http.next_deadline(), None);
        let counters = http.counters();
        prop_assert_eq!(counters.calls + counters.unparsed, found.len() as u64);
    }

    #[test]
    fn how_a_stream_is_cut_repeated_or_shuffled_does_not_matter(
        stream in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        repeats in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        swaps in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        first in seq(),
    ) {
        let whole = told(&[(0, stream.clone())], first, HttpLimits::default());
        let mut segments = cut(&stream, &cuts);
        for repeat in repeats {
            let segment = segments[repeat.index(segments.len())].clone();
            segments.push(segment);
        }
        for swap in swaps {
            let at = swap.index(segments.len());
            let other = (at + 1) % segments.len();
            segments.swap(at, other);
        }
        prop_assert_eq!(told(&segments, first, HttpLimits::default()), whole);
    }

    #[test]
    fn a_tight_limit_cuts_a_stream_at_the_same_places(
        stream in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        flow_bytes in 0..60_usize,
    ) {
        let limits = HttpLimits { flow_bytes, ..HttpLimits::default() };
        let whole = told(&[(0, stream.clone())], 0, limits.clone());
        prop_assert_eq!(told(&cut(&stream, &cuts), 0, limits), whole);
    }
}
