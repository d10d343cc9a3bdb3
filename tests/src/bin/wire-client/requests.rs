//! The bytes of each request.

use std::{net::SocketAddr, time::Duration};

use clap::ValueEnum;
use imdsmon::sandbox::client::{ClientError, ImdsConnection};

use crate::options::Send;

/// A request by name. Those with a token use a real one unless `--token` says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Request {
    /// Without a token
    V1,
    /// With a token
    V2,
    /// The token request
    Put,
    /// The token request without its TTL
    PutNoTtl,
    /// The token request with `Expect: 100-continue` and a chunked body
    ExpectChunkedPut,
    /// Token header with an empty value
    EmptyToken,
    /// Token header with a value that no server issued
    BadToken,
    /// Token without the `==` at its end
    UnpaddedToken,
    /// `x-aws-ec2-metadata-token`
    Lower,
    /// `X-AWS-EC2-METADATA-TOKEN`
    Upper,
    /// No space after the colon of the token header
    Nospace,
    /// Token header behind 3,000 bytes of another
    LateToken,
    /// Token header behind 12,000 bytes of another
    VeryLateToken,
    /// The header's name in the query, no token
    TokenInQuery,
    /// The header's name in the User-Agent, no token
    TokenInAgent,
    /// The header in the body of a POST, no token
    TokenInBody,
    /// `HEAD`
    Head,
    /// HTTP/1.0
    Http10,
    /// HTTP/1.0 that asks to keep the connection
    Http10KeepAlive,
    /// HTTP/0.9: no version, no headers
    Http09,
    /// Lines end in LF alone
    BareLf,
    /// HTTP/1.1 without `Host`
    NoHost,
    /// A raw space in the path
    RawSpace,
    /// A header with bytes that are not UTF-8
    NonUtf8,
    /// `Connection: close`
    Close,
    /// A path that does not exist
    NotFound,
    /// The role's credentials
    Credentials,
    /// A line that is not HTTP
    Garbage,
    /// The beginning of a TLS handshake
    TlsHello,
}

impl Request {
    /// Does its answer come without a body?
    pub(crate) fn is_head(self) -> bool {
        self == Self::Head
    }

    fn needs_token(self) -> bool {
        matches!(
            self,
            Self::V2
                | Self::UnpaddedToken
                | Self::Lower
                | Self::Upper
                | Self::Nospace
                | Self::LateToken
                | Self::VeryLateToken
        )
    }

    fn bytes(self, path: &str, token: &str) -> Vec<u8> {
        const PUT: &str = "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\n";
        const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds: 300\r\n";
        let get = |line: &str, header: &str| {
            format!("{line}\r\nHost: 169.254.169.254\r\nUser-Agent: wire-client\r\n{header}\r\n")
        };
        let with = |header: &str| get(&format!("GET {path} HTTP/1.1"), header);
        let text = match self {
            Self::V1 => with(""),
            Self::V2 => with(&format!("X-aws-ec2-metadata-token: {token}\r\n")),
            Self::Put => format!("{PUT}{TTL}Content-Length: 0\r\n\r\n"),
            Self::PutNoTtl => format!("{PUT}Content-Length: 0\r\n\r\n"),
            Self::ExpectChunkedPut => {
                format!(
                    "{PUT}{TTL}Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n0\r\n\r\n"
                )
            }
            Self::EmptyToken => with("X-aws-ec2-metadata-token: \r\n"),
            Self::BadToken => with("X-aws-ec2-metadata-token: not a token\r\n"),
            Self::UnpaddedToken => with(&format!(
                "X-aws-ec2-metadata-token: {}\r\n",
                token.trim_end_matches('=')
            )),
            Self::Lower => with(&format!("x-aws-ec2-metadata-token: {token}\r\n")),
            Self::Upper => with(&format!("X-AWS-EC2-METADATA-TOKEN: {token}\r\n")),
            Self::Nospace => with(&format!("X-aws-ec2-metadata-token:{token}\r\n")),
            Self::LateToken | Self::VeryLateToken => {
                let filler = "a".repeat(if self == Self::LateToken {
                    3000
                } else {
                    12_000
                });
                with(&format!(
                    "X-Filler: {filler}\r\nX-aws-ec2-metadata-token: {token}\r\n"
                ))
            }
            Self::TokenInQuery => get(
                &format!("GET {path}?X-aws-ec2-metadata-token:%20x HTTP/1.1"),
                "",
            ),
            Self::TokenInAgent => with("").replace("wire-client", "X-aws-ec2-metadata-token: x"),
            Self::TokenInBody => get(
                &format!("POST {path} HTTP/1.1"),
                "Content-Length: 31\r\n\r\nX-aws-ec2-metadata-token: body\r",
            )
            .trim_end_matches("\r\n")
            .to_owned(),
            Self::Head => get(&format!("HEAD {path} HTTP/1.1"), ""),
            Self::Http10 => get(&format!("GET {path} HTTP/1.0"), ""),
            Self::Http10KeepAlive => get(
                &format!("GET {path} HTTP/1.0"),
                "Connection: keep-alive\r\n",
            ),
            Self::Http09 => format!("GET {path}\r\n"),
            Self::BareLf => with("").replace("\r\n", "\n"),
            Self::NoHost => format!("GET {path} HTTP/1.1\r\n\r\n"),
            Self::RawSpace => get("GET /latest/meta-data/no such thing HTTP/1.1", ""),
            Self::NonUtf8 => {
                let bytes = with("X-Bytes: <>\r\n").into_bytes();
                return replace(&bytes, b"<>", b"\xff\xfe\x80");
            }
            Self::Close => with("Connection: close\r\n"),
            Self::NotFound => get("GET /computeMetadata/v1/ HTTP/1.1", ""),
            Self::Credentials => get(
                "GET /latest/meta-data/iam/security-credentials/imdsmon-demo-role HTTP/1.1",
                "",
            ),
            Self::Garbage => "this is not http\r\n\r\n".to_owned(),
            Self::TlsHello => return b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03".to_vec(),
        };
        text.into_bytes()
    }
}

/// Requests that are handed to the kernel together.
pub(crate) type Batch = Vec<Message>;

/// One request, ready to send.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    /// Does its answer come without a body?
    pub(crate) is_head: bool,
}

/// What the command line asks for, cut into sends. May fetch a token from `target`.
pub(crate) fn batches(
    options: &Send,
    target: SocketAddr,
    together: bool,
) -> Result<Vec<Batch>, ClientError> {
    let token = match &options.token {
        Some(token) => token.clone(),
        None if options.requests.iter().any(|request| request.needs_token()) => {
            ImdsConnection::open(target, Duration::from_secs(3))?.token(300)?
        }
        None => String::new(),
    };
    let named = options.requests.iter().map(|request| Message {
        bytes: request.bytes(&options.path, &token),
        is_head: request.is_head(),
    });
    let raw = options.raw.iter().map(|raw| Message {
        bytes: raw.0.clone(),
        is_head: false,
    });
    let all: Batch = named.chain(raw).collect();
    Ok(if together {
        vec![all]
    } else {
        all.into_iter().map(|one| vec![one]).collect()
    })
}

fn replace(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    match bytes.windows(old.len()).position(|window| window == old) {
        Some(at) => [&bytes[..at], new, &bytes[at + old.len()..]].concat(),
        None => bytes.to_vec(),
    }
}
