//! The service: watches for weeks, survives what happens to a host, and costs next to nothing.
//!
//! One thread hears, counts and answers; another writes the store, so that a disk that hangs makes
//! nobody deaf; a third is the canary, in a network of its own. While there is no traffic to IMDS
//! all of them sleep, but for a sign of life twice in the watchdog's time.
//!
//! - `coverage` and `clock` know when it watched, `canary` that it could hear, `doctor` who only tries;
//! - `state` holds what is counted, `store_writer` writes it, `recent_clients` is what an answer rests on;
//! - `notifier` tells the log, `systemd` the service manager, `exporters` everybody else.

mod clock;
mod coverage;
mod exporters;
mod notify;
pub(crate) mod privilege;
mod recent_clients;
mod state;
mod store_writer;
mod tasks;
mod watchdog;

use std::{cell::RefCell, io, path::Path, rc::Rc, time::Duration};

use anyhow::Context as _;
use tokio::{sync::Notify, task::LocalSet};

use self::{state::State, tasks::Tasks};
use crate::{
    capture::{Options, Snapshot, source::EventSource},
    config::{Config, ConfigError},
    knowledge::Knowledge,
    monitor::{Monitor, Sink},
    pipeline::{AttributedEvent, Pipeline},
    store::StoreError,
};
use crate::{selftest::canary::Canary, service::store_writer::StoreWriter};

/// Time between two words about the same trouble.
const REST: Duration = Duration::from_secs(600);

/// Reads the configuration; again at each reload.
pub type LoadConfig = dyn Fn() -> Result<Config, ConfigError>;
/// Makes the knowledge base of a configuration.
pub type LoadKnowledge = dyn Fn(&Config) -> anyhow::Result<Knowledge>;

/// Watches until `stop` is done. `host` is where the host's root directory is mounted. Must run
/// inside a tokio runtime of one thread.
pub async fn run(
    load: Rc<LoadConfig>,
    learn: &LoadKnowledge,
    host: &Path,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    LocalSet::new()
        .run_until(watch(load, learn, host, stop))
        .await
}

async fn watch(
    load: Rc<LoadConfig>,
    learn: &LoadKnowledge,
    host: &Path,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let config = load()?;
    for note in &config.notes {
        tracing::warn!("{note}");
    }
    let knowledge = Rc::new(learn(&config)?);
    let options = Options {
        ring_bytes: config.capture_buffer.value.0,
        snapshot: config.capture_snapshot.value,
    };
    let mut monitor = Monitor::start(options, host, Rc::clone(&knowledge))?;
    announce(monitor.live());
    let mut state = State::new(knowledge, &config);
    if config.canary_interval.value.is_some() {
        state.canary = canary();
    }
    // All that needs them is done.
    if let Err(error) = privilege::drop_spent() {
        tracing::warn!(%error, "privileges that are needed no more could not be given up");
    }
    // Its thread has no more than what is left.
    let store_writer =
        StoreWriter::start(config.store_dir.value.clone()).context("no thread for the store")?;
    let shared = Rc::new(Shared {
        state: RefCell::new(state),
        changed: Notify::new(),
        published: Notify::new(),
    });
    let tasks = Tasks::new(config, load, store_writer, Rc::clone(&shared));
    let mut sink = CaptureSink(Rc::clone(&shared));
    let outcome = {
        let watched = monitor.run(stop, &mut sink);
        let failed = tasks.run();
        tokio::select! {
            watched = watched => watched.map_err(Into::into),
            error = failed => Err(error),
        }
    };
    watchdog::stopping();
    // Also after an error: what was counted is worth keeping, unless there never was a place.
    let homeless = |error: &anyhow::Error| error.downcast_ref().is_some_and(is_fatal);
    if !outcome.as_ref().is_err_and(homeless) {
        tasks.finish().await;
    }
    outcome
}

/// The network for the canary, if there can be one.
fn canary() -> Option<Rc<Canary>> {
    match Canary::new() {
        Ok(canary) => Some(Rc::new(canary)),
        Err(error) => {
            tracing::error!(
                "the canary cannot be made, so that nothing proves that calls are heard: {error}"
            );
            None
        }
    }
}

/// Says what is watched, and from where.
fn announce(live: &EventSource) {
    let place = live.root().path.as_deref();
    let place = place.map_or("a private mount".into(), Path::to_string_lossy);
    tracing::info!("attached {} to {place}", live.hooks().join(", "));
    if let Snapshot::Off(why) = live.snapshot() {
        tracing::warn!(
            "processes are looked up in /proc only, so one that ends at once may stay unnamed ({why})"
        );
    }
}

/// What the tasks of the one thread share; nobody holds it while they wait.
pub struct Shared {
    state: RefCell<State>,
    /// Something is to be written.
    changed: Notify,
    /// Something is to be published.
    published: Notify,
}

impl Shared {
    /// Something was counted.
    fn change(&self) {
        self.changed.notify_one();
        self.published.notify_one();
    }
}

/// Takes what the monitor hears.
struct CaptureSink(Rc<Shared>);

impl Sink for CaptureSink {
    fn found(&mut self, found: &AttributedEvent) -> io::Result<()> {
        self.0.state.borrow_mut().found(found);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.state.borrow_mut().flush();
        Ok(())
    }

    fn progress(&mut self, live: &EventSource, pipeline: &Pipeline) {
        let now = crate::capture::source::now();
        let mut state = self.0.state.borrow_mut();
        state.counted(now, live.totals(), pipeline.counters());
        drop(state);
        self.0.change();
    }
}

/// Whether the service cannot go on: somebody else has the store, or there is no place for one.
fn is_fatal(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::InUse(_) | StoreError::Public(_) | StoreError::NotADirectory(_)
    )
}
