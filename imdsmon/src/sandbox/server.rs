//! The server of the simulated IMDS: one thread and one event loop in a private namespace.

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
    imds::{AfterRequest, Imds},
    loopback,
    namespace::NetworkNamespace,
    reader::{Progress, RequestReader},
};
use crate::capabilities;

/// Pending connections; the kernel limits it to `net.core.somaxconn`, which is 4096 in a new
/// namespace (128 before Linux 5.4).
const BACKLOG: u32 = 4096;

const READ_SIZE: usize = 4096;

/// Limits of reading from a connection that the server closes. Unread bytes would make the kernel
/// send a reset, which may discard the response on the client's side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_READS_AFTER_CLOSE: usize = 64;

/// The longest wait for the route to the IPv6 address.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after a failed `accept`, for example without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Size of a C `int` for `setsockopt`.
const INT_LEN: libc::socklen_t = 4;

pub(super) struct ServerInfo {
    pub(super) namespace: NetworkNamespace,
    pub(super) has_ipv6: bool,
}

/// A server that listens, owned by the thread that set it up.
pub(super) struct Server {
    runtime: runtime::Runtime,
    listeners: Vec<(TcpListener, Listener)>,
    imds: Arc<Imds>,
    /// Bound while the server runs; see [`MARKER`].
    marker: UnixDatagram,
}

impl Server {
    /// Moves the calling thread to a private network namespace and listens there.
    pub(super) fn set_up(
        config: ImdsConfig,
        counter: Arc<RequestCounter>,
    ) -> Result<(Self, ServerInfo), SimulatorError> {
        let namespace = NetworkNamespace::unshare()?;
        let has_ipv6 = set_up_addresses()?;
        set_up_fast_open(config.fast_open);
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

    /// Serves until the other end of `stop` is shut down, then drops all connections.
    pub(super) fn serve_until(self, stop: StdUnixStream) {
        let Self {
            runtime,
            listeners,
            imds,
            marker,
        } = self;
        // The thread needs no capability from here on. It serves even if this fails.
        let _ = capabilities::drop_all();
        runtime.block_on(async {
            for (socket, listener) in listeners {
                tokio::spawn(accept(socket, listener, Arc::clone(&imds)));
            }
            // A server that cannot be stopped must not run.
            if stop.set_nonblocking(true).is_ok()
                && let Ok(stop) = UnixStream::from_std(stop)
            {
                let _ = stop.ready(Interest::READABLE).await;
            }
        });
        // The marker must exist as long as connections are accepted.
        drop(runtime);
        drop(marker);
    }
}

/// Brings up `lo` with the IMDS addresses. Returns whether the IPv6 address is reachable.
fn set_up_addresses() -> Result<bool, SimulatorError> {
    loopback::bring_up().map_err(SimulatorError::Loopback)?;
    loopback::add_address(IMDS_V4.ip())
        .map_err(|error| SimulatorError::Address(error, IMDS_V4.ip()))?;
    for link in ["all", "lo"] {
        // New namespaces may inherit `disable_ipv6`. Without IPv6 there is no such file.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "0");
    }
    Ok(loopback::add_address(IMDS_V6.ip()).is_ok() && wait_until_reachable(IMDS_V6.ip()))
}

/// Waits until connections to a local IPv6 address succeed. The kernel acknowledges the address
/// before a work queue adds its local route (observed with Linux 6.18, 1 namespace in 6), so a
/// connection to a temporary listener is tried until then.
fn wait_until_reachable(address: IpAddr) -> bool {
    let deadline = Instant::now() + ROUTE_TIMEOUT;
    let is_reachable = || {
        let listener = StdListener::bind(SocketAddr::new(address, 0))?;
        StdStream::connect_timeout(&listener.local_addr()?, ROUTE_TIMEOUT / 10)
    };
    while is_reachable().is_err() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_micros(100));
    }
    true
}

/// `/proc/sys/net` holds the settings of the calling thread's namespace.
pub(super) const FAST_OPEN: &str = "/proc/sys/net/ipv4/tcp_fastopen";

fn set_up_fast_open(fast_open: FastOpen) {
    // Without it, a SYN carries no request; everything else works.
    let _ = fs::write(FAST_OPEN, fast_open.sysctl().to_string());
}

/// Allows clients to reuse ports in `TIME_WAIT`. The kernel's default, 2, does so for loopback
/// addresses only. Without reuse, `connect` searches thousands of ports after some 15,000
/// connections within a minute (20,000 connections then take 20 s instead of 3 s).
fn set_up_port_reuse() {
    // A failure only makes connecting slower.
    let _ = fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1");
}

fn listen(address: SocketAddr, fast_open: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it: each response is sent at once.
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    if fast_open {
        let queue: libc::c_int = 1024;
        // SAFETY: the value and its length are those of a live integer. The call fails on a kernel
        // without Fast Open, and clients then use an ordinary handshake.
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

/// Serves one connection until it ends. An I/O error means that the client has left.
async fn serve(mut stream: TcpStream, listener: Listener, imds: Arc<Imds>) {
    let mut reader = RequestReader::default();
    let mut out = Vec::new();
    let mut chunk = [0; READ_SIZE];
    loop {
        out.clear();
        let after = match reader.advance() {
            Progress::NeedsBytes => match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    reader.feed(&chunk[..n]);
                    continue;
                }
            },
            Progress::Continue => {
                out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                AfterRequest::KeepAlive
            }
            Progress::Request(request) => imds.respond(&request, listener, &mut out),
            Progress::Malformed(status) => {
                imds.reject(status, listener, &mut out);
                AfterRequest::Close
            }
        };
        if after == AfterRequest::Hang {
            while matches!(stream.read(&mut chunk).await, Ok(1..)) {}
            return;
        }
        // Head and body are one write.
        if stream.write_all(&out).await.is_err() {
            return;
        }
        if after == AfterRequest::Close {
            // Fails only if the client has left.
            let _ = stream.shutdown().await;
            // After the timeout the connection is dropped.
            let _ = time::timeout(CLOSE_TIMEOUT, drain(&mut stream, &mut chunk)).await;
            return;
        }
    }
}

async fn drain(stream: &mut TcpStream, chunk: &mut [u8]) {
    for _ in 0..MAX_READS_AFTER_CLOSE {
        if !matches!(stream.read(chunk).await, Ok(1..)) {
            return;
        }
    }
}
