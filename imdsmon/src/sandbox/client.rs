//! A small blocking IMDS client for processes inside the simulator.
//!
//! # Calls the simulator only
//!
//! On a cloud host the IMDS addresses belong to a real service: a stray call uses its rate limit,
//! appears in the owner's metrics and may fetch credentials. So this module calls
//! [`ensure_inside`] before it opens a connection. That sends nothing and checks two things:
//!
//! 1. The simulator's marker exists. The server of an [`ImdsSimulator`](super::ImdsSimulator)
//!    binds an abstract Unix socket. Abstract names belong to a network namespace, so the name
//!    exists in no other namespace, whatever addresses or routes that has.
//! 2. The target address is local. A socket binds only to local addresses (a new namespace has
//!    `ip_nonlocal_bind` 0), and packets to a local address stay on `lo`.
//!
//! Every other client for the simulator must call [`ensure_inside`] before each `connect`.

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

/// The longest time for [`get`] and [`token`] to connect, and then for each read.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3);

/// The largest response that is read, in bytes, head and body.
const MAX_RESPONSE_SIZE: usize = 1024 * 1024;

/// The most headers of a response; the simulated IMDS sends 8.
const MAX_HEADERS: usize = 32;

/// `TCPI_OPT_SYN_DATA` of the kernel's `linux/tcp.h`: data in the SYN was accepted.
const TCPI_OPT_SYN_DATA: u8 = 32;

/// Why a call has no response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing was sent; see the module's documentation.
    #[error(
        "cannot call {0}: this process is not inside the IMDS simulator; start it with ImdsSimulator::enter"
    )]
    OutsideSimulator(SocketAddr),
    /// The connection failed, or was closed before the response was complete.
    #[error("the connection to the simulated IMDS failed: {0}")]
    Io(#[source] io::Error),
    #[error("the simulated IMDS did not respond in time")]
    Timeout,
    /// The response is not HTTP, or longer than 1 MiB.
    #[error("the simulated IMDS sent a malformed response")]
    Malformed,
    /// The token request was rejected with this status.
    #[error("the simulated IMDS rejected the token request with status {0}")]
    TokenRejected(u16),
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A read that times out on a socket returns the former.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Io(error),
        }
    }
}

/// A final response; interim ones (`100 Continue`) are skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    pub status: u16,
    /// Names and values, in order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl HttpResponse {
    /// Value of the first header with this name, in any case.
    #[must_use]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// Body as text; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Fails unless the calling thread is in a simulator's namespace and `address` is local there.
/// Sends nothing.
pub fn ensure_inside(address: SocketAddr) -> Result<(), ClientError> {
    let outside = |_: io::Error| ClientError::OutsideSimulator(address);
    let marker = UnixAddr::from_abstract_name(MARKER).map_err(outside)?;
    UnixDatagram::unbound()
        .and_then(|socket| socket.connect_addr(&marker))
        .map_err(outside)?;
    UdpSocket::bind(SocketAddr::new(address.ip().to_canonical(), 0)).map_err(outside)?;
    Ok(())
}

/// `GET path` on a new connection, with a token or without.
pub fn get(
    endpoint: Endpoint,
    path: &str,
    token: Option<&str>,
) -> Result<HttpResponse, ClientError> {
    ImdsConnection::open(address(endpoint), TIMEOUT)?.get(path, token)
}

/// Requests a token with a TTL of `ttl` seconds, on a new connection.
pub fn token(endpoint: Endpoint, ttl: u32) -> Result<String, ClientError> {
    ImdsConnection::open(address(endpoint), TIMEOUT)?.token(ttl)
}

#[must_use]
pub(crate) fn address(endpoint: Endpoint) -> SocketAddr {
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
    /// Connects from inside the simulator; `timeout` also limits each later read and write.
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

    /// Requests a token with a TTL of `ttl` seconds.
    pub fn token(&mut self, ttl: u32) -> Result<String, ClientError> {
        let request = format!(
            "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\n\
             X-aws-ec2-metadata-token-ttl-seconds: {ttl}\r\nContent-Length: 0\r\n\r\n"
        );
        self.send(request.as_bytes())?;
        match self.read_response(false)? {
            response if response.status == 200 => Ok(response.text()),
            response => Err(ClientError::TokenRejected(response.status)),
        }
    }

    /// Sends these bytes, in one write if the send buffer has room.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads the next response; `to_head` if it is to a `HEAD` request and has no body.
    pub(crate) fn read_response(&mut self, to_head: bool) -> Result<HttpResponse, ClientError> {
        self.responses.next(&mut self.stream, to_head)
    }
}

/// Reads consecutive responses from one stream.
#[derive(Clone, Debug, Default)]
pub struct ResponseReader {
    buffer: Vec<u8>,
}

impl ResponseReader {
    /// Reads the next response; `to_head` if it is to a `HEAD` request and has no body.
    pub fn next(
        &mut self,
        stream: &mut impl Read,
        to_head: bool,
    ) -> Result<HttpResponse, ClientError> {
        loop {
            if let Some(response) = self.take(to_head)? {
                if response.status >= 200 {
                    return Ok(response);
                }
                continue;
            }
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk) {
                Ok(0) => return Err(ClientError::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
            if self.buffer.len() > MAX_RESPONSE_SIZE {
                return Err(ClientError::Malformed);
            }
        }
    }

    /// Removes the first response from the buffer, once it is complete.
    fn take(&mut self, to_head: bool) -> Result<Option<HttpResponse>, ClientError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let parsed = head.parse(&self.buffer);
        let parsed = parsed.map_err(|_not_http| ClientError::Malformed)?;
        let (httparse::Status::Complete(head_len), Some(status)) = (parsed, head.code) else {
            return Ok(None);
        };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let headers = head.headers.iter();
        let mut response = HttpResponse {
            status,
            headers: headers.map(|h| (h.name.into(), text(h.value))).collect(),
            body: Vec::new(),
        };
        let body_len = match response.header("content-length") {
            Some(length) if !to_head => length
                .parse()
                .ok()
                .filter(|n| *n <= MAX_RESPONSE_SIZE)
                .ok_or(ClientError::Malformed)?,
            _ => 0,
        };
        let end = head_len + body_len;
        if self.buffer.len() < end {
            return Ok(None);
        }
        self.buffer[head_len..end].clone_into(&mut response.body);
        self.buffer.drain(..end);
        Ok(Some(response))
    }
}

/// Whether the peer accepted data in the SYN of this connection (TCP Fast Open), on either side.
#[must_use]
pub fn had_data_in_syn(stream: &impl AsFd) -> bool {
    // The kernel fills as much of `struct tcp_info` as fits; `tcpi_options` is its sixth byte.
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
