//! For tests: a conversation with IMDS told line by line, and what came of it in one line each.

use std::time::Duration;

use crate::event::bytes::ByteString;
use crate::event::{ConnectionId, Endpoint, Event, Received, Sent, TaskId};
use crate::http::call::{Auth, Call, HttpEvent, Request, Response, TokenValue, Unparsed};
use crate::http::{Counters, Http, HttpLimits};
use crate::time::Timestamp;

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
/// Where the client's and the server's sequence numbers begin: the client's wraps around soon.
pub(super) const CLIENT: u32 = u32::MAX - 20;
pub(super) const SERVER: u32 = 7000;

/// So long after the story's begin.
pub(super) fn after(time: Duration) -> Timestamp {
    Timestamp::default() + time
}

pub(super) const PUT: &str = "PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0\r\n\r\n";
pub(super) const V1: &str = "GET /latest/meta-data/ HTTP/1.1\r\nHost: x\r\n\r\n";
pub(super) const V2: &str =
    "GET /latest/user-data HTTP/1.1\r\nX-aws-ec2-metadata-token: ****\r\n\r\n";

pub(super) const V1_UNANSWERED: &str = "v1 GET /latest/meta-data/ no answer";
pub(super) const V2_UNANSWERED: &str = "v2 GET /latest/user-data no answer";

/// One connection; every line takes a millisecond.
pub(super) struct Story {
    pub(crate) http: Http,
    pub(crate) found: Vec<HttpEvent>,
    pub(crate) now: Timestamp,
    pub(crate) connection: u64,
    sent: u32,
    received: u32,
}

impl Story {
    pub(crate) fn new() -> Self {
        Self::with_limits(HttpLimits::default())
    }

    pub(crate) fn with_limits(limits: HttpLimits) -> Self {
        let mut story = Self {
            http: Http::new(limits),
            found: Vec::new(),
            now: Timestamp::default(),
            connection: 1,
            sent: CLIENT,
            received: SERVER,
        };
        story.connect(1);
        story
    }

    /// Another connection.
    pub(crate) fn connect(&mut self, connection: u64) -> &mut Self {
        self.connection = connection;
        (self.sent, self.received) = (CLIENT, SERVER);
        self.sent_as(|sent| sent.syn = true)
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let seq = self.sent;
        self.send_at(seq, bytes)
    }

    pub(crate) fn send_at(&mut self, seq: u32, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        self.sent_as(|sent| {
            sent.seq = seq;
            sent.bytes = bytes.into();
            sent.len = u32::try_from(bytes.len()).unwrap();
        })
    }

    /// Sends bytes that the monitor misses.
    pub(crate) fn miss(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let len = u32::try_from(bytes.as_ref().len()).unwrap();
        self.sent = self.sent.wrapping_add(len);
        self
    }

    pub(crate) fn sent_as(&mut self, change: impl FnOnce(&mut Sent)) -> &mut Self {
        let mut sent = Sent {
            time: self.tick(),
            connection: ConnectionId(self.connection),
            task: TaskId::new(5),
            server: Endpoint::V4,
            seq: self.sent,
            len: 0,
            syn: false,
            fin: false,
            rst: false,
            urgent: false,
            bytes: ByteString::default(),
        };
        change(&mut sent);
        let end = sent.seq.wrapping_add(sent.len);
        if end.wrapping_sub(self.sent) < 1 << 31 {
            self.sent = end;
        }
        self.feed(&Event::Sent(sent))
    }

    /// The server answers with a head, and with a body in the same segment.
    pub(crate) fn answer(&mut self, head: &str, body: usize) -> &mut Self {
        let bytes = head.as_bytes();
        self.received_as(|segment| {
            segment.head = bytes.into();
            segment.len = u32::try_from(bytes.len() + body).unwrap();
        })
    }

    pub(crate) fn status(&mut self, status: u16) -> &mut Self {
        let head = format!("HTTP/1.1 {status} X\r\nServer: EC2ws\r\nContent-Length: 3\r\n\r\n");
        self.answer(&head, 3)
    }

    /// The server sends bytes that the monitor misses.
    pub(crate) fn miss_answer(&mut self, len: u32) -> &mut Self {
        self.received = self.received.wrapping_add(len);
        self
    }

    pub(crate) fn received_as(&mut self, change: impl FnOnce(&mut Received)) -> &mut Self {
        let mut segment = Received {
            time: self.tick(),
            connection: ConnectionId(self.connection),
            seq: self.received,
            len: 0,
            fin: false,
            rst: false,
            head: ByteString::default(),
        };
        change(&mut segment);
        let end = segment.seq.wrapping_add(segment.len);
        if end.wrapping_sub(self.received) < 1 << 31 {
            self.received = end;
        }
        self.feed(&Event::Received(segment))
    }

    pub(crate) fn close(&mut self) -> &mut Self {
        let (time, connection) = (self.tick(), ConnectionId(self.connection));
        self.feed(&Event::Closed { time, connection })
    }

    pub(crate) fn wait(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        let time = self.now;
        self.feed(&Event::Tick { time })
    }

    pub(crate) fn feed(&mut self, event: &Event) -> &mut Self {
        self.http.feed(event, &mut self.found);
        self.http.table.check(&self.http.limits);
        self
    }

    /// What was found since the last time, a line each.
    pub(crate) fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.found).iter().map(line).collect()
    }

    /// What was found to the end, a line each.
    pub(crate) fn end(&mut self) -> Vec<String> {
        self.http.finish(&mut self.found);
        assert_eq!(self.http.next_deadline(), None);
        self.told()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.http.counters()
    }

    fn tick(&mut self) -> Timestamp {
        self.now += MS;
        self.now
    }
}

/// A finding in one line: `v1 GET /latest/ 200`.
pub(super) fn line(event: &HttpEvent) -> String {
    let call = match event {
        HttpEvent::Call(call) => call,
        HttpEvent::Unparsed(Unparsed { bytes, .. }) => return format!("unparsed {bytes}"),
    };
    let Call {
        request:
            Request {
                auth,
                method,
                path,
                protocol,
                ..
            },
        response,
        ..
    } = &**call;
    let version: &str = auth.version().into();
    let token = match auth {
        Auth::V2(TokenValue::Empty) => "(empty)",
        _ => "",
    };
    let protocol = match *protocol {
        "1.1" => "",
        other => &format!(" HTTP/{other}"),
    };
    let response = match (response, response.status()) {
        (Response::None, _) => "no answer".to_owned(),
        (_, None) => "?".to_owned(),
        (_, Some(status)) => status.to_string(),
    };
    format!("{version}{token} {method} {path}{protocol} {response}")
}

/// The calls found and not yet told.
pub(super) fn calls(story: &Story) -> Vec<&Call> {
    let found = story.found.iter();
    let calls = found.filter_map(|event| match event {
        HttpEvent::Call(call) => Some(&**call),
        HttpEvent::Unparsed(_) => None,
    });
    calls.collect()
}
