//! What the service knows at this moment.

use std::{
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    REST,
    canary::Canary,
    doctor::Doctor,
    herald::Herald,
    is_fatal,
    keeper::{Job, Outcome},
    outlets::Outlets,
    picture::{Picture, since},
    vigil::Vigil,
};
use crate::{
    capture::{
        event::{Totals, UnixNanos},
        live,
    },
    config::Config,
    http::Counters,
    identity::client::Client,
    knowledge::Knowledge,
    ledger::{Entry, Ledger},
    pipeline::Attributed,
    report::words,
    store::{Limits, StoreError},
    verdict::{self, Assessment, Policy},
};

/// Time after which what is too old is forgotten.
const REDRAW: Duration = Duration::from_secs(24 * 3600);

/// Everything that is counted, written or not.
pub struct State {
    knowledge: Rc<Knowledge>,
    ledger: Ledger,
    /// What could not be written yet.
    backlog: BTreeMap<Client, Entry>,
    picture: Picture,
    vigil: Vigil,
    herald: Herald,
    doctor: Doctor,
    outlets: Outlets,
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
    #[must_use]
    pub fn new(knowledge: Rc<Knowledge>, config: &Config) -> Self {
        Self {
            ledger: Ledger::new(Rc::clone(&knowledge)),
            knowledge,
            backlog: BTreeMap::new(),
            picture: Picture::default(),
            vigil: Vigil::since(live::now()),
            herald: Herald::default(),
            doctor: Doctor::default(),
            outlets: Outlets::open(config),
            min_window: config.report_min_window.value,
            canary: None,
            redrawn: Instant::now(),
            trouble: None,
        }
    }

    /// Takes a finding; says whether it is a client's.
    pub fn found(&mut self, found: &Attributed) -> bool {
        if self
            .canary
            .as_ref()
            .is_some_and(|canary| canary.hear(found))
        {
            return false;
        }
        if self.doctor.made(found) {
            return false;
        }
        let client = self.ledger.add(found);
        self.herald.note(found, &client);
        self.outlets.found(found);
        true
    }

    /// There is nothing more for now.
    pub fn flush(&mut self) {
        self.outlets.flush();
    }

    /// The configuration was read again.
    pub fn apply(&mut self, config: &Config) {
        self.outlets.apply(config);
        self.min_window = config.report_min_window.value;
    }

    /// What the ledger holds goes where it belongs.
    fn gather(&mut self) {
        let delta = self.ledger.take();
        self.outlets.count(&delta);
        for entry in delta {
            self.picture.add(&entry);
            put(&mut self.backlog, entry);
        }
    }

    /// Watching goes on, and this is what the kernel and the HTTP side counted so far.
    pub fn counted(&mut self, now: UnixNanos, totals: Totals, counters: Counters) {
        let crowd = self.ledger.crowd();
        self.vigil.counted(now, totals, counters, crowd);
    }

    /// When it watched; grows.
    pub fn vigil(&mut self) -> &mut Vigil {
        &mut self.vigil
    }

    /// What is to be written, with what could not be written before.
    pub fn job(&mut self, limits: Limits, is_last: bool) -> Job {
        self.gather();
        let now = live::now();
        let recall = (self.redrawn.elapsed() >= REDRAW).then(|| since(now));
        Job {
            delta: std::mem::take(&mut self.backlog).into_values().collect(),
            coverage: self.vigil.coverage(),
            now,
            limits,
            is_last,
            recall,
        }
    }

    /// Learns what became of a job. The error, if it failed.
    pub fn done(&mut self, outcome: Outcome) -> Result<(), Option<StoreError>> {
        let Outcome {
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
            self.picture.recall(entries, coverage);
        }
        let is_written = error.is_none() && delta.is_empty();
        for entry in delta {
            put(&mut self.backlog, entry);
        }
        if let Some(entries) = recalled {
            self.redrawn = Instant::now();
            self.picture.redraw(entries, since(live::now()));
            // What was gathered while the store was read is not in it yet.
            for entry in self.backlog.values() {
                self.picture.add(entry);
            }
            let clients = self.picture.entries().map(|entry| &entry.client);
            self.ledger.renew(clients);
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
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        let counts = self.backlog.values().flat_map(|entry| entry.cells.values());
        u64::try_from(counts.sum::<i64>()).unwrap_or(0)
    }

    /// The answer of this moment, told to whoever reads it: the metrics, as `OpenMetrics`.
    pub fn page(&mut self) -> String {
        self.conclude();
        self.outlets.page()
    }

    /// Whether files for others are to be written.
    #[must_use]
    pub fn has_readers(&self) -> bool {
        self.outlets.has_readers()
    }

    /// Writes the files for others.
    pub fn publish(&mut self) {
        self.conclude();
        self.outlets.publish();
    }

    /// How it is, on one line.
    pub fn status(&mut self) -> String {
        let line = self.conclude();
        match (&self.trouble, self.vigil.lost_records()) {
            (Some(_), _) => format!("{line}; the store cannot be written"),
            (None, 0) => line,
            (None, lost) => format!("{line}; {lost} records lost"),
        }
    }

    fn conclude(&mut self) -> String {
        self.gather();
        let coverage = self.picture.coverage(self.vigil.coverage());
        let policy = Policy {
            min_window: self.min_window,
            now: None,
        };
        let entries = self.picture.entries();
        let assessment = verdict::assess(entries, &coverage, &self.knowledge, &policy);
        self.outlets
            .conclude(&assessment, &coverage, self.trouble.is_none());
        let Assessment {
            verdict, clients, ..
        } = &assessment;
        let to_change = clients.iter().filter(|c| c.judgement.needs_action).count();
        format!(
            "{}: {} clients, {to_change} to change",
            words::answer(*verdict),
            clients.len()
        )
    }
}

fn put(entries: &mut BTreeMap<Client, Entry>, entry: Entry) {
    match entries.get_mut(&entry.client) {
        Some(known) => known.merge(entry),
        None => drop(entries.insert(entry.client.clone(), entry)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::story::{process, tokenless};

    #[test]
    fn what_comes_while_the_store_is_read_stays_in_the_picture() {
        let knowledge = Rc::new(Knowledge::builtin());
        let mut state = State::new(Rc::clone(&knowledge), &Config::default());
        let call = |pid, name| {
            let step = tokenless("/latest/user-data").by(&process(pid, &[name]));
            step.found(&knowledge)
        };
        assert!(state.found(&call(7, "early")));
        let job = state.job(Limits::default(), false);
        assert!(state.found(&call(8, "late")));
        // Somebody asks meanwhile.
        state.page();
        let outcome = Outcome {
            delta: Vec::new(),
            error: None,
            notes: Vec::new(),
            found: None,
            recalled: Some(job.delta),
        };
        assert!(state.done(outcome).is_ok());
        let seen: Vec<_> = state.picture.entries().map(|e| e.client.name()).collect();
        assert_eq!(seen, ["early (app)", "late (app)"]);
        assert_eq!(state.picture.entries().map(Entry::calls).sum::<i64>(), 2);
    }
}
