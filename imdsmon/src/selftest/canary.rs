//! Proves, again and again, that the service can hear.
//!
//! A thread of the service itself lives in a private network namespace with a simulated IMDS. Its
//! calls, one without a token and one with, leave through the real hooks and come back through
//! the same pipeline as everybody's. They are told from all others by their process id, which is
//! the service's own, or, in a pid namespace where the kernel knows that by another number, by
//! the network namespace, which nobody else is in: they never count as a client's.

use std::{
    cell::RefCell,
    io,
    sync::mpsc::{self, Sender},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    capabilities,
    enrich::sees_the_hosts_processes,
    event::Endpoint,
    http::call::{Call, HttpEvent, Outcome, Version},
    identity::Process,
    pipeline::AttributedEvent,
    sandbox::{
        ImdsConfig, ImdsSimulator, SimulatorError,
        client::{self, ClientError},
    },
};

/// How long the calls may take; they need a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is asked for.
const PATH: &str = "/latest/meta-data/instance-id";
/// The calls, in the order in which they are made.
const EXPECTED: [Version; 3] = [Version::V1, Version::Token, Version::V2];

/// The thread's answer: the calls were made, or why not.
type Made = Result<(), ClientError>;

/// The canary and its cage.
pub struct Canary {
    simulator: ImdsSimulator,
    calls: Sender<oneshot::Sender<Made>>,
    /// The service's process id, if the kernel knows it by the same number.
    pid: Option<u32>,
    seen: RefCell<Vec<Call>>,
    changed: Notify,
}

impl Canary {
    /// Makes the cage; needs `CAP_SYS_ADMIN` now, and never again.
    pub fn new() -> Result<Self, SimulatorError> {
        let simulator = ImdsSimulator::start(ImdsConfig::default())?;
        let (calls, wanted) = mpsc::channel::<oneshot::Sender<Made>>();
        simulator.spawn_inside("canary", move || {
            if let Err(error) = capabilities::drop_startup_only() {
                tracing::warn!(%error, "cannot drop the capabilities that only the start needs");
            }
            for answer in wanted {
                // Nobody waits any more if the service ends.
                drop(answer.send(call()));
            }
        })?;
        Ok(Self {
            simulator,
            calls,
            pid: sees_the_hosts_processes().then(std::process::id),
            seen: RefCell::default(),
            changed: Notify::new(),
        })
    }

    /// Takes a finding that is the service's own; says whether it was.
    pub fn observe(&self, found: &AttributedEvent) -> bool {
        let netns = Some(self.simulator.netns());
        let is_own = |process: &Process| Some(process.pid) == self.pid || process.netns == netns;
        if !found.caller.process.as_deref().is_some_and(is_own) {
            return false;
        }
        if let HttpEvent::Call(call) = &found.finding {
            let mut seen = self.seen.borrow_mut();
            // What was not asked for is not kept.
            if seen.len() < EXPECTED.len() + 1 {
                seen.push((**call).clone());
            }
            self.changed.notify_one();
        }
        true
    }

    /// Makes the calls and waits until they come out of the hooks. The error is the reason why
    /// the service may be deaf, as a clause.
    pub async fn run(&self) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        self.seen.borrow_mut().clear();
        let (answer, made) = oneshot::channel();
        let gone = || "its thread is gone".to_owned();
        self.calls.send(answer).map_err(|_closed| gone())?;
        match timeout_at(until, made).await {
            Err(_) => return Err("its calls did not end in time".into()),
            Ok(Err(_)) => return Err(gone()),
            Ok(Ok(Err(error))) => return Err(error.to_string()),
            Ok(Ok(Ok(()))) => {}
        }
        while self.seen.borrow().len() < EXPECTED.len() {
            if timeout_at(until, self.changed.notified()).await.is_err() {
                break;
            }
        }
        compare(&self.seen.borrow())
    }
}

fn compare(seen: &[Call]) -> Result<(), String> {
    let versions: Vec<_> = seen.iter().map(|call| call.version).collect();
    if versions != EXPECTED {
        return Err(format!(
            "{} calls were made, {} came out of the kernel hooks as they were made",
            EXPECTED.len(),
            versions
                .iter()
                .filter(|version| EXPECTED.contains(version))
                .count()
        ));
    }
    match seen
        .iter()
        .find(|call| call.outcome != Outcome::Answered || call.status != Some(200))
    {
        Some(call) => Err(format!("an answer of 200 came out as {:?}", call.status)),
        None => Ok(()),
    }
}

/// Runs on the canary's own thread, which may wait.
fn call() -> Made {
    let answer = client::get(Endpoint::V4, PATH, None)?;
    ensure(answer.status)?;
    let token = client::token(Endpoint::V4, 60)?;
    let answer = client::get(Endpoint::V4, PATH, Some(&token))?;
    ensure(answer.status)
}

fn ensure(status: u16) -> Made {
    if status == 200 {
        return Ok(());
    }
    let unexpected = io::Error::other(format!("status {status} instead of 200"));
    Err(ClientError::Io(unexpected))
}
