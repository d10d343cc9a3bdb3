//! The store's own thread: a disk that hangs must not keep anybody from hearing.
//!
//! One job at a time: while one is under way, what comes next gathers in memory. What could not
//! be written comes back, to be tried again together with that.

use std::{
    path::PathBuf,
    sync::mpsc::{self, Sender},
    thread::{self, JoinHandle},
};

use tokio::sync::oneshot;

use crate::{
    event::UnixNanos,
    ledger::{ClientStats, Coverage},
    store::{Limits, Quarantined, Store, StoreError},
};

use crate::service::recent_clients::since;

/// What to write.
pub struct Batch {
    /// Since the last job.
    pub delta: Vec<ClientStats>,
    /// Of this run, as it is.
    pub coverage: Coverage,
    /// Time of the job.
    pub now: UnixNanos,
    /// How much is kept.
    pub limits: Limits,
    /// Nothing comes after it.
    pub is_last: bool,
    /// Asks for what the store holds of the time since then, this job's delta included.
    pub load: Option<UnixNanos>,
}

/// What became of it.
pub struct CommitResult {
    /// Comes back if it could not be written; otherwise empty.
    pub delta: Vec<ClientStats>,
    /// Why not.
    pub error: Option<StoreError>,
    /// What an operator should know of: a store that was set aside.
    pub notes: Vec<String>,
    /// What the store held of earlier runs when it was opened, if that was now.
    pub found: Option<(Vec<ClientStats>, Coverage)>,
    /// What was asked for with [`Batch::load`].
    pub recalled: Option<Vec<ClientStats>>,
}

type Request = (Batch, oneshot::Sender<CommitResult>);

/// The thread's end of the line.
pub struct StoreWriter {
    jobs: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl StoreWriter {
    /// Starts the thread; the store is opened with the first job.
    pub fn start(directory: PathBuf) -> std::io::Result<Self> {
        let (jobs, letters) = mpsc::channel::<Request>();
        let thread = thread::Builder::new().name("store".into()).spawn(move || {
            let mut desk = Worker {
                directory,
                store: None,
            };
            for (batch, answer) in letters {
                // Nobody waits any more if the service was told to end twice.
                drop(answer.send(desk.work(batch)));
            }
        })?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Does a job. The delta comes back also if the thread is gone.
    pub async fn work(&self, batch: Batch) -> CommitResult {
        let (answer, outcome) = oneshot::channel();
        let gone = |delta| CommitResult {
            delta,
            error: None,
            notes: vec!["the thread that writes the store is gone".into()],
            found: None,
            recalled: None,
        };
        let sent = match &self.jobs {
            Some(jobs) => jobs.send((batch, answer)),
            None => return gone(batch.delta),
        };
        match sent {
            Err(mpsc::SendError((batch, _))) => gone(batch.delta),
            Ok(()) => outcome.await.unwrap_or_else(|_closed| gone(Vec::new())),
        }
    }
}

impl Drop for StoreWriter {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What the thread works on.
struct Worker {
    directory: PathBuf,
    store: Option<(Store, Limits)>,
}

impl Worker {
    fn work(&mut self, batch: Batch) -> CommitResult {
        let mut outcome = CommitResult {
            delta: Vec::new(),
            error: None,
            notes: Vec::new(),
            found: None,
            recalled: None,
        };
        if let Err(error) = self.write(&batch, &mut outcome) {
            if error.is_damage() {
                // Opened anew by the next job, which sets the damaged one aside.
                self.store = None;
            }
            outcome.error = Some(error);
            outcome.delta = batch.delta;
        }
        outcome
    }

    fn write(&mut self, batch: &Batch, outcome: &mut CommitResult) -> Result<(), StoreError> {
        let Batch {
            delta,
            coverage,
            now,
            limits,
            is_last,
            load,
        } = batch;
        let store = self.store(*limits, *now, outcome)?;
        if *is_last {
            store.close(delta, coverage, *now)?;
        } else {
            store.commit(delta, coverage, *now)?;
        }
        // From here on the delta is safe, whatever happens.
        outcome.recalled = load.and_then(|since| Some(store.load(since).ok()?.0));
        Ok(())
    }

    fn store(
        &mut self,
        limits: Limits,
        now: UnixNanos,
        outcome: &mut CommitResult,
    ) -> Result<&mut Store, StoreError> {
        let open = match self.store.take() {
            Some(open) => open,
            None => (self.open(limits, now, outcome)?, limits),
        };
        let (store, used) = self.store.insert(open);
        if *used != limits {
            store.set_limits(limits)?;
            *used = limits;
        }
        Ok(store)
    }

    fn open(
        &self,
        limits: Limits,
        now: UnixNanos,
        outcome: &mut CommitResult,
    ) -> Result<Store, StoreError> {
        let mut store = Store::open(&self.directory, limits)?;
        if let Some(Quarantined { path, reason }) = store.quarantine() {
            let path = path.display();
            outcome
                .notes
                .push(format!("{reason}; it was set aside as {path}"));
        }
        outcome.found = Some(store.load(since(now))?);
        Ok(store)
    }
}
