//! Proves that the monitor can hear: calls with and without a token, made in a private network,
//! must come out of the real hooks, attributed to the process that made them.

use std::{
    io,
    path::Path,
    process::{Child, Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    capture::{AttachError, Options, Snapshot},
    event::Totals,
    http::call::{Call, HttpEvent, Outcome, TokenValue, Version},
    knowledge::Knowledge,
    monitor::{Monitor, Sink},
    pipeline::AttributedEvent,
    sandbox::{ImdsConfig, ImdsSimulator, SimulatorError},
};

/// How long all clients together may take; they need a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long after the last client an event may still come.
const GRACE: Duration = Duration::from_millis(50);

/// Why the self-test could not be done, or failed.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// Nothing could be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// There is no private network to test in.
    #[error(transparent)]
    Simulator(#[from] SimulatorError),
    /// The client did not run.
    #[error("the self-test's own client failed: {0}")]
    Client(String),
    /// Something went wrong while reading.
    #[error("reading the kernel's events failed: {0}")]
    Io(#[from] io::Error),
    /// The calls were made, but did not come out as they were made.
    #[error("{0}")]
    Deaf(String),
}

/// What the self-test found.
#[derive(Debug)]
pub struct Report {
    /// The hooks that were attached.
    pub hooks: Vec<&'static str>,
    /// Whether the kernel hands over a snapshot of each task.
    pub snapshot: Snapshot,
    /// Whether IPv6 was tested too.
    pub ipv6: bool,
    /// What went through.
    pub totals: Totals,
    /// How long it took.
    pub took: Duration,
}

/// What one client must be seen to do.
struct Expected {
    name: &'static str,
    args: &'static [&'static str],
    calls: &'static [(Version, Option<TokenValue>)],
}

const TOKENLESS: &[(Version, Option<TokenValue>)] = &[(Version::V1, None)];
const TOKENED: &[(Version, Option<TokenValue>)] = &[
    (Version::Token, None),
    (Version::V2, Some(TokenValue::Present)),
];
const V4: &[Expected] = &[
    Expected {
        name: "tokenless",
        args: &[],
        calls: TOKENLESS,
    },
    Expected {
        name: "tokened",
        args: &["--token"],
        calls: TOKENED,
    },
];
const V6: &[Expected] = &[
    Expected {
        name: "tokenless IPv6",
        args: &["--ipv6"],
        calls: TOKENLESS,
    },
    Expected {
        name: "tokened IPv6",
        args: &["--ipv6", "--token"],
        calls: TOKENED,
    },
];

/// Attaches, makes the calls and compares. Must run inside a tokio runtime.
pub async fn run() -> Result<Report, SelfTestError> {
    let begun = Instant::now();
    let mut monitor = Monitor::start(
        Options::default(),
        Path::new("/"),
        Rc::new(Knowledge::builtin()),
    )?;
    let simulator = ImdsSimulator::start(ImdsConfig::default())?;
    let expected: Vec<_> = V4
        .iter()
        .chain(if simulator.has_ipv6() { V6 } else { &[] })
        .collect();
    let mut seen = Seen::default();
    let clients = async {
        let made = make_calls(&simulator, &expected).await;
        tokio::time::sleep(GRACE).await;
        made
    };
    let mut made = None;
    monitor
        .run(async { made = Some(clients.await) }, &mut seen)
        .await?;
    let pids = made.unwrap_or_else(|| Err(SelfTestError::Client("it never ran".into())))?;
    for (expected, pid) in expected.iter().zip(pids) {
        compare(expected, pid, simulator.netns(), &seen.0)?;
    }
    let live = monitor.live();
    Ok(Report {
        hooks: live.hooks().to_vec(),
        snapshot: live.snapshot().clone(),
        ipv6: simulator.has_ipv6(),
        totals: live.totals(),
        took: begun.elapsed(),
    })
}

/// Runs the clients one after the other and gives their process ids.
async fn make_calls(
    simulator: &ImdsSimulator,
    expected: &[&Expected],
) -> Result<Vec<u32>, SelfTestError> {
    let until = Instant::now() + PATIENCE;
    let mut pids = Vec::new();
    for expected in expected {
        let mut command = Command::new(Path::new("/proc/self/exe"));
        command.arg("sandbox-client").args(expected.args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let failed = |why: String| SelfTestError::Client(format!("{}: {why}", expected.name));
        let mut child = simulator
            .enter(&mut command)
            .spawn()
            .map_err(|e| failed(e.to_string()))?;
        pids.push(child.id());
        wait(&mut child, until).await.map_err(failed)?;
    }
    Ok(pids)
}

async fn wait(child: &mut Child, until: Instant) -> Result<(), String> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) => {
                let mut why = String::new();
                if let Some(mut err) = child.stderr.take() {
                    drop(io::Read::read_to_string(&mut err, &mut why));
                }
                return Err(why.trim().to_owned());
            }
            Err(error) => return Err(error.to_string()),
            Ok(None) if Instant::now() > until => {
                drop(child.kill().and_then(|()| child.wait()));
                return Err("it did not end in time".into());
            }
            Ok(None) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// Calls, each with the process and the network namespace it was attributed to.
#[derive(Default)]
struct Seen(Vec<(Option<u32>, Option<u32>, Call)>);

impl Sink for Seen {
    fn found(&mut self, found: &AttributedEvent) -> io::Result<()> {
        if let HttpEvent::Call(call) = &found.finding {
            let process = found.caller.process.as_deref();
            self.0.push((
                process.map(|p| p.pid),
                process.and_then(|p| p.netns),
                (**call).clone(),
            ));
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn compare(
    expected: &Expected,
    pid: u32,
    netns: u32,
    seen: &[(Option<u32>, Option<u32>, Call)],
) -> Result<(), SelfTestError> {
    let deaf = |why| {
        Err(SelfTestError::Deaf(format!(
            "the {} client: {why}",
            expected.name
        )))
    };
    let own: Vec<_> = seen.iter().filter(|(by, ..)| *by == Some(pid)).collect();
    if own.len() != expected.calls.len() {
        let (made, came) = (expected.calls.len(), own.len());
        return deaf(format!(
            "{made} calls were made, {came} came out of the kernel hooks"
        ));
    }
    for ((_, place, call), (version, token)) in own.into_iter().zip(expected.calls) {
        if call.version != *version || call.token != *token {
            return deaf(format!("a {version:?} call came out as {:?}", call.version));
        }
        if call.outcome != Outcome::Answered || call.status != Some(200) {
            return deaf(format!("an answer of 200 came out as {:?}", call.status));
        }
        if place.is_some_and(|place| place != netns) {
            return deaf("it was attributed to another network namespace".into());
        }
    }
    Ok(())
}
