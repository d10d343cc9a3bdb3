//! Commits new counts to the store, at most once per [`COMMIT_INTERVAL`].

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{notify::WARN_INTERVAL, shared::Shared, store_thread::StoreThread};
use crate::store::StoreError;

/// Between two commits; a power failure discards at most this plus the disk's write time.
const COMMIT_INTERVAL: Duration = Duration::from_millis(900);
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

pub(crate) struct StoreWriter<'s> {
    thread: StoreThread,
    shared: &'s Shared,
    outage: Option<Outage>,
}

struct Outage {
    since: Instant,
    logged: Instant,
}

impl<'s> StoreWriter<'s> {
    pub(crate) fn new(thread: StoreThread, shared: &'s Shared) -> Self {
        Self {
            thread,
            shared,
            outage: None,
        }
    }

    /// Runs until [`Shared::stop`], then makes the last commit. Ends earlier only with an error
    /// that no retry can fix.
    pub(crate) async fn run(mut self) -> Result<(), StoreError> {
        let Shared {
            stop,
            commit,
            store_tried,
            ..
        } = self.shared;
        // The first commit does not wait for calls: it claims the store.
        commit.notify_one();
        loop {
            tokio::select! {
                biased;
                () = stop.notified() => break,
                () = commit.notified() => {}
            }
            let is_written = self.commit(false).await?;
            store_tried.notify_one();
            let pause = if is_written {
                COMMIT_INTERVAL
            } else {
                commit.notify_one();
                RETRY_INTERVAL
            };
            tokio::select! {
                biased;
                () = stop.notified() => break,
                () = sleep(pause) => {}
            }
        }
        self.commit(true).await?;
        Ok(())
    }

    /// Returns whether everything is written.
    async fn commit(&mut self, is_last: bool) -> Result<bool, StoreError> {
        let batch = self.shared.state.borrow_mut().batch(is_last);
        let mut result = self.thread.commit(batch).await;
        for note in &result.notes {
            tracing::warn!("{note}");
        }
        let error = result.error.take();
        let is_written = error.is_none() && result.unwritten.is_empty();
        self.note(error.as_ref());
        let mut state = self.shared.state.borrow_mut();
        state.committed(result, is_written);
        match error {
            Some(error) if is_permanent(&error) => Err(error),
            _ => Ok(is_written),
        }
    }

    /// Logs the start and the end of an outage, and reminders.
    fn note(&mut self, error: Option<&StoreError>) {
        let now = Instant::now();
        let Some(error) = error else {
            if let Some(Outage { since, .. }) = self.outage.take() {
                let seconds = since.elapsed().as_secs();
                tracing::warn!(
                    "the store is writable again after {seconds} s; all counts were kept"
                );
            }
            return;
        };
        let since = self.outage.as_ref().map_or(now, |outage| outage.since);
        let is_due = |outage: &Outage| now - outage.logged >= WARN_INTERVAL;
        if !is_permanent(error) && self.outage.as_ref().is_none_or(is_due) {
            tracing::error!("cannot write the store: {error}; counts stay in memory, retrying");
            self.outage = Some(Outage { since, logged: now });
        }
    }
}

/// Whether a retry cannot help: another service has the store, or its directory is unusable.
fn is_permanent(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::InUse(_) | StoreError::Public(_) | StoreError::NotADirectory(_)
    )
}
