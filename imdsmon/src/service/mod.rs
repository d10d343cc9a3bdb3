//! The service: continuous capture with a store, exporters and a canary.
//!
//! One thread captures, counts and serves metrics; a second writes the store, because a stalled
//! disk must not block capture; a third makes the canary's calls in a private network namespace.
//! Without IMDS traffic, all of them sleep between two heartbeats.
//!
//! [`state`] holds the counts. Each other loop has its own file and reaches the state through
//! [`shared`]: [`store_writer`], [`watchdog`], [`canary`], [`file_export`],
//! [`metrics_endpoint`] and [`reload`].

mod canary;
mod capture_sink;
mod clock_watch;
mod coverage;
mod exporters;
mod file_export;
mod metrics_endpoint;
mod notify;
mod recent_clients;
mod reload;
mod shared;
mod state;
mod store_thread;
mod store_writer;
mod systemd;
mod watchdog;

use std::{path::Path, pin::pin, rc::Rc, time::Duration};

use anyhow::{Context as _, anyhow};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use self::{
    capture_sink::CaptureSink,
    metrics_endpoint::MetricsEndpoint,
    reload::{LoadConfig, Reload},
    shared::Shared,
    state::State,
    store_thread::StoreThread,
    store_writer::StoreWriter,
};
use crate::{
    capabilities,
    capture::{Snapshot, source::EventSource},
    config::Config,
    knowledge::Knowledge,
    monitor::Monitor,
    selftest::canary::Canary,
};

/// How long startup waits for the store: a slow disk must not delay the host's network.
const STORE_OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long shutdown waits for the disk; systemd kills the service after twice that time.
const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) type LoadKnowledge = dyn Fn(&Config) -> anyhow::Result<Knowledge>;

/// Runs until `stop` completes. `host` is the mount point of the host's root directory.
///
/// Must be called inside a tokio runtime. Fails if the configuration is invalid, nothing can be
/// attached, or this service cannot use the store directory.
pub(crate) async fn run(
    load: &LoadConfig,
    load_knowledge: &LoadKnowledge,
    host: &Path,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let config = load()?;
    for note in &config.notes {
        tracing::warn!("{note}");
    }
    let knowledge = Rc::new(load_knowledge(&config)?);
    let mut monitor = Monitor::start(config.capture_options(), host, Rc::clone(&knowledge))?;
    log_attached(monitor.source());
    let canary = config.canary_interval.value.and_then(|_| start_canary());
    // The following code does not need these capabilities.
    if let Err(error) = capabilities::drop_startup_only() {
        tracing::warn!(%error, "cannot drop startup-only capabilities");
    }
    // The thread inherits only the remaining capabilities.
    let thread = StoreThread::start(config.store_dir.value.clone())
        .context("cannot start the store thread")?;
    let shared = Shared::new(State::new(knowledge, &config));
    let mut sink = CaptureSink::new(&shared, canary.as_ref());
    let mut store = pin!(StoreWriter::new(thread, &shared).run());
    let (mut endpoint, page_requests) = MetricsEndpoint::new();
    let background = async {
        // Before anything else: without a handler, SIGHUP ends the process.
        let sighup = signal(SignalKind::hangup())?;
        // On a timeout, the service starts anyway and counts in memory until the store opens.
        let _ = timeout(STORE_OPEN_TIMEOUT, shared.store_tried.notified()).await;
        endpoint.inherit();
        endpoint.listen(config.metrics_listen.value.as_ref()).await;
        systemd::ready(&shared.state.borrow_mut().status());
        let interval = config.canary_interval.value;
        let reload = Reload::new(load, config, &shared, &mut endpoint);
        tokio::join!(
            watchdog::run(&shared),
            canary::run(canary.as_ref(), interval, &shared),
            file_export::run(&shared),
            metrics_endpoint::serve_pages(page_requests, &shared),
            reload.run(sighup),
        );
        Err(anyhow!("the background tasks ended"))
    };
    let outcome = tokio::select! {
        // Poll the store first: a service without one must not report that it is ready.
        biased;
        Err(error) = &mut store => return Err(error.into()),
        captured = monitor.run(stop, &mut sink) => captured.map_err(Into::into),
        failed = background => failed,
    };
    systemd::stopping();
    // Also after an error, to keep the counts.
    endpoint.close().await;
    shared.stop.notify_one();
    match timeout(LAST_COMMIT_TIMEOUT, store).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!("cannot write the store: {error}"),
        Err(_elapsed) => {
            tracing::error!("timed out writing the store; the most recent counts were not saved");
        }
    }
    let mut state = shared.state.borrow_mut();
    state.write_files();
    match state.uncommitted_calls() {
        0 => {}
        calls => tracing::error!("{calls} calls were not saved to the store"),
    }
    outcome
}

fn start_canary() -> Option<Canary> {
    match Canary::new() {
        Ok(canary) => Some(canary),
        Err(error) => {
            tracing::error!("cannot set up the canary, capture is not verified: {error}");
            None
        }
    }
}

fn log_attached(source: &EventSource) {
    let root = source.root().path.as_deref();
    let root = root.map_or("a private cgroup v2 mount".into(), Path::to_string_lossy);
    tracing::info!("attached {} to {root}", source.hooks().join(", "));
    if let Snapshot::Off(why) = source.snapshot() {
        tracing::warn!(
            "callers are identified through /proc only; short-lived processes may show up as \
             unknown ({why})"
        );
    }
}
