//! The command line.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::RawFd,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use imdsmon::sandbox::{IMDS_V4, IMDS_V6};

use crate::requests::Request;

/// Sends exact bytes to the simulated IMDS in exact ways. Runs only inside the simulator.
///
/// Prints one fact per line: `pid N` first, `sender N` if another process sends, `fast-open
/// yes|no`, then one line per answer: its status, `none` (nothing came) or `closed`.
#[derive(Debug, Parser)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Requests on one connection, each answered before the next is sent
    Send(Box<Send>),
    /// Many requests on many connections: prints `count STATUS N` and `seconds S`
    Load(Load),
    /// The bytes of requests as datagrams; nothing answers
    Udp(Udp),
}

/// Where to.
#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// Kind of socket
    #[arg(long, value_enum, default_value_t = Family::Ipv4)]
    pub(crate) socket: Family,
    /// Address; the default is that of IMDS
    #[arg(long)]
    address: Option<IpAddr>,
    /// Port
    #[arg(long, default_value_t = IMDS_V4.port())]
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Family {
    /// `AF_INET`
    Ipv4,
    /// `AF_INET6` to an IPv6 address
    Ipv6,
    /// `AF_INET6` to an IPv4 address, as Java does
    Mapped,
    /// `IPPROTO_MPTCP` over IPv4
    Mptcp,
}

impl Target {
    /// The address to connect to, in the family of the socket.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        let default = if self.socket == Family::Ipv6 {
            IMDS_V6
        } else {
            IMDS_V4
        };
        let ip = match (self.socket, self.address.unwrap_or(default.ip())) {
            (Family::Mapped, IpAddr::V4(ip)) => IpAddr::V6(Ipv4Addr::to_ipv6_mapped(&ip)),
            (Family::Ipv4 | Family::Mptcp, ip @ IpAddr::V4(_))
            | (Family::Ipv6, ip @ IpAddr::V6(_)) => ip,
            (family, ip) => bail!("a socket of kind {family:?} cannot call {ip}"),
        };
        Ok(SocketAddr::new(ip, self.port))
    }
}

/// One connection.
#[derive(Clone, Debug, Args)]
#[command(args_override_self = true)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Send {
    #[command(flatten)]
    pub(crate) target: Target,
    /// What to send, in this order
    #[arg(long = "request", value_enum, value_delimiter = ',')]
    pub(crate) requests: Vec<Request>,
    /// Bytes to send after these, with `\r`, `\n`, `\\` and `\xHH`
    #[arg(long, value_parser = unescape)]
    pub(crate) raw: Option<Bytes>,
    /// Path that requests for data ask for
    #[arg(long, default_value = "/latest/meta-data/instance-id")]
    pub(crate) path: String,
    /// Token to use; the default is to fetch one on another connection if one is needed
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// All requests in one send
    #[arg(long)]
    pub(crate) pipeline: bool,
    /// IPv4 options in every packet: three NOPs and the end
    #[arg(long)]
    pub(crate) ip_options: bool,
    /// IPv6 extension headers in every packet: hop-by-hop and destination options, padding only
    #[arg(long)]
    pub(crate) ipv6_options: bool,
    /// Say with the first request that it is the last: data and FIN in one segment
    #[arg(long)]
    pub(crate) half_close: bool,
    /// How the bytes are handed to the kernel
    #[arg(long, value_enum, default_value_t = How::Write)]
    pub(crate) how: How,
    /// Offsets at which `--how split` cuts
    #[arg(long, value_delimiter = ',', default_values_t = [3, 30])]
    pub(crate) split_at: Vec<usize>,
    /// Milliseconds between the pieces of `--how split`
    #[arg(long, default_value_t = 10)]
    pub(crate) pause: u64,
    /// Who sends
    #[arg(long, value_enum, default_value_t = By::Caller)]
    pub(crate) by: By,
    /// Name of the thread, up to 15 bytes, escapes as in --raw
    #[arg(long, value_parser = unescape)]
    pub(crate) comm: Option<Bytes>,
    /// Run again with an argument that is not UTF-8
    #[arg(long)]
    pub(crate) argv_junk: bool,
    /// Connect, then wait for a line on standard input
    #[arg(long)]
    pub(crate) wait_stdin: bool,
    /// Seconds between connecting and sending
    #[arg(long, value_parser = seconds, default_value = "0")]
    pub(crate) hold_before: Duration,
    /// Seconds to keep the connection after the last answer
    #[arg(long, value_parser = seconds, default_value = "0")]
    pub(crate) hold_after: Duration,
    /// Send nothing
    #[arg(long)]
    pub(crate) silent: bool,
    /// End right after the last send, without reading
    #[arg(long)]
    pub(crate) exit_at_once: bool,
    /// Seconds to wait for an answer
    #[arg(long, value_parser = seconds, default_value = "3")]
    pub(crate) timeout: Duration,
    /// A connected socket to use: set when the program runs itself
    #[arg(long, hide = true)]
    pub(crate) fd: Option<RawFd>,
    /// The argument that is not UTF-8: set when the program runs itself
    #[arg(long, hide = true)]
    pub(crate) junk: Option<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum How {
    /// `write`
    Write,
    /// Several `write`s with a pause between them, `TCP_NODELAY`
    Split,
    /// `writev`; the first buffer is NULL of length 0
    Writev,
    /// `sendmsg`, two buffers
    Sendmsg,
    /// `sendmmsg`, one message per request; implies --pipeline
    Sendmmsg,
    /// `sendfile` from a memory file
    Sendfile,
    /// `splice` from a pipe
    Splice,
    /// `send` with `MSG_ZEROCOPY`
    Zerocopy,
    /// `write` from a mapped file whose page was never touched
    Unfaulted,
    /// `write` from a buffer that is overwritten right after
    Overwritten,
    /// `io_uring`: a send
    Uring,
    /// `io_uring`: a send submitted by the kernel's polling thread
    UringSqpoll,
    /// `io_uring`: a connect with a linked send
    UringConnect,
    /// `sendto` with `MSG_FASTOPEN`: the request rides in the SYN
    FastOpen,
    /// `TCP_FASTOPEN_CONNECT`, then `write`: the same
    FastOpenConnect,
}

impl How {
    /// Does the first send open the connection, too?
    pub(crate) fn connects(self) -> bool {
        matches!(
            self,
            Self::UringConnect | Self::FastOpen | Self::FastOpenConnect
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// The process that connected
    Caller,
    /// Another thread of it
    Thread,
    /// A forked child, which ends at once while its parent waits
    Fork,
    /// The same process after `execve` with another `argv[0]`
    Exec,
    /// Another process, which gets the socket by `SCM_RIGHTS`
    PassFd,
}

/// Many requests.
#[derive(Clone, Debug, Args)]
pub(crate) struct Load {
    #[command(flatten)]
    pub(crate) target: Target,
    /// What each round sends
    #[arg(long, value_enum, default_value_t = Pattern::V1)]
    pub(crate) pattern: Pattern,
    /// Connections at a time, at most 512; one thread each
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) parallel: u16,
    /// Rounds per connection
    #[arg(long, default_value_t = 1)]
    pub(crate) count: u32,
    /// Rounds per second and connection; as many as possible unless given
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rate: Option<u32>,
    /// A new connection for each request
    #[arg(long)]
    pub(crate) new_connections: bool,
    /// Wait for a line on standard input before the first request
    #[arg(long)]
    pub(crate) wait_stdin: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pattern {
    /// One request without a token
    V1,
    /// One request with a token that was fetched at the start
    V2,
    /// What an SDK does: a token request and two requests with the token
    Sdk,
}

/// Datagrams.
#[derive(Clone, Debug, Args)]
pub(crate) struct Udp {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How many
    #[arg(long, default_value_t = 1)]
    pub(crate) count: u32,
}

/// Bytes from the command line.
#[derive(Clone, Debug)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

fn unescape(text: &str) -> anyhow::Result<Bytes> {
    let mut bytes = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match rest.next() {
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = rest.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16)
                    .with_context(|| format!("\\x{digits} is no byte"))?
            }
            _ => bail!("only \\r, \\n, \\\\ and \\xHH are known"),
        });
    }
    Ok(Bytes(bytes))
}

fn seconds(text: &str) -> anyhow::Result<Duration> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}
