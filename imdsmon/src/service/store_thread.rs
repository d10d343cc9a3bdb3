//! The thread that writes the store: a stalled disk must not block capture.
//!
//! It commits one batch at a time. The service adds unwritten counts to the next batch.

use std::{
    io,
    path::PathBuf,
    sync::mpsc::{self, Sender},
    thread::{self, JoinHandle},
};

use tokio::sync::oneshot;

use super::recent_clients::window_start;
use crate::time::Timestamp;
use crate::{
    ledger::{ClientStats, Coverage},
    store::{Quarantined, Store, StoreError, StoreLimits},
};

pub(crate) struct Batch {
    pub(crate) delta: Vec<ClientStats>,
    /// The whole coverage of this run.
    pub(crate) coverage: Coverage,
    pub(crate) now: Timestamp,
    pub(crate) limits: StoreLimits,
    /// No batch follows: the store is closed.
    pub(crate) is_last: bool,
    /// Read back all clients since then, including this delta.
    pub(crate) reload_since: Option<Timestamp>,
}

#[derive(Default)]
pub(crate) struct CommitResult {
    /// The delta, if it was not written.
    pub(crate) unwritten: Vec<ClientStats>,
    pub(crate) error: Option<StoreError>,
    /// For the log: a database that was renamed.
    pub(crate) notes: Vec<String>,
    /// Clients and coverage of earlier runs, if this commit opened the store.
    pub(crate) earlier: Option<(Vec<ClientStats>, Coverage)>,
    /// Result of [`Batch::reload_since`].
    pub(crate) reloaded: Option<Vec<ClientStats>>,
}

type Request = (Batch, oneshot::Sender<CommitResult>);

pub(crate) struct StoreThread {
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl StoreThread {
    /// Starts the thread; the first commit opens the store.
    pub(crate) fn start(directory: PathBuf) -> io::Result<Self> {
        let (sender, requests) = mpsc::channel::<Request>();
        let thread = thread::Builder::new().name("store".into()).spawn(move || {
            let mut worker = Worker {
                directory,
                store: None,
            };
            for (batch, reply) in requests {
                // The service may no longer wait for the last commit.
                let _ = reply.send(worker.commit(batch));
            }
        })?;
        Ok(Self {
            requests: Some(sender),
            thread: Some(thread),
        })
    }

    /// Opens the store if it is not open.
    pub(crate) async fn commit(&self, batch: Batch) -> CommitResult {
        let (reply, result) = oneshot::channel();
        let sent = match &self.requests {
            Some(requests) => requests.send((batch, reply)).map_err(|error| error.0.0),
            None => Err(batch),
        };
        let unwritten = match sent {
            Ok(()) => match result.await {
                Ok(result) => return result,
                Err(_closed) => Vec::new(),
            },
            Err(batch) => batch.delta,
        };
        CommitResult {
            unwritten,
            notes: vec!["the store thread has ended".into()],
            ..CommitResult::default()
        }
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // The thread has printed its panic.
            let _ = thread.join();
        }
    }
}

struct Worker {
    directory: PathBuf,
    store: Option<(Store, StoreLimits)>,
}

impl Worker {
    fn commit(&mut self, batch: Batch) -> CommitResult {
        let mut result = CommitResult::default();
        if let Err(error) = self.write(&batch, &mut result) {
            if error.is_damage() {
                // The next commit opens it again, which renames the damaged database.
                self.store = None;
            }
            result.error = Some(error);
            result.unwritten = batch.delta;
        }
        result
    }

    fn write(&mut self, batch: &Batch, result: &mut CommitResult) -> Result<(), StoreError> {
        let Batch {
            delta,
            coverage,
            now,
            limits,
            is_last,
            reload_since,
        } = batch;
        let store = self.store(*limits, *now, result)?;
        if *is_last {
            store.close(delta, coverage, *now)?;
        } else {
            store.commit(delta, coverage, *now)?;
        }
        // The delta is on disk: a read error must not return it as unwritten.
        result.reloaded = reload_since.and_then(|since| Some(store.load(since).ok()?.0));
        Ok(())
    }

    fn store(
        &mut self,
        limits: StoreLimits,
        now: Timestamp,
        result: &mut CommitResult,
    ) -> Result<&mut Store, StoreError> {
        let open = match self.store.take() {
            Some(open) => open,
            None => (self.open(limits, now, result)?, limits),
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
        limits: StoreLimits,
        now: Timestamp,
        result: &mut CommitResult,
    ) -> Result<Store, StoreError> {
        let mut store = Store::open(&self.directory, limits)?;
        if let Some(Quarantined { path, reason }) = store.quarantine() {
            let note = format!("{reason}; renamed it to {}", path.display());
            result.notes.push(note);
        }
        result.earlier = Some(store.load(window_start(now))?);
        Ok(store)
    }
}
