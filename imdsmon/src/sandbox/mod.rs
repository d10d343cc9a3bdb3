//! A private network namespace with a simulated IMDS.
//!
//! The demo, the self-test, the end-to-end tests and the benchmarks need an IMDS to call, and
//! the real one must never be it: on a cloud host `169.254.169.254` hands out credentials and
//! counts every call in the owner's metrics. A [`ImdsSimulator`] is a network of its own. One thread
//! unshares its network namespace, gives `lo` both IMDS addresses and serves a small IMDS on
//! them. Nothing in it has a way out, and it needs no program of the host: netlink sets it up,
//! so a static binary in an empty initramfs can use it.
//!
//! Callers reach it from inside: [`ImdsSimulator::enter`] moves a child process in, [`ImdsSimulator::run`]
//! a closure. [`client`] is a small IMDS client that refuses to send anywhere else.
//!
//! The simulation is independent of [`crate::http`] on purpose. What it counts
//! ([`ImdsSimulator::requests`]) is the other opinion that the monitor's own count is held against.
//!
//! It leaves to others: real packet loss (a hop limit is acted out by silence), link-local
//! throttling, and everything that IMDS does to addresses other than its own.

pub mod client;
mod config;
mod counts;
mod imds;
mod metadata;
mod namespace;
mod netlink;
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

/// The IMDS address on another port: answers alike, and is not IMDS.
pub const OTHER_PORT: SocketAddr = SocketAddr::new(IMDS_V4.ip(), 8080);

/// The IMDS port on another address: answers alike, and is not IMDS.
pub const OTHER_ADDRESS: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), imdsmon_common::IMDS_PORT);

/// The abstract Unix socket that marks a sandbox. Abstract names belong to a network
/// namespace, so that it is seen from inside a sandbox and from nowhere else.
const MARKER: &[u8] = b"imdsmon-sandbox";

/// Name of the serving thread.
const THREAD: &str = "imds-sandbox";

/// Why there is no sandbox, or why nobody can enter it.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// `unshare` was refused.
    #[error(
        "a private network namespace needs CAP_SYS_ADMIN: run as root, in a container with --privileged or --network none"
    )]
    Privilege(#[source] io::Error),
    /// `unshare` is not known.
    #[error(
        "this kernel has no network namespaces: use one that is built with CONFIG_NET_NS and CONFIG_UNIX"
    )]
    Unsupported(#[source] io::Error),
    /// `unshare` ran into the limit.
    #[error(
        "this host allows no more network namespaces: raise the sysctl user.max_net_namespaces"
    )]
    Limit(#[source] io::Error),
    /// `unshare` failed otherwise.
    #[error("no private network namespace could be made ({0}): see unshare(2)")]
    Namespace(#[source] io::Error),
    /// The namespace has no name to enter it by.
    #[error(
        "/proc/thread-self/ns/net cannot be opened ({0}): mount proc, `mount -t proc proc /proc`"
    )]
    Proc(#[source] io::Error),
    /// `lo` stays down.
    #[error(
        "`lo` of the private namespace cannot be brought up ({0}): CAP_NET_ADMIN is needed in it"
    )]
    Loopback(#[source] io::Error),
    /// `lo` did not take an address.
    #[error("`lo` of the private namespace refuses {1} ({0}): CAP_NET_ADMIN is needed in it")]
    Address(#[source] io::Error, IpAddr),
    /// The simulated IMDS cannot listen.
    #[error(
        "the simulated IMDS cannot listen on {1} ({0}): CAP_NET_BIND_SERVICE and free file descriptors are needed"
    )]
    Listen(#[source] io::Error, SocketAddr),
    /// A thread or its event loop failed to start.
    #[error("no thread for the sandbox ({0}): raise the limits on tasks or file descriptors")]
    Thread(#[source] io::Error),
    /// `setns` failed.
    #[error("the sandbox cannot be entered ({0}): CAP_SYS_ADMIN is needed")]
    Enter(#[source] io::Error),
    /// The closure given to [`ImdsSimulator::run`] panicked.
    #[error("the task inside the sandbox panicked: {0}")]
    Panicked(String),
}

/// A network namespace of its own with a running IMDS in it.
///
/// Dropping it stops the server and its thread. The namespace itself goes when the last
/// process that entered it has left.
pub struct ImdsSimulator {
    namespace: NetworkNamespace,
    has_ipv6: bool,
    has_fast_open: bool,
    counter: Arc<RequestCounter>,
    stop: UnixStream,
    server: Option<thread::JoinHandle<()>>,
}

impl ImdsSimulator {
    /// Makes the namespace and starts the server; when it returns, IMDS answers.
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
                    Err(error) => drop(report.send(Err(error))),
                }
            })
            .map_err(SimulatorError::Thread)?;
        let info = ready.recv().unwrap_or_else(|_closed| {
            Err(SimulatorError::Panicked(
                "it ended before it began".to_owned(),
            ))
        });
        match info {
            Ok(server::ServerInfo {
                namespace,
                has_ipv6,
                has_fast_open,
            }) => Ok(Self {
                namespace,
                has_ipv6,
                has_fast_open,
                counter,
                stop,
                server: Some(server),
            }),
            Err(error) => {
                // The thread has reported its end; a panic in it is part of the same failure.
                drop(server.join());
                Err(error)
            }
        }
    }

    /// Inode number of the network namespace, as `/proc/PID/ns/net` shows it.
    #[must_use]
    pub fn netns(&self) -> u32 {
        self.namespace.inode()
    }

    /// Whether [`IMDS_V6`] answers too; the host may have IPv6 disabled.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.has_ipv6
    }

    /// Whether the kernel took the setting of [`ImdsConfig::fast_open`].
    #[must_use]
    pub fn has_fast_open(&self) -> bool {
        self.has_fast_open
    }

    /// What the server itself has seen so far. A request is counted before its answer is
    /// written: whoever holds an answer finds it counted.
    #[must_use]
    pub fn requests(&self) -> RequestCounts {
        self.counter.snapshot()
    }

    /// Lets the child that `command` will spawn run inside the sandbox.
    ///
    /// The child fails to spawn if it may not enter. The command keeps the namespace alive.
    pub fn enter<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let namespace = self.namespace.clone();
        // SAFETY: the closure runs between fork and exec and makes one system call on a
        // descriptor that it owns: no allocation, no lock.
        unsafe { command.pre_exec(move || namespace.join()) }
    }

    /// Runs `task` on a new thread inside the sandbox and returns its value.
    ///
    /// Threads that `task` starts are inside too. A panic of `task` becomes
    /// [`SimulatorError::Panicked`].
    pub fn run<T: Send>(&self, task: impl FnOnce() -> T + Send) -> Result<T, SimulatorError> {
        thread::scope(|scope| {
            let inside = thread::Builder::new()
                .name(THREAD.to_owned())
                .spawn_scoped(scope, || {
                    self.namespace.join().map_err(SimulatorError::Enter)?;
                    Ok(task())
                })
                .map_err(SimulatorError::Thread)?;
            inside.join().unwrap_or_else(|panic| {
                let words = panic
                    .downcast_ref::<&str>()
                    .copied()
                    .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                    .unwrap_or("it did not say why");
                Err(SimulatorError::Panicked(words.to_owned()))
            })
        })
    }
}

impl ImdsSimulator {
    /// Starts a thread that lives inside the sandbox for as long as `task` runs. When this
    /// returns, it is inside: from then on it needs no privilege to be there.
    pub fn spawn_inside(
        &self,
        name: &str,
        task: impl FnOnce() + Send + 'static,
    ) -> Result<thread::JoinHandle<()>, SimulatorError> {
        let namespace = self.namespace.clone();
        let (report, arrived) = mpsc::sync_channel(1);
        let inhabitant = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let entered = namespace.join();
                let is_inside = entered.is_ok();
                if report.send(entered).is_ok() && is_inside {
                    task();
                }
            })
            .map_err(SimulatorError::Thread)?;
        match arrived.recv() {
            Ok(Ok(())) => Ok(inhabitant),
            Ok(Err(error)) => Err(SimulatorError::Enter(error)),
            Err(_) => Err(SimulatorError::Panicked("it ended before it began".into())),
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
        // Both fail only if the thread is gone already, which is what is wanted.
        drop(self.stop.shutdown(Shutdown::Both));
        if let Some(server) = self.server.take() {
            drop(server.join());
        }
    }
}
