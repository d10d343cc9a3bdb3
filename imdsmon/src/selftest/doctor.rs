//! Verifies capture once, for `imdsmon doctor`: IMDSv1 and IMDSv2 calls in a private network
//! namespace must pass the real hooks and be attributed to their processes.

use std::{
    io,
    path::Path,
    process::{Child, Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use super::probe::Expected;
use crate::{
    capture::{AttachError, Options, Snapshot},
    event::CaptureTotals,
    http::call::{Call, HttpEvent},
    knowledge::Knowledge,
    monitor::{Monitor, Sink},
    pipeline::AttributedEvent,
    sandbox::{ImdsConfig, ImdsSimulator, SimulatorError},
};

/// For all clients together; they take a few milliseconds.
const CLIENTS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long after the last client an event may still arrive.
const DRAIN_DELAY: Duration = Duration::from_millis(50);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

#[derive(Debug, thiserror::Error)]
pub(crate) enum SelfTestError {
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Simulator(#[from] SimulatorError),
    #[error("the client of the self-test failed: {0}")]
    Client(String),
    #[error("cannot read the kernel's events: {0}")]
    Io(#[from] io::Error),
    /// A call was not captured, or captured wrongly.
    #[error("{0}")]
    Capture(String),
}

#[derive(Debug)]
pub(crate) struct DoctorReport {
    pub(crate) hooks: Vec<&'static str>,
    pub(crate) snapshot: Snapshot,
    /// Whether the host has IPv6; it is tested then.
    pub(crate) ipv6: bool,
    pub(crate) totals: CaptureTotals,
    pub(crate) elapsed: Duration,
}

/// A process that runs `imdsmon sandbox-client`.
struct Client {
    name: &'static str,
    args: &'static [&'static str],
    expected: Expected,
}

const V4: &[Client] = &[
    Client {
        name: "IMDSv1",
        args: &[],
        expected: Expected::IMDSV1,
    },
    Client {
        name: "IMDSv2",
        args: &["--token"],
        expected: Expected::IMDSV2,
    },
];
const V6: &[Client] = &[
    Client {
        name: "IMDSv1 over IPv6",
        args: &["--ipv6"],
        expected: Expected::IMDSV1,
    },
    Client {
        name: "IMDSv2 over IPv6",
        args: &["--ipv6", "--token"],
        expected: Expected::IMDSV2,
    },
];

/// Must be called inside a tokio runtime.
pub(crate) async fn run() -> Result<DoctorReport, SelfTestError> {
    let start = Instant::now();
    let mut monitor = Monitor::start(
        Options::default(),
        Path::new("/"),
        Rc::new(Knowledge::builtin()),
    )?;
    let simulator = ImdsSimulator::start(ImdsConfig::default())?;
    let ipv6 = if simulator.has_ipv6() { V6 } else { &[] };
    let mut captured = Captured::default();
    let mut results = Err(SelfTestError::Client("not started".into()));
    let clients = async {
        results = run_clients(&simulator, V4.iter().chain(ipv6)).await;
        tokio::time::sleep(DRAIN_DELAY).await;
    };
    monitor.run(clients, &mut captured).await?;
    for (client, pid) in results? {
        let compared = captured.compare(client, pid, simulator.netns());
        compared.map_err(|why| SelfTestError::Capture(format!("{} client: {why}", client.name)))?;
    }
    let source = monitor.source();
    Ok(DoctorReport {
        hooks: source.hooks().to_vec(),
        snapshot: source.snapshot().clone(),
        ipv6: simulator.has_ipv6(),
        totals: source.totals(),
        elapsed: start.elapsed(),
    })
}

/// Runs the clients in sequence; returns each with its PID.
async fn run_clients(
    simulator: &ImdsSimulator,
    clients: impl Iterator<Item = &'static Client>,
) -> Result<Vec<(&'static Client, u32)>, SelfTestError> {
    let deadline = Instant::now() + CLIENTS_TIMEOUT;
    let mut pids = Vec::new();
    for client in clients {
        let failed = |why: String| SelfTestError::Client(format!("{}: {why}", client.name));
        let mut command = Command::new(Path::new("/proc/self/exe"));
        command
            .arg("sandbox-client")
            .args(client.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = simulator
            .enter(&mut command)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        pids.push((client, child.id()));
        wait(&mut child, deadline).await.map_err(failed)?;
    }
    Ok(pids)
}

async fn wait(child: &mut Child, deadline: Instant) -> Result<(), String> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) => {
                let err = child.stderr.take().map(io::read_to_string);
                return Err(err.and_then(Result::ok).unwrap_or_default().trim().into());
            }
            Err(error) => return Err(error.to_string()),
            Ok(None) if Instant::now() > deadline => {
                // The child may have ended.
                let _ = child.kill().and_then(|()| child.wait());
                return Err("timed out".into());
            }
            Ok(None) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// Calls with the PID and the network namespace that they were attributed to.
#[derive(Default)]
struct Captured(Vec<(u32, Option<u32>, Call)>);

impl Sink for Captured {
    fn accept(&mut self, attributed: &AttributedEvent) -> io::Result<()> {
        if let (HttpEvent::Call(call), Some(process)) =
            (&attributed.event, &attributed.caller.process)
        {
            self.0.push((process.pid, process.netns, (**call).clone()));
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn compare(&self, client: &Client, pid: u32, netns: u32) -> Result<(), String> {
        let of_client = || self.0.iter().filter(|(of, ..)| *of == pid);
        client
            .expected
            .compare(of_client().map(|(.., call)| call))?;
        if of_client().any(|(_, of, _)| of.is_some_and(|of| of != netns)) {
            return Err("attributed to another network namespace".into());
        }
        Ok(())
    }
}
