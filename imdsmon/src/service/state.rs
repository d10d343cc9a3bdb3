//! What the service knows at this moment.

use std::{
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{REST, is_fatal};
use crate::{
    capture::source,
    config::Config,
    event::{Totals, UnixNanos},
    http::Counters,
    identity::client::Client,
    knowledge::Knowledge,
    ledger::{ClientStats, Ledger},
    pipeline::AttributedEvent,
    report::labels,
    store::{Limits, StoreError},
    verdict::{self, Assessment, Policy},
};
use crate::{
    selftest::{canary::Canary, doctor_filter::Doctor},
    service::{
        coverage::CoverageTracker,
        exporters::Exporters,
        notify::ClientNotifier,
        recent_clients::{RecentClients, since},
        store_writer::{Batch, CommitResult},
    },
};

/// Time after which what is too old is forgotten.
const REDRAW: Duration = Duration::from_secs(24 * 3600);

/// Everything that is counted, written or not.
pub struct State {
    knowledge: Rc<Knowledge>,
    ledger: Ledger,
    /// What could not be written yet.
    backlog: BTreeMap<Client, ClientStats>,
    recent_clients: RecentClients,
    coverage: CoverageTracker,
    notifier: ClientNotifier,
    doctor: Doctor,
    exporters: Exporters,
    /// Time that must be watched for an answer.
    min_window: Duration,
    /// `None` where no network can be made for it, or where it is not wanted.
    pub canary: Option<Rc<Canary>>,
    redrawn: Instant,
    /// Since when nothing can be written, and when that was said last.
    trouble: Option<(Instant, Instant)>,
}

impl State {
    /// Watching begins.
    pub fn new(knowledge: Rc<Knowledge>, config: &Config) -> Self {
        Self {
            ledger: Ledger::new(Rc::clone(&knowledge)),
            knowledge,
            backlog: BTreeMap::new(),
            recent_clients: RecentClients::default(),
            coverage: CoverageTracker::since(source::now()),
            notifier: ClientNotifier::default(),
            doctor: Doctor::default(),
            exporters: Exporters::open(config),
            min_window: config.report_min_window.value,
            canary: None,
            redrawn: Instant::now(),
            trouble: None,
        }
    }

    /// Takes a finding; says whether it is a client's.
    pub fn found(&mut self, found: &AttributedEvent) -> bool {
        if self
            .canary
            .as_ref()
            .is_some_and(|canary| canary.observe(found))
        {
            return false;
        }
        if self.doctor.made(found) {
            return false;
        }
        let client = self.ledger.add(found);
        self.notifier.note(found, &client);
        self.exporters.found(found);
        true
    }

    /// There is nothing more for now.
    pub fn flush(&mut self) {
        self.exporters.flush();
    }

    /// The configuration was read again.
    pub fn apply(&mut self, config: &Config) {
        self.exporters.apply(config);
        self.min_window = config.report_min_window.value;
    }

    /// What the ledger holds goes where it belongs.
    fn gather(&mut self) {
        let delta = self.ledger.take();
        self.exporters.count(&delta);
        for entry in delta {
            self.recent_clients.add(&entry);
            put(&mut self.backlog, entry);
        }
    }

    /// Watching goes on, and this is what the kernel and the HTTP side counted so far.
    pub fn counted(&mut self, now: UnixNanos, totals: Totals, counters: Counters) {
        let overflow = self.ledger.overflow();
        self.coverage.counted(now, totals, counters, overflow);
    }

    /// When it watched; grows.
    pub fn coverage(&mut self) -> &mut CoverageTracker {
        &mut self.coverage
    }

    /// What is to be written, with what could not be written before.
    pub fn batch(&mut self, limits: Limits, is_last: bool) -> Batch {
        self.gather();
        let now = source::now();
        let load = (self.redrawn.elapsed() >= REDRAW).then(|| since(now));
        Batch {
            delta: std::mem::take(&mut self.backlog).into_values().collect(),
            coverage: self.coverage.coverage(),
            now,
            limits,
            is_last,
            load,
        }
    }

    /// Learns what became of a job. The error, if it failed.
    pub fn done(&mut self, outcome: CommitResult) -> Result<(), Option<StoreError>> {
        let CommitResult {
            delta,
            error,
            notes,
            found,
            recalled,
        } = outcome;
        for note in notes {
            tracing::warn!("{note}");
        }
        if let Some((entries, coverage)) = found {
            self.recent_clients.load(entries, coverage);
        }
        let is_written = error.is_none() && delta.is_empty();
        for entry in delta {
            put(&mut self.backlog, entry);
        }
        if let Some(entries) = recalled {
            self.redrawn = Instant::now();
            self.recent_clients.rebuild(entries, since(source::now()));
            // What was gathered while the store was read is not in it yet.
            for entry in self.backlog.values() {
                self.recent_clients.add(entry);
            }
            let clients = self.recent_clients.entries().map(|entry| &entry.client);
            self.ledger.reset(clients);
        }
        if is_written {
            self.written();
            return Ok(());
        }
        if let Some(error) = error.as_ref().filter(|error| !is_fatal(error)) {
            self.not_written(error);
        }
        Err(error)
    }

    fn written(&mut self) {
        if let Some((since, _)) = self.trouble.take() {
            let seconds = since.elapsed().as_secs();
            tracing::warn!("the store can be written again after {seconds} s; nothing was lost");
        }
    }

    fn not_written(&mut self, error: &StoreError) {
        let now = Instant::now();
        let (since, said) = self.trouble.unwrap_or((now, now));
        if self.trouble.is_none() || now.duration_since(said) >= REST {
            tracing::error!(
                "the store cannot be written, counting goes on in memory and is written as soon as \
                 possible: {error}"
            );
            self.trouble = Some((since, now));
        }
    }

    /// Calls that are not on disk yet.
    pub fn unwritten(&self) -> u64 {
        let counts = self.backlog.values().flat_map(|entry| entry.cells.values());
        u64::try_from(counts.sum::<i64>()).unwrap_or(0)
    }

    /// The answer of this moment, told to whoever reads it: the metrics, as `OpenMetrics`.
    pub fn page(&mut self) -> String {
        self.conclude();
        self.exporters.page()
    }

    /// Whether files for others are to be written.
    pub fn has_readers(&self) -> bool {
        self.exporters.has_readers()
    }

    /// Writes the files for others.
    pub fn publish(&mut self) {
        self.conclude();
        self.exporters.publish();
    }

    /// How it is, on one line.
    pub fn status(&mut self) -> String {
        let line = self.conclude();
        match (&self.trouble, self.coverage.lost_records()) {
            (Some(_), _) => format!("{line}; the store cannot be written"),
            (None, 0) => line,
            (None, lost) => format!("{line}; {lost} records lost"),
        }
    }

    fn conclude(&mut self) -> String {
        self.gather();
        let coverage = self.recent_clients.coverage(self.coverage.coverage());
        let policy = Policy {
            min_window: self.min_window,
            now: None,
        };
        let entries = self.recent_clients.entries();
        let assessment = verdict::assess(entries, &coverage, &self.knowledge, &policy);
        self.exporters
            .conclude(&assessment, &coverage, self.trouble.is_none());
        let Assessment {
            verdict, clients, ..
        } = &assessment;
        let to_change = clients.iter().filter(|c| c.judgement.needs_action).count();
        format!(
            "{}: {} clients, {to_change} to change",
            labels::answer(*verdict),
            clients.len()
        )
    }
}

fn put(entries: &mut BTreeMap<Client, ClientStats>, entry: ClientStats) {
    match entries.get_mut(&entry.client) {
        Some(known) => known.merge(entry),
        None => drop(entries.insert(entry.client.clone(), entry)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::test_support::{process, tokenless};

    #[test]
    fn what_comes_while_the_store_is_read_stays_in_the_picture() {
        let knowledge = Rc::new(Knowledge::builtin());
        let mut state = State::new(Rc::clone(&knowledge), &Config::default());
        let call = |pid, name| {
            let step = tokenless("/latest/user-data").by(&process(pid, &[name]));
            step.found(&knowledge)
        };
        assert!(state.found(&call(7, "early")));
        let batch = state.batch(Limits::default(), false);
        assert!(state.found(&call(8, "late")));
        // Somebody asks meanwhile.
        state.page();
        let outcome = CommitResult {
            delta: Vec::new(),
            error: None,
            notes: Vec::new(),
            found: None,
            recalled: Some(batch.delta),
        };
        assert!(state.done(outcome).is_ok());
        let seen: Vec<_> = state
            .recent_clients
            .entries()
            .map(|e| e.client.name())
            .collect();
        assert_eq!(seen, ["early (app)", "late (app)"]);
        assert_eq!(
            state
                .recent_clients
                .entries()
                .map(ClientStats::calls)
                .sum::<i64>(),
            2
        );
    }
}
