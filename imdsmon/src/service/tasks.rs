//! What goes on beside hearing: writing, signs of life, the canary, reloads, answers to scrapes.

use std::{cell::RefCell, rc::Rc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{LoadConfig, Shared, clock, clock::Clock, is_fatal};
use crate::service::{store_writer::StoreWriter, watchdog};
use crate::{
    capture::source,
    config::{Config, value::Listen},
    export::server::{Question, Server},
    store::Limits,
};

/// What gathers for so long is written at once; with the time that the disk takes it is the most
/// that a power cut can take.
const GATHER: Duration = Duration::from_millis(900);
/// Time between two attempts to write what could not be written.
const RETRY: Duration = Duration::from_secs(5);
/// Time between two publications of files.
const PERIOD: Duration = Duration::from_secs(15);
/// How long the start waits for the store.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end waits for the disk.
const LAST_WORD: Duration = Duration::from_secs(10);
/// Questions of scrapers that wait.
const QUESTIONS: usize = 8;

/// All of them.
pub struct Tasks {
    config: RefCell<Config>,
    load: Rc<LoadConfig>,
    store_writer: Rc<StoreWriter>,
    shared: Rc<Shared>,
    /// Nothing is written any more but the last of it.
    ended: Rc<Notify>,
    writer: RefCell<Option<JoinHandle<()>>>,
    server: RefCell<Option<(Listen, JoinHandle<()>)>>,
    inherited: RefCell<Option<JoinHandle<()>>>,
}

impl Tasks {
    /// None is running yet.
    pub fn new(
        config: Config,
        load: Rc<LoadConfig>,
        store_writer: StoreWriter,
        shared: Rc<Shared>,
    ) -> Self {
        Self {
            config: RefCell::new(config),
            load,
            store_writer: Rc::new(store_writer),
            shared,
            ended: Rc::new(Notify::new()),
            writer: RefCell::new(None),
            server: RefCell::new(None),
            inherited: RefCell::new(None),
        }
    }

    /// Runs for ever, unless the service cannot go on.
    pub async fn run(&self) -> anyhow::Error {
        let (fatal, mut failed) = mpsc::channel(1);
        let (begun, first) = tokio::sync::oneshot::channel();
        let writer = Writer {
            thread: Rc::clone(&self.store_writer),
            shared: Rc::clone(&self.shared),
            limits: Rc::new(std::cell::Cell::new(limits(&self.config.borrow()))),
            ended: Rc::clone(&self.ended),
            fatal,
        };
        let set_limits = Rc::clone(&writer.limits);
        self.shared.changed.notify_one();
        *self.writer.borrow_mut() = Some(tokio::task::spawn_local(writer.run(begun)));
        let (ask, questions) = mpsc::channel(QUESTIONS);
        // From here on, for it would end the process otherwise.
        let sighup = match signal(SignalKind::hangup()) {
            Ok(sighup) => sighup,
            Err(error) => return error.into(),
        };
        let others = async {
            // A store that is large or on a slow disk does not keep the host's network waiting.
            drop(timeout(PATIENCE, first).await);
            self.inherit(&ask);
            self.listen(&ask).await;
            watchdog::ready(&self.shared.state.borrow_mut().status());
            tokio::join!(
                self.watchdog(),
                self.run_canary(),
                self.publish(),
                self.reload(sighup, &ask, &set_limits),
                self.answer(questions),
            )
        };
        tokio::select! {
            // First of all: nobody is told that a service is ready that cannot go on.
            biased;
            Some(error) = failed.recv() => error,
            _ = others => anyhow::anyhow!("the service's tasks ended"),
        }
    }

    /// Writes what is left, and says so if that is not possible.
    pub async fn finish(&self) {
        let server = self.server.borrow_mut().take();
        if let Some((_, server)) = server {
            server.abort();
            // Its socket's name goes with it.
            drop(server.await);
        }
        if let Some(server) = self.inherited.borrow_mut().take() {
            server.abort();
        }
        self.ended.notify_one();
        let writer = self.writer.borrow_mut().take();
        if let Some(writer) = writer
            && timeout(LAST_WORD, writer).await.is_err()
        {
            tracing::error!("the disk does not answer: the last counts are not in the store");
        }
        self.publish_once();
        let unwritten = self.shared.state.borrow().unwritten();
        match unwritten {
            0 => {}
            calls => {
                tracing::error!("{calls} calls could not be written to the store and are lost");
            }
        }
    }

    /// Twice in the watchdog's time.
    async fn watchdog(&self) {
        let mut clock = Clock::now();
        loop {
            sleep(watchdog::heartbeat()).await;
            let mut state = self.shared.state.borrow_mut();
            let now = source::now();
            match clock.change() {
                Some(clock::Change::Slept) => {
                    tracing::warn!("the host slept: nobody watched, and nobody called, meanwhile");
                    state.coverage().interrupted(now);
                }
                Some(clock::Change::Set) => {
                    tracing::warn!("the clock was set: times before and after do not fit together");
                    state.coverage().interrupted(now);
                }
                None => state.coverage().goes_on(now),
            }
            watchdog::alive(&state.status());
            drop(state);
            self.shared.changed.notify_one();
        }
    }

    /// The canary, now and then.
    async fn run_canary(&self) {
        loop {
            let interval = self.config.borrow().canary_interval.value;
            let canary = self.shared.state.borrow().canary.clone();
            let (Some(interval), Some(canary)) = (interval, canary) else {
                if interval.is_some() {
                    self.record_canary(Err("the canary has no network to sing in".into()));
                }
                return std::future::pending().await;
            };
            let result = canary.run().await;
            if let Err(why) = &result {
                tracing::error!("the canary was not heard, so calls may be missed: {why}");
            }
            self.record_canary(result);
            sleep(interval).await;
        }
    }

    fn record_canary(&self, result: Result<(), String>) {
        let mut state = self.shared.state.borrow_mut();
        state.coverage().tested(source::now(), result);
        drop(state);
        self.shared.change();
    }

    /// Files for others, when there is something new.
    async fn publish(&self) {
        loop {
            self.shared.published.notified().await;
            self.publish_once();
            sleep(PERIOD).await;
        }
    }

    fn publish_once(&self) {
        let mut state = self.shared.state.borrow_mut();
        if state.has_readers() {
            state.publish();
        }
    }

    /// Reads the configuration again on SIGHUP.
    async fn reload(
        &self,
        mut sighup: Signal,
        ask: &mpsc::Sender<Question>,
        set_limits: &std::cell::Cell<Limits>,
    ) {
        while sighup.recv().await.is_some() {
            watchdog::reloading();
            match (self.load)() {
                Ok(config) => {
                    self.apply(config, ask, set_limits).await;
                    tracing::info!("the configuration was read again");
                }
                Err(error) => tracing::error!(
                    "the configuration stays as it was, because the new one is wrong: {error}"
                ),
            }
            watchdog::ready(&self.shared.state.borrow_mut().status());
        }
    }

    async fn apply(
        &self,
        config: Config,
        ask: &mpsc::Sender<Question>,
        set_limits: &std::cell::Cell<Limits>,
    ) {
        let keep = {
            let old = self.config.borrow();
            [
                (old.store_dir.value != config.store_dir.value, "store.dir"),
                (
                    old.capture_buffer.value != config.capture_buffer.value,
                    "capture.buffer",
                ),
                (
                    old.capture_snapshot.value != config.capture_snapshot.value,
                    "capture.snapshot",
                ),
                (
                    old.canary_interval.value != config.canary_interval.value,
                    "canary.interval",
                ),
                (old.knowledge.value != config.knowledge.value, "knowledge"),
            ]
        };
        for (_, key) in keep.iter().filter(|(changed, _)| *changed) {
            tracing::warn!("{key} changes only when the service starts anew");
        }
        set_limits.set(limits(&config));
        self.shared.state.borrow_mut().apply(&config);
        *self.config.borrow_mut() = config;
        self.listen(ask).await;
        self.shared.change();
    }

    /// Serves on the socket that the service manager opened, if it did: the service itself may have
    /// no network. It stays through reloads.
    fn inherit(&self, ask: &mpsc::Sender<Question>) {
        match Server::inherited() {
            Ok(None) => {}
            Ok(Some(server)) => {
                let task = tokio::task::spawn_local(server.run(ask.clone()));
                *self.inherited.borrow_mut() = Some(task);
            }
            Err(error) => tracing::error!("the socket for metrics cannot be used: {error}"),
        }
    }

    /// Starts, moves or stops the endpoint for Prometheus.
    async fn listen(&self, ask: &mpsc::Sender<Question>) {
        let wanted = self.config.borrow().metrics_listen.value.clone();
        let running = self.server.borrow_mut().take();
        match running {
            Some((listen, server)) if Some(&listen) == wanted.as_ref() => {
                *self.server.borrow_mut() = Some((listen, server));
                return;
            }
            Some((_, server)) => {
                server.abort();
                drop(server.await);
            }
            None => {}
        }
        let Some(wanted) = wanted else { return };
        match Server::bind(&wanted).await {
            Ok(server) => {
                let task = tokio::task::spawn_local(server.run(ask.clone()));
                *self.server.borrow_mut() = Some((wanted, task));
            }
            Err(error) => tracing::error!("no metrics at {}: {error}", name(&wanted)),
        }
    }

    /// Answers scrapers.
    async fn answer(&self, mut questions: mpsc::Receiver<Question>) {
        while let Some(question) = questions.recv().await {
            // Who asked may be gone.
            drop(question.send(self.shared.state.borrow_mut().page()));
        }
    }
}

fn name(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => path.display().to_string(),
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        days: config.store_retention_days.value.0,
        mib: config.store_max_mib.value.0,
    }
}

/// Writes the store whenever there is something to write. Never interrupted in the middle of it.
struct Writer {
    thread: Rc<StoreWriter>,
    shared: Rc<Shared>,
    limits: Rc<std::cell::Cell<Limits>>,
    ended: Rc<Notify>,
    fatal: mpsc::Sender<anyhow::Error>,
}

impl Writer {
    async fn run(self, begun: tokio::sync::oneshot::Sender<()>) {
        let mut begun = Some(begun);
        loop {
            tokio::select! {
                biased;
                () = self.ended.notified() => break,
                () = self.shared.changed.notified() => {}
            }
            // The first word goes out at once: it claims the store.
            let is_written = self.write(false).await;
            if let Some(first) = begun.take() {
                // Nobody waits for it any more if it took long.
                let _ = first.send(());
            }
            let rest = if is_written {
                GATHER
            } else {
                self.shared.changed.notify_one();
                RETRY
            };
            tokio::select! {
                biased;
                () = self.ended.notified() => break,
                () = sleep(rest) => {}
            }
        }
        self.write(true).await;
    }

    /// Says whether everything is written.
    async fn write(&self, is_last: bool) -> bool {
        let batch = self
            .shared
            .state
            .borrow_mut()
            .batch(self.limits.get(), is_last);
        let outcome = self.thread.work(batch).await;
        let done = self.shared.state.borrow_mut().done(outcome);
        match done {
            Ok(()) => true,
            Err(Some(error)) if is_fatal(&error) => {
                // Nobody takes it if the end has come already.
                drop(self.fatal.try_send(error.into()));
                false
            }
            Err(_) => false,
        }
    }
}
