//! A simulated IMDS in a private network namespace.
//!
//! The demo, the self-test, the end-to-end tests and the benchmarks need an IMDS to call. It must
//! never be the real one: on a cloud host `169.254.169.254` hands out credentials and counts every
//! call in the owner's metrics. [`ImdsSimulator`] starts a thread in a new network namespace,
//! gives `lo` both IMDS addresses and serves a small IMDS on them. Nothing sent in that namespace
//! leaves it. Netlink sets it up, so a static binary in an empty initramfs can use it.
//!
//! Clients call it from inside: [`ImdsSimulator::enter`] moves a child process in,
//! [`ImdsSimulator::run`] a closure. [`client`] is a small IMDS client that sends nothing
//! elsewhere.
//!
//! The simulator has its own HTTP parser, independent of [`crate::http`]: its counts
//! ([`ImdsSimulator::requests`]) are the oracle for the monitor's.
//!
//! Not simulated: packet loss (at hop limit 1 the server does not respond), link-local
//! throttling, and the services on other link-local addresses.

pub mod client;
mod config;
mod counts;
mod imds;
mod loopback;
mod metadata;
mod namespace;
mod reader;
mod request;
mod server;
#[cfg(test)]
mod tests;
mod token;

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::Command,
    sync::{Arc, mpsc},
    thread,
};

pub use self::{
    config::{FastOpen, HttpTokens, ImdsConfig, TokenRequestMode},
    counts::RequestCounts,
};
use self::{counts::RequestCounter, namespace::NetworkNamespace};

/// Where IMDS listens on IPv4: `169.254.169.254:80`.
pub const IMDS_V4: SocketAddr = SocketAddr::new(
    IpAddr::V4(Ipv4Addr::from_bits(u32::from_be_bytes(
        imdsmon_common::IMDS_V4,
    ))),
    imdsmon_common::IMDS_PORT,
);

/// Where IMDS listens on IPv6: `[fd00:ec2::254]:80`.
pub const IMDS_V6: SocketAddr = SocketAddr::new(
    IpAddr::V6(Ipv6Addr::from_bits(u128::from_be_bytes(
        imdsmon_common::IMDS_V6,
    ))),
    imdsmon_common::IMDS_PORT,
);

/// The IMDS address on another port: the same responses, but not IMDS.
pub(crate) const OTHER_PORT: SocketAddr = SocketAddr::new(IMDS_V4.ip(), 8080);

/// The IMDS port on another address: the same responses, but not IMDS.
pub(crate) const OTHER_ADDRESS: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), imdsmon_common::IMDS_PORT);

/// Name of the abstract Unix socket that marks a simulator's network namespace.
const MARKER: &[u8] = b"imdsmon-sandbox";

/// Name of the simulator's threads.
const THREAD: &str = "imds-simulator";

/// Why the simulator cannot be started or entered.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// `unshare` returned `EPERM`.
    #[error(
        "cannot create a private network namespace: CAP_SYS_ADMIN missing; run as root, in a \
         container with --privileged or --network none"
    )]
    Privilege(#[source] io::Error),
    /// `unshare` is unknown.
    #[error(
        "this kernel has no network namespaces; use one built with CONFIG_NET_NS and CONFIG_UNIX"
    )]
    Unsupported(#[source] io::Error),
    /// `unshare` reached the limit.
    #[error(
        "cannot create a private network namespace: limit reached; raise the sysctl \
         user.max_net_namespaces"
    )]
    Limit(#[source] io::Error),
    /// `unshare` failed otherwise.
    #[error("cannot create a private network namespace: {0}; see unshare(2)")]
    Namespace(#[source] io::Error),
    #[error("cannot open /proc/thread-self/ns/net: {0}; run `mount -t proc proc /proc`")]
    Proc(#[source] io::Error),
    /// `lo` stays down.
    #[error("cannot bring up `lo` in the private network namespace: {0}; grant CAP_NET_ADMIN")]
    Loopback(#[source] io::Error),
    #[error("cannot add {1} to `lo` in the private network namespace: {0}; grant CAP_NET_ADMIN")]
    Address(#[source] io::Error, IpAddr),
    #[error(
        "the simulated IMDS cannot listen on {1}: {0}; grant CAP_NET_BIND_SERVICE and allow more \
         open files"
    )]
    Listen(#[source] io::Error, SocketAddr),
    #[error("cannot start a simulator thread: {0}; raise the limits on tasks and open files")]
    Thread(#[source] io::Error),
    /// `setns` failed.
    #[error("cannot enter the simulator's network namespace: {0}; grant CAP_SYS_ADMIN")]
    Enter(#[source] io::Error),
    /// A thread of the simulator, or the closure given to [`ImdsSimulator::run`], panicked.
    #[error("a simulator thread panicked: {0}")]
    Panicked(String),
}

/// A running IMDS in a private network namespace.
///
/// Dropping it stops the server and its thread. The kernel removes the namespace when the last
/// process in it has ended.
pub struct ImdsSimulator {
    namespace: NetworkNamespace,
    has_ipv6: bool,
    counter: Arc<RequestCounter>,
    stop: UnixStream,
    server: Option<thread::JoinHandle<()>>,
}

impl ImdsSimulator {
    /// Creates the namespace and starts the server, which responds from then on.
    pub fn start(config: ImdsConfig) -> Result<Self, SimulatorError> {
        let (stop, stopped) = UnixStream::pair().map_err(SimulatorError::Thread)?;
        let counter = Arc::new(RequestCounter::default());
        let (report, ready) = mpsc::sync_channel(1);
        let server = thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn({
                let counter = Arc::clone(&counter);
                move || match server::Server::set_up(config, counter) {
                    Ok((server, info)) => {
                        if report.send(Ok(info)).is_ok() {
                            server.serve_until(stopped);
                        }
                    }
                    // The receiver waits for exactly one report.
                    Err(error) => _ = report.send(Err(error)),
                }
            })
            .map_err(SimulatorError::Thread)?;
        let info = ready.recv().unwrap_or_else(|_closed| Err(ended_early()));
        match info {
            Ok(server::ServerInfo {
                namespace,
                has_ipv6,
            }) => Ok(Self {
                namespace,
                has_ipv6,
                counter,
                stop,
                server: Some(server),
            }),
            Err(error) => {
                // The thread has reported its failure; a panic adds nothing.
                let _ = server.join();
                Err(error)
            }
        }
    }

    /// Inode number of the network namespace, as in `/proc/PID/ns/net`.
    #[must_use]
    pub fn netns(&self) -> u32 {
        self.namespace.inode()
    }

    /// Whether [`IMDS_V6`] responds; the host may have IPv6 disabled.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.has_ipv6
    }

    /// Requests received so far. The server counts a request before it sends the response.
    #[must_use]
    pub fn requests(&self) -> RequestCounts {
        self.counter.snapshot()
    }

    /// Makes `command` spawn its child inside the simulator's namespace.
    ///
    /// Spawning fails without permission to enter. The command keeps the namespace alive.
    pub fn enter<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let namespace = self.namespace.clone();
        // SAFETY: the closure runs between fork and exec. It makes one system call on a descriptor
        // that it owns, and neither allocates nor locks.
        unsafe { command.pre_exec(move || namespace.enter()) }
    }

    /// Runs `task` on a new thread inside the simulator's namespace and returns its value.
    ///
    /// Threads that `task` starts are inside, too. A panic of `task` becomes
    /// [`SimulatorError::Panicked`].
    pub fn run<T: Send>(&self, task: impl FnOnce() -> T + Send) -> Result<T, SimulatorError> {
        thread::scope(|scope| {
            let inside = thread::Builder::new()
                .name(THREAD.to_owned())
                .spawn_scoped(scope, || {
                    self.namespace.enter().map_err(SimulatorError::Enter)?;
                    Ok(task())
                })
                .map_err(SimulatorError::Thread)?;
            inside.join().unwrap_or_else(|panic| {
                let message = panic
                    .downcast_ref::<&str>()
                    .copied()
                    .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                    .unwrap_or("no message");
                Err(SimulatorError::Panicked(message.to_owned()))
            })
        })
    }

    /// Runs `task` on a new thread inside the simulator's namespace. The thread has entered it
    /// when this function returns, and needs no privilege from then on.
    pub(crate) fn spawn_inside(
        &self,
        name: &str,
        task: impl FnOnce() + Send + 'static,
    ) -> Result<thread::JoinHandle<()>, SimulatorError> {
        let namespace = self.namespace.clone();
        let (report, entered) = mpsc::sync_channel(1);
        let inside = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let result = namespace.enter();
                let is_inside = result.is_ok();
                if report.send(result).is_ok() && is_inside {
                    task();
                }
            })
            .map_err(SimulatorError::Thread)?;
        match entered.recv() {
            Ok(Ok(())) => Ok(inside),
            Ok(Err(error)) => Err(SimulatorError::Enter(error)),
            Err(_closed) => Err(ended_early()),
        }
    }
}

impl AsFd for ImdsSimulator {
    /// The network namespace, for `setns(2)` or to move a link into it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

impl fmt::Debug for ImdsSimulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImdsSimulator")
            .field("netns", &self.netns())
            .field("fd", &self.as_fd().as_raw_fd())
            .finish_non_exhaustive()
    }
}

impl Drop for ImdsSimulator {
    fn drop(&mut self) {
        // Shut down, not closed: a forked child may hold a copy of this end.
        // Both calls fail only if the thread has ended.
        let _ = self.stop.shutdown(Shutdown::Both);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn ended_early() -> SimulatorError {
    SimulatorError::Panicked("it ended before it was ready".to_owned())
}
