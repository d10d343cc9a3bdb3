//! What 106 real clients sent to IMDS in 479 recorded runs must be read as what it is, however it
//! is cut into segments.
//!
//! The expectation is computed here by simple means of its own, from the text of the recording.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail, outside of its test functions as well"
)]

use std::collections::BTreeSet;
use std::path::Path;

use imdsmon::event::bytes::ByteString;
use imdsmon::event::{ConnectionId, Endpoint, Event, Received, Sent, TaskId};
use imdsmon::http::call::{Call, HttpEvent, ImdsVersion, Response};
use imdsmon::http::{Http, HttpLimits};
use imdsmon::time::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
struct Run {
    client: String,
    mode: String,
    requests: Vec<Request>,
}

#[derive(Deserialize)]
struct Request {
    connection: u64,
    raw: ByteString,
    segments: Vec<usize>,
    /// A number, or a word for "never answered".
    status: serde_json::Value,
}

impl Request {
    fn status(&self) -> Option<u16> {
        self.status
            .as_u64()
            .map(|status| u16::try_from(status).unwrap())
    }

    /// Version and path.
    fn expected(&self) -> (ImdsVersion, String) {
        let text = self.raw.to_text().to_lowercase();
        let mut lines = text.lines();
        let mut words = lines.next().unwrap().split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let path = target.split('?').next().unwrap().to_owned();
        let has_token = lines
            .take_while(|line| !line.is_empty())
            .any(|line| line.starts_with("x-aws-ec2-metadata-token:"));
        let version = if has_token {
            ImdsVersion::V2
        } else if method == "put" && path.ends_with("/api/token") {
            ImdsVersion::Token
        } else {
            ImdsVersion::V1
        };
        (version, path)
    }

    /// The bytes in their recorded segments.
    fn cut(&self) -> Vec<&[u8]> {
        let mut rest = &self.raw[..];
        let mut pieces = Vec::new();
        for &len in &self.segments {
            let (piece, behind) = rest.split_at(len.min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        pieces.push(rest);
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }
}

fn corpus() -> Vec<Run> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/clients.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A conversation on one connection.
struct Wire {
    http: Http,
    found: Vec<HttpEvent>,
    sent: u32,
    received: u32,
}

impl Wire {
    fn new() -> Self {
        let mut wire = Self {
            http: Http::new(HttpLimits::default()),
            found: Vec::new(),
            sent: 1000,
            received: 2000,
        };
        wire.segment(true, b"");
        wire
    }

    fn send(&mut self, bytes: &[u8]) {
        self.segment(false, bytes);
    }

    fn segment(&mut self, syn: bool, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).unwrap();
        let sent = Sent {
            time: Timestamp::default(),
            connection: ConnectionId(1),
            task: TaskId::new(1),
            server: Endpoint::V4,
            seq: self.sent,
            len,
            syn,
            fin: false,
            rst: false,
            urgent: false,
            bytes: bytes.into(),
        };
        self.sent = self.sent.wrapping_add(len);
        self.http.feed(&Event::Sent(sent), &mut self.found);
    }

    fn response(&mut self, status: Option<u16>) {
        let Some(status) = status else { return };
        let head = format!("HTTP/1.1 {status} X\r\nServer: EC2ws\r\nContent-Length: 0\r\n\r\n");
        let len = u32::try_from(head.len()).unwrap();
        let received = Received {
            time: Timestamp::default(),
            connection: ConnectionId(1),
            seq: self.received,
            len,
            fin: false,
            rst: false,
            head: head.into_bytes().into(),
        };
        self.received = self.received.wrapping_add(len);
        self.http.feed(&Event::Received(received), &mut self.found);
    }

    /// All calls; anything else is a failure.
    fn calls(mut self) -> Vec<Call> {
        self.http.finish(&mut self.found);
        let call = |event| match event {
            HttpEvent::Call(call) => *call,
            HttpEvent::Unparsed(unparsed) => panic!("{unparsed:?}"),
        };
        self.found.into_iter().map(call).collect()
    }
}

fn assert_is(call: &Call, request: &Request, how: &str) {
    let (version, path) = request.expected();
    let said = (
        call.request.auth.version(),
        call.request.path.to_lowercase(),
        call.response.status(),
    );
    assert_eq!(
        said,
        (version, path, request.status()),
        "{how}: {:?}",
        request.raw
    );
    let answered = call.response != Response::None;
    assert_eq!(
        answered,
        request.status().is_some(),
        "{how}: {:?}",
        request.raw
    );
}

fn assert_one(pieces: &[&[u8]], request: &Request, how: &str) {
    let mut wire = Wire::new();
    for piece in pieces {
        wire.send(piece);
    }
    wire.response(request.status());
    let calls = wire.calls();
    assert_eq!(calls.len(), 1, "{how}: {:?}", request.raw);
    assert_is(&calls[0], request, how);
}

#[test]
fn the_corpus_is_all_there() {
    let runs = corpus();
    let clients: BTreeSet<_> = runs.iter().map(|run| &run.client).collect();
    let requests: usize = runs.iter().map(|run| run.requests.len()).sum();
    assert_eq!((clients.len(), runs.len(), requests), (106, 479, 2914));
}

#[test]
fn every_request_is_read_right_however_it_is_cut() {
    let mut seen = BTreeSet::new();
    let runs = corpus();
    for request in runs.iter().flat_map(|run| &run.requests) {
        let raw = &request.raw[..];
        assert_one(&[raw], request, "whole");
        assert_one(&request.cut(), request, "in its segments");
        // Every cut of every request once: many runs sent the very same bytes.
        if !seen.insert((raw, request.status())) {
            continue;
        }
        let bytes: Vec<_> = raw.chunks(1).collect();
        assert_one(&bytes, request, "byte by byte");
        for at in 1..raw.len() {
            let (left, right) = raw.split_at(at);
            assert_one(&[left, right], request, "in two");
        }
    }
    assert!(seen.len() > 500, "{}", seen.len());
}

#[test]
fn every_connection_is_read_right_as_a_dialogue_and_pipelined() {
    let mut seen = 0;
    for run in corpus() {
        let connections: BTreeSet<_> = run.requests.iter().map(|r| r.connection).collect();
        for connection in connections {
            let requests: Vec<_> = run
                .requests
                .iter()
                .filter(|r| r.connection == connection)
                .collect();
            seen += requests.len();
            let how = format!("{} {} connection {connection}", run.client, run.mode);

            let mut dialogue = Wire::new();
            for request in &requests {
                for piece in request.cut() {
                    dialogue.send(piece);
                }
                dialogue.response(request.status());
            }
            let mut pipelined = Wire::new();
            let all: Vec<_> = requests.iter().flat_map(|r| r.raw.to_vec()).collect();
            pipelined.send(&all);
            for request in &requests {
                pipelined.response(request.status());
            }
            for calls in [dialogue.calls(), pipelined.calls()] {
                assert_eq!(calls.len(), requests.len(), "{how}");
                for (call, request) in calls.iter().zip(&requests) {
                    assert_is(call, request, &how);
                }
            }
        }
    }
    assert_eq!(seen, 2914);
}
