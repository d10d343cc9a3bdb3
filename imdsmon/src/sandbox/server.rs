//! The sockets of the simulated IMDS: one thread, one event loop, in a namespace of its own.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream},
    os::{
        fd::AsRawFd as _,
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream as StdUnixStream},
    },
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::{TcpListener, TcpSocket, TcpStream, UnixStream},
    runtime, time,
};

use super::{
    IMDS_V4, IMDS_V6, MARKER, OTHER_ADDRESS, OTHER_PORT, SimulatorError,
    client::had_data_in_syn,
    config::{FastOpen, ImdsConfig},
    counts::{Listener, RequestCounter},
    imds::{AfterResponse, Imds},
    namespace::NetworkNamespace,
    netlink,
    reader::{Progress, RequestReader},
};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`, which
/// is 4096 in a new namespace (128 before Linux 5.4).
const BACKLOG: u32 = 4096;

/// Bytes taken from a connection at a time.
const READ: usize = 4096;

/// How long, and up to how many bytes, a connection that the server closes is still read: a
/// reset in answer to unread bytes would take the answer away from the client.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_READS: usize = 64;

/// How long to wait for the route to the IPv6 address.
const ROUTE_PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait when no connection can be accepted (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Bytes of a C `int`, as `setsockopt` wants to know.
const INT_LEN: libc::socklen_t = 4;

/// What the sandbox needs to know of its namespace.
pub(super) struct ServerInfo {
    pub(super) namespace: NetworkNamespace,
    pub(super) has_ipv6: bool,
    pub(super) has_fast_open: bool,
}

/// A server that listens already. It belongs to the thread that set it up.
pub(super) struct Server {
    runtime: runtime::Runtime,
    listeners: Vec<(TcpListener, Listener)>,
    imds: Arc<Imds>,
    /// Held while the server lives; see [`MARKER`].
    marker: UnixDatagram,
}

impl Server {
    /// Moves the calling thread to a new network namespace and listens there.
    pub(super) fn set_up(
        config: ImdsConfig,
        counter: Arc<RequestCounter>,
    ) -> Result<(Self, ServerInfo), SimulatorError> {
        let namespace = NetworkNamespace::unshare()?;
        let (has_ipv6, has_fast_open) = (set_up_addresses()?, set_up_fast_open(config.fast_open));
        set_up_port_reuse();
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(SimulatorError::Thread)?;
        let marker = UnixAddr::from_abstract_name(MARKER)
            .and_then(|name| UnixDatagram::bind_addr(&name))
            .map_err(SimulatorError::Thread)?;
        let mut listeners = Vec::new();
        {
            let _context = runtime.enter();
            let fast_open = config.fast_open != FastOpen::Off;
            for (address, listener) in [
                (IMDS_V4, Listener::Imds),
                (IMDS_V6, Listener::Imds),
                (OTHER_PORT, Listener::Elsewhere),
                (OTHER_ADDRESS, Listener::Elsewhere),
            ] {
                if address.is_ipv6() && !has_ipv6 {
                    continue;
                }
                let socket = listen(address, fast_open)
                    .map_err(|error| SimulatorError::Listen(error, address))?;
                listeners.push((socket, listener));
            }
        }
        let imds = Arc::new(Imds::new(config, counter));
        let info = ServerInfo {
            namespace,
            has_ipv6,
            has_fast_open,
        };
        Ok((
            Self {
                runtime,
                listeners,
                imds,
                marker,
            },
            info,
        ))
    }

    /// Serves until the other end of `stop` is closed, then drops every connection.
    pub(super) fn serve_until(self, stop: StdUnixStream) {
        let Self {
            runtime,
            listeners,
            imds,
            marker,
        } = self;
        give_up_privileges();
        runtime.block_on(async {
            for (socket, listener) in listeners {
                tokio::spawn(accept(socket, listener, Arc::clone(&imds)));
            }
            // Without a way to be stopped there must be no server: end at once.
            if stop.set_nonblocking(true).is_ok()
                && let Ok(stop) = UnixStream::from_std(stop)
            {
                drop(stop.ready(Interest::READABLE).await);
            }
        });
        drop(runtime);
        drop(marker);
    }
}

/// Leaves the calling thread without capabilities: all that needs one is done, and from here on
/// it reads what clients send. A thread that may not do so serves as well.
fn give_up_privileges() {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    let _ = set_capabilities(None, none);
}

/// Brings `lo` up with the IMDS addresses; returns whether it has the IPv6 one.
fn set_up_addresses() -> Result<bool, SimulatorError> {
    netlink::loopback_up().map_err(SimulatorError::Loopback)?;
    netlink::add_address(IMDS_V4.ip())
        .map_err(|error| SimulatorError::Address(error, IMDS_V4.ip()))?;
    // A host may pass `disable_ipv6` on to new namespaces. A kernel without IPv6 has no such file.
    for link in ["all", "lo"] {
        drop(fs::write(
            format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"),
            "0",
        ));
    }
    Ok(netlink::add_address(IMDS_V6.ip()).is_ok() && becomes_reachable(IMDS_V6.ip()))
}

/// Waits until an own IPv6 address can be called: the kernel adds its local route from a work
/// queue, after it has acknowledged the address, and refuses connections until then (seen
/// with Linux 6.18 in one namespace of six). So one is tried, to a listener made for it.
fn becomes_reachable(address: IpAddr) -> bool {
    let end = Instant::now() + ROUTE_PATIENCE;
    let is_reachable = || {
        let listener = StdListener::bind(SocketAddr::new(address, 0))?;
        StdStream::connect_timeout(&listener.local_addr()?, ROUTE_PATIENCE / 10)
    };
    while is_reachable().is_err() {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_micros(100));
    }
    true
}

/// Sets the namespace's sysctl: `/proc/sys/net` shows every task its own namespace's.
fn set_up_fast_open(fast_open: FastOpen) -> bool {
    fs::write(
        "/proc/sys/net/ipv4/tcp_fastopen",
        fast_open.sysctl().to_string(),
    )
    .is_ok()
}

/// Lets clients use a port again that waits in `TIME_WAIT`. The kernel's own setting, 2, does so
/// on loopback addresses, which IMDS's are not: after some 15,000 connections within a minute
/// each `connect` would search through thousands of ports (20,000 then take 20 s, not 3).
fn set_up_port_reuse() {
    // Without it, many connections are slow and nothing else is wrong.
    drop(fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1"));
}

fn listen(address: SocketAddr, fast_open: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it: each answer leaves at once.
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    if fast_open {
        let queue: libc::c_int = 1024;
        // SAFETY: the value and its length are those of a live integer. A kernel without Fast
        // Open refuses, and requests come after the handshake as usual.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_FASTOPEN,
                (&raw const queue).cast(),
                INT_LEN,
            );
        }
    }
    socket.listen(BACKLOG)
}

async fn accept(socket: TcpListener, listener: Listener, imds: Arc<Imds>) {
    loop {
        match socket.accept().await {
            Ok((stream, _client)) => {
                imds.counter()
                    .connection(listener, had_data_in_syn(&stream));
                tokio::spawn(serve(stream, listener, Arc::clone(&imds)));
            }
            Err(_no_descriptor_or_gone_client) => time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Serves one connection to its end. An error means that the client is gone.
async fn serve(mut stream: TcpStream, listener: Listener, imds: Arc<Imds>) {
    let mut reader = RequestReader::default();
    let mut out = Vec::new();
    let mut piece = [0; READ];
    loop {
        out.clear();
        let after = match reader.advance() {
            Progress::More => match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    reader.feed(&piece[..n]);
                    continue;
                }
            },
            Progress::Continue => {
                out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                AfterResponse::Open
            }
            Progress::Request(request) => imds.answer(&request, listener, &mut out),
            Progress::Bad(status) => {
                imds.refuse(status, listener, &mut out);
                AfterResponse::Close
            }
        };
        if after == AfterResponse::Silent {
            while matches!(stream.read(&mut piece).await, Ok(1..)) {}
            return;
        }
        // Head and body leave together, one write per answer.
        if stream.write_all(&out).await.is_err() {
            return;
        }
        if after == AfterResponse::Close {
            drop(stream.shutdown().await);
            // It is over when the time is.
            drop(time::timeout(LINGER, drain(&mut stream, &mut piece)).await);
            return;
        }
    }
}

async fn drain(stream: &mut TcpStream, piece: &mut [u8]) {
    for _ in 0..LINGER_READS {
        if !matches!(stream.read(piece).await, Ok(1..)) {
            return;
        }
    }
}
