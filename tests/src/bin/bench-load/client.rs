//! A client of the simulated IMDS that costs next to nothing: the machine's processors are for
//! the monitor.
//!
//! Requests are written from templates. On each of some connections one request is outstanding:
//! all connections send, then all read. Nothing is pipelined.

use anyhow::{Context as _, Result, bail};
use imdsmon::sandbox::{
    IMDS_V4,
    client::{ImdsConnection, ensure_inside},
};
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

/// Connections at a time.
pub const CONNECTIONS: u32 = 16;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Digits of a request's number in its query.
const DIGITS: usize = 8;

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Without a token.
    V1,
    /// With a token.
    V2,
    /// For a token.
    Token,
}

impl Kind {
    /// What the call with this number is: half of all are v2, and every connection carries all
    /// kinds.
    pub fn of(number: u32) -> Self {
        match (number + number / CONNECTIONS) % 4 {
            0 => Self::V1,
            1 => Self::Token,
            _ => Self::V2,
        }
    }
}

/// How many, how fast, and on what.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Requests.
    pub count: u32,
    /// Requests per second; as fast as they are answered if not given.
    pub rate: Option<u32>,
    /// A new connection for each request.
    pub new_connections: bool,
}

/// Requests that lack only their number.
pub struct Templates {
    v1: Template,
    v2: Template,
    token: Template,
}

struct Template {
    bytes: Vec<u8>,
    number: usize,
}

struct Link {
    stream: TcpStream,
    buffer: [u8; 2048],
}

impl Templates {
    /// Fetches the token that the requests will carry. To be called inside the simulator.
    pub fn new() -> Result<Self> {
        ensure_inside(IMDS_V4)?;
        let token = ImdsConnection::open(IMDS_V4, PATIENCE)?.token(21_600)?;
        let get = "GET /latest/meta-data/instance-id";
        Ok(Self {
            v1: Template::new(get, ""),
            v2: Template::new(get, &format!("X-aws-ec2-metadata-token: {token}\r\n")),
            token: Template::new(
                "PUT /latest/api/token",
                "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\nContent-Length: 0\r\n",
            ),
        })
    }

    /// The request with this number.
    fn request(&mut self, number: u32) -> &[u8] {
        let template = match Kind::of(number) {
            Kind::V1 => &mut self.v1,
            Kind::V2 => &mut self.v2,
            Kind::Token => &mut self.token,
        };
        let mut left = number;
        for digit in template.bytes[template.number..][..DIGITS].iter_mut().rev() {
            // A remainder by ten is one digit.
            *digit = b'0' + u8::try_from(left % 10).unwrap_or_default();
            left /= 10;
        }
        &template.bytes
    }
}

impl Template {
    fn new(request: &str, headers: &str) -> Self {
        let begin = format!("{request}?n=");
        let bytes = format!(
            "{begin}00000000 HTTP/1.1\r\nHost: 169.254.169.254\r\n\
             User-Agent: aws-sdk-bench/1.0 ua/2.1 os/linux lang/rust\r\nAccept: */*\r\n{headers}\r\n"
        );
        Self {
            number: begin.len(),
            bytes: bytes.into_bytes(),
        }
    }
}

/// Carries out a plan, inside the simulator; returns the seconds it took.
pub fn carry_out(plan: Plan, templates: &mut Templates) -> Result<f64> {
    ensure_inside(IMDS_V4)?;
    let mut links = open()?;
    let start = Instant::now();
    let mut sent = 0;
    while sent < plan.count {
        if let Some(rate) = plan.rate {
            let due = start + Duration::from_secs_f64(f64::from(sent) / f64::from(rate));
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        if plan.new_connections && sent > 0 {
            links = open()?;
        }
        let mut busy = Vec::with_capacity(links.len());
        for link in &mut links {
            if sent < plan.count {
                link.stream.write_all(templates.request(sent))?;
                busy.push(link);
                sent += 1;
            }
        }
        for link in busy {
            link.response()?;
        }
    }
    Ok(start.elapsed().as_secs_f64())
}

fn open() -> Result<Vec<Link>> {
    (0..CONNECTIONS).map(|_| Link::open()).collect()
}

impl Link {
    fn open() -> Result<Self> {
        let stream = TcpStream::connect_timeout(&IMDS_V4, PATIENCE).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            buffer: [0; 2048],
        })
    }

    /// Reads one answer, which must be 200, to its end.
    fn response(&mut self) -> Result<()> {
        let mut len = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[len..])?;
            if read == 0 {
                bail!("the connection ended within an answer");
            }
            len += read;
            let response = &self.buffer[..len];
            if !response.starts_with(b"HTTP/1.1 200 ") {
                bail!("answered {:?}", String::from_utf8_lossy(response));
            }
            if let Some(total) = total(response) {
                if len > total {
                    bail!("more bytes than an answer has");
                }
                if len == total {
                    return Ok(());
                }
            }
        }
    }
}

/// Bytes of the whole answer, once its head is there.
fn total(response: &[u8]) -> Option<usize> {
    const LENGTH: &[u8] = b"Content-Length: ";
    let head = find(response, b"\r\n\r\n")? + 4;
    let digits = &response[find(response, LENGTH)? + LENGTH.len()..];
    let body = digits
        .iter()
        .take_while(|digit| digit.is_ascii_digit())
        .fold(0, |body, digit| body * 10 + usize::from(digit - b'0'));
    Some(head + body)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|here| here == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_carries_every_kind() {
        for connection in 0..CONNECTIONS {
            let kinds: Vec<_> = (0..4)
                .map(|turn| Kind::of(turn * CONNECTIONS + connection))
                .collect();
            assert!(
                [Kind::V1, Kind::V2, Kind::Token]
                    .iter()
                    .all(|kind| kinds.contains(kind)),
                "{kinds:?}"
            );
        }
    }

    #[test]
    fn an_answer_is_as_long_as_it_says() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(total(head), Some(head.len() + 12));
        assert_eq!(total(&head[..head.len() - 1]), None);
    }
}
