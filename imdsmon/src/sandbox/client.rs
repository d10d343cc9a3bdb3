//! A small blocking IMDS client for processes inside a sandbox.
//!
//! # It never leaves a sandbox
//!
//! On a cloud host the IMDS addresses are a real service: a stray call spends its rate limit,
//! shows in the owner's metrics and may fetch credentials. Every connection that this module
//! opens therefore passes [`ensure_inside`] first, which sends nothing and asks the kernel two
//! things:
//!
//! 1. Is the sandbox's marker there? The server of a [`ImdsSimulator`](super::ImdsSimulator) holds an
//!    abstract Unix socket, and abstract names exist per network namespace: no other namespace
//!    has it, whatever its addresses or routes are.
//! 2. Is the address to call one of this namespace's own? A socket binds only to own addresses
//!    (a new namespace has `ip_nonlocal_bind` 0), and what is sent to an own address stays on
//!    `lo`.
//!
//! Whoever writes another client for the sandbox calls [`ensure_inside`] before each
//! `connect`, too.

use std::{
    io::{self, Read, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd as _},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddr, UnixDatagram},
    },
    time::Duration,
};

use super::{IMDS_V4, IMDS_V6, MARKER};
use crate::event::Endpoint;

/// How long [`get`] and [`token`] wait to connect, and then for each piece of an answer.
pub const TIMEOUT: Duration = Duration::from_secs(3);

/// The longest answer that is read, in bytes, head and body.
const MAX_ANSWER: usize = 1024 * 1024;

/// `TCPI_OPT_SYN_DATA` of the kernel's `linux/tcp.h`: data in the SYN was accepted.
const TCPI_OPT_SYN_DATA: u8 = 32;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// See the module's text; nothing was sent.
    #[error(
        "cannot call {0}: this process is not inside the IMDS simulator; start it with ImdsSimulator::enter"
    )]
    Outside(SocketAddr),
    /// The connection failed, or was closed before the answer was complete.
    #[error("the connection to the simulated IMDS failed: {0}")]
    Io(#[source] io::Error),
    /// Nothing came in time.
    #[error("the simulated IMDS did not answer in time")]
    Timeout,
    /// What came was not HTTP, or was longer than 1 MiB.
    #[error("the simulated IMDS answered something that is not HTTP")]
    NotHttp,
    /// A token was asked for and refused.
    #[error("the simulated IMDS answered the token request with status {0}")]
    NoToken(u16),
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A socket with a timeout says the former.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Io(error),
        }
    }
}

/// An answer; interim ones (`100 Continue`) are not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Names and values, in order, as they came.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// Value of the first header with this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// Body as text; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Fails unless the calling thread is in a sandbox's namespace and `address` belongs to it.
/// Sends nothing.
pub fn ensure_inside(address: SocketAddr) -> Result<(), ClientError> {
    let outside = |_: io::Error| ClientError::Outside(address);
    let marker = UnixAddr::from_abstract_name(MARKER).map_err(outside)?;
    UnixDatagram::unbound()
        .and_then(|socket| socket.connect_addr(&marker))
        .map_err(outside)?;
    UdpSocket::bind(SocketAddr::new(address.ip().to_canonical(), 0)).map_err(outside)?;
    Ok(())
}

/// `GET path` on a connection of its own, with a token or without; at most [`TIMEOUT`].
pub fn get(
    endpoint: Endpoint,
    path: &str,
    token: Option<&str>,
) -> Result<HttpResponse, ClientError> {
    ImdsConnection::open(address(endpoint), TIMEOUT)?.get(path, token)
}

/// Fetches a token that lives `ttl` seconds, on a connection of its own; at most [`TIMEOUT`].
pub fn token(endpoint: Endpoint, ttl: u32) -> Result<String, ClientError> {
    ImdsConnection::open(address(endpoint), TIMEOUT)?.token(ttl)
}

/// Where an endpoint listens.
#[must_use]
pub fn address(endpoint: Endpoint) -> SocketAddr {
    match endpoint {
        Endpoint::V4 => IMDS_V4,
        Endpoint::V6 => IMDS_V6,
    }
}

/// One connection, for any number of requests.
#[derive(Debug)]
pub struct ImdsConnection {
    stream: TcpStream,
    responses: ResponseReader,
}

impl ImdsConnection {
    /// Connects from inside a sandbox; `timeout` is for this and for each later read or write.
    pub fn open(address: SocketAddr, timeout: Duration) -> Result<Self, ClientError> {
        ensure_inside(address)?;
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self {
            stream,
            responses: ResponseReader::default(),
        })
    }

    /// `GET path`, with a token or without.
    pub fn get(&mut self, path: &str, token: Option<&str>) -> Result<HttpResponse, ClientError> {
        let token = token.map_or_else(String::new, |token| {
            format!("X-aws-ec2-metadata-token: {token}\r\n")
        });
        self.send(
            format!("GET {path} HTTP/1.1\r\nHost: 169.254.169.254\r\n{token}\r\n").as_bytes(),
        )?;
        self.read_response(false)
    }

    /// Fetches a token that lives `ttl` seconds.
    pub fn token(&mut self, ttl: u32) -> Result<String, ClientError> {
        let request = format!(
            "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\n\
             X-aws-ec2-metadata-token-ttl-seconds: {ttl}\r\nContent-Length: 0\r\n\r\n"
        );
        self.send(request.as_bytes())?;
        match self.read_response(false)? {
            answer if answer.status == 200 => Ok(answer.text()),
            answer => Err(ClientError::NoToken(answer.status)),
        }
    }

    /// Sends these bytes, in one write if the kernel has room.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads the next answer; one to a `HEAD` request has no body.
    pub fn read_response(&mut self, to_head: bool) -> Result<HttpResponse, ClientError> {
        self.responses.next(&mut self.stream, to_head)
    }
}

/// Cuts what a server sends into answers.
#[derive(Clone, Debug, Default)]
pub struct ResponseReader {
    buffer: Vec<u8>,
}

impl ResponseReader {
    /// Reads the next answer from `stream`; one to a `HEAD` request has no body.
    pub fn next(
        &mut self,
        stream: &mut impl Read,
        to_head: bool,
    ) -> Result<HttpResponse, ClientError> {
        loop {
            if let Some(answer) = self.take(to_head)? {
                if answer.status >= 200 {
                    return Ok(answer);
                }
                continue;
            }
            let mut piece = [0; 4096];
            match stream.read(&mut piece) {
                Ok(0) => return Err(ClientError::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => self.buffer.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
            if self.buffer.len() > MAX_ANSWER {
                return Err(ClientError::NotHttp);
            }
        }
    }

    fn take(&mut self, to_head: bool) -> Result<Option<HttpResponse>, ClientError> {
        let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]);
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1."))
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|status| status.parse().ok())
            .ok_or(ClientError::NotHttp)?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut answer = HttpResponse {
            status,
            headers,
            body: Vec::new(),
        };
        let length = match answer.header("content-length") {
            Some(length) if !to_head => length
                .parse()
                .ok()
                .filter(|n| *n <= MAX_ANSWER)
                .ok_or(ClientError::NotHttp)?,
            _ => 0,
        };
        let whole = end + 4 + length;
        if self.buffer.len() < whole {
            return Ok(None);
        }
        self.buffer[end + 4..whole].clone_into(&mut answer.body);
        self.buffer.drain(..whole);
        Ok(Some(answer))
    }
}

/// Whether data in the SYN of this connection was accepted (TCP Fast Open), sent or received.
#[must_use]
pub fn had_data_in_syn(stream: &impl AsFd) -> bool {
    // The kernel fills as much of `struct tcp_info` as there is room for; `tcpi_options` is
    // its sixth byte since it exists.
    let mut info = [0_u8; 8];
    let mut len: libc::socklen_t = 8;
    // SAFETY: the pointer and the length are those of a live array.
    let got = unsafe {
        libc::getsockopt(
            stream.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    got == 0 && info[5] & TCPI_OPT_SYN_DATA != 0
}
