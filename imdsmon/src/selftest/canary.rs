//! Verifies repeatedly that the service captures calls.
//!
//! A thread of the service calls a simulated IMDS in a private network namespace. Its calls pass
//! the real hooks and the same pipeline as all others. They never count for a client: they have the
//! service's PID or, if the service is in another PID namespace than the kernel's, come from that
//! network namespace, which nothing else uses.

use std::{
    cell::RefCell,
    sync::mpsc::{self, Sender},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

use super::probe::{self, Expected};
use crate::{
    capabilities,
    enrich::in_host_pid_namespace,
    event::Endpoint,
    http::call::{Call, HttpEvent},
    identity::Process,
    pipeline::AttributedEvent,
    sandbox::{ImdsConfig, ImdsSimulator, SimulatorError},
};

/// The calls and their capture take a few milliseconds.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

type CallResult = anyhow::Result<()>;

/// A network namespace with a calling thread, and the captured calls.
pub(crate) struct Canary {
    simulator: ImdsSimulator,
    requests: Sender<oneshot::Sender<CallResult>>,
    /// The service's PID, if the kernel uses the same number.
    pid: Option<u32>,
    captured: RefCell<Vec<Call>>,
    changed: Notify,
}

impl Canary {
    /// Creates the network namespace; only this needs `CAP_SYS_ADMIN`.
    pub(crate) fn new() -> Result<Self, SimulatorError> {
        let simulator = ImdsSimulator::start(ImdsConfig::default())?;
        let (sender, requests) = mpsc::channel::<oneshot::Sender<CallResult>>();
        simulator.spawn_inside("canary", move || {
            if let Err(error) = capabilities::drop_startup_only() {
                tracing::warn!(%error, "cannot drop capabilities in the canary's thread");
            }
            for reply in requests {
                // The receiver is dropped if the service ends.
                let _ = reply.send(make_calls());
            }
        })?;
        Ok(Self {
            simulator,
            requests: sender,
            pid: in_host_pid_namespace().then(std::process::id),
            captured: RefCell::default(),
            changed: Notify::new(),
        })
    }

    /// Returns whether a captured event is the canary's.
    pub(crate) fn observe(&self, attributed: &AttributedEvent) -> bool {
        let netns = Some(self.simulator.netns());
        let is_own = |process: &Process| Some(process.pid) == self.pid || process.netns == netns;
        if !attributed.caller.process.as_deref().is_some_and(is_own) {
            return false;
        }
        if let HttpEvent::Call(call) = &attributed.event {
            let mut captured = self.captured.borrow_mut();
            // One too many already fails the comparison.
            if captured.len() <= Expected::BOTH.count() {
                captured.push((**call).clone());
            }
            self.changed.notify_one();
        }
        true
    }

    /// Makes the calls and waits until they are captured. The error is a clause.
    pub(crate) async fn run(&self) -> Result<(), String> {
        let deadline = Instant::now() + CHECK_TIMEOUT;
        self.captured.borrow_mut().clear();
        let (reply, made) = oneshot::channel();
        // Both channels close only if the thread has ended.
        let ended = || "the canary's thread has ended".to_owned();
        self.requests.send(reply).map_err(|_closed| ended())?;
        match timeout_at(deadline, made).await {
            Err(_elapsed) => return Err("the canary's calls timed out".into()),
            Ok(made) => made
                .map_err(|_closed| ended())?
                .map_err(|error| format!("{error:#}"))?,
        }
        while self.captured.borrow().len() < Expected::BOTH.count() {
            let captured = timeout_at(deadline, self.changed.notified());
            if captured.await.is_err() {
                break;
            }
        }
        Expected::BOTH.compare(&*self.captured.borrow())
    }
}

/// Blocks the canary's thread.
fn make_calls() -> CallResult {
    probe::call(Endpoint::V4, probe::PATH, false)?;
    probe::call(Endpoint::V4, probe::PATH, true)
}
