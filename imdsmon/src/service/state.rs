//! The counts of the service, and the verdict and metrics derived from them.

use std::{
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    coverage::CoverageTracker,
    exporters::Exporters,
    recent_clients::{RecentClients, merge, window_start},
    store_thread::{Batch, CommitResult},
};
use crate::time::Timestamp;
use crate::{
    config::Config,
    event::CaptureTotals,
    http::Counters,
    identity::client::Client,
    knowledge::Knowledge,
    ledger::{ClientStats, Ledger},
    pipeline::AttributedEvent,
    report::labels,
    store::StoreLimits,
    verdict::{self, Assessment, Policy},
};

/// How often [`RecentClients`] is read back from the store, which drops old counts.
const REBUILD_INTERVAL: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct State {
    knowledge: Rc<Knowledge>,
    ledger: Ledger,
    /// Drained from the ledger, and not in the store yet.
    uncommitted: BTreeMap<Client, ClientStats>,
    recent_clients: RecentClients,
    rebuilt: Instant,
    pub(crate) coverage: CoverageTracker,
    pub(crate) exporters: Exporters,
    min_window: Duration,
    store_limits: StoreLimits,
    is_store_ok: bool,
}

impl State {
    pub(crate) fn new(knowledge: Rc<Knowledge>, config: &Config) -> Self {
        Self {
            ledger: Ledger::new(Rc::clone(&knowledge)),
            knowledge,
            uncommitted: BTreeMap::new(),
            recent_clients: RecentClients::default(),
            rebuilt: Instant::now(),
            coverage: CoverageTracker::new(Timestamp::now()),
            exporters: Exporters::open(config),
            min_window: config.report_min_window.value,
            store_limits: config.store_limits(),
            is_store_ok: true,
        }
    }

    /// Applies settings that a reload may change.
    pub(crate) fn reconfigure(&mut self, config: &Config) {
        self.exporters.reconfigure(config);
        self.min_window = config.report_min_window.value;
        self.store_limits = config.store_limits();
    }

    /// Counts a call and returns its client.
    pub(crate) fn add(&mut self, attributed: &AttributedEvent) -> Rc<Client> {
        self.exporters.log_call(attributed);
        self.ledger.add(attributed)
    }

    /// Takes the counters of the kernel programs and the HTTP parser since the service started.
    pub(crate) fn update_coverage(&mut self, totals: CaptureTotals, counters: Counters) {
        let overflow = self.ledger.overflow();
        self.coverage
            .update(Timestamp::now(), totals, counters, overflow);
    }

    /// Moves the ledger's counts to all consumers.
    fn drain_ledger(&mut self) {
        let delta = self.ledger.take();
        self.exporters.count(&delta);
        for stats in delta {
            self.recent_clients.add(&stats);
            merge(&mut self.uncommitted, stats);
        }
    }

    pub(crate) fn batch(&mut self, is_last: bool) -> Batch {
        self.drain_ledger();
        let now = Timestamp::now();
        let is_rebuild_due = self.rebuilt.elapsed() >= REBUILD_INTERVAL;
        Batch {
            delta: std::mem::take(&mut self.uncommitted)
                .into_values()
                .collect(),
            coverage: self.coverage.coverage(),
            now,
            limits: self.store_limits,
            is_last,
            reload_since: is_rebuild_due.then(|| window_start(now)),
        }
    }

    /// Takes back unwritten counts, and adds the clients that were read.
    pub(crate) fn committed(&mut self, result: CommitResult, is_store_ok: bool) {
        self.is_store_ok = is_store_ok;
        if let Some((clients, coverage)) = result.earlier {
            self.recent_clients.add_earlier(&clients, coverage);
        }
        for stats in result.unwritten {
            merge(&mut self.uncommitted, stats);
        }
        if let Some(clients) = result.reloaded {
            self.rebuilt = Instant::now();
            let since = window_start(Timestamp::now());
            self.recent_clients.rebuild(&clients, since);
            // Counts drained during the read are not in its result.
            for stats in self.uncommitted.values() {
                self.recent_clients.add(stats);
            }
            let clients = self.recent_clients.clients().map(|stats| &stats.client);
            self.ledger.reset(clients);
        }
    }

    pub(crate) fn uncommitted_calls(&self) -> u64 {
        let calls = self.uncommitted.values().map(ClientStats::calls);
        u64::try_from(calls.sum::<i64>()).unwrap_or(0)
    }

    /// The metrics in `OpenMetrics` 1.0.
    pub(crate) fn metrics_page(&mut self) -> String {
        self.assess();
        self.exporters.metrics_page()
    }

    pub(crate) fn write_files(&mut self) {
        if self.exporters.has_files() {
            self.assess();
            self.exporters.write_files();
        }
    }

    /// One line for `systemctl status`.
    pub(crate) fn status(&mut self) -> String {
        let line = self.assess();
        match (self.is_store_ok, self.coverage.lost_records()) {
            (false, _) => format!("{line}; cannot write the store"),
            (true, 0) => line,
            (true, dropped) => format!("{line}; {dropped} records dropped"),
        }
    }

    /// Updates the metrics; returns the verdict as one line.
    fn assess(&mut self) -> String {
        self.drain_ledger();
        let coverage = self.recent_clients.coverage(self.coverage.coverage());
        let policy = Policy {
            min_window: self.min_window,
            now: None,
        };
        let clients = self.recent_clients.clients();
        let assessment = verdict::assess(clients, &coverage, &self.knowledge, &policy);
        self.exporters
            .set_assessment(&assessment, &coverage, self.is_store_ok);
        let Assessment {
            verdict, clients, ..
        } = &assessment;
        let to_change = clients.iter().filter(|c| c.judgement.needs_action).count();
        format!(
            "{}: {} clients, {to_change} to change",
            labels::headline(*verdict),
            clients.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::test_support::{process, tokenless};

    #[test]
    fn a_call_during_a_rebuild_is_kept() {
        let knowledge = Rc::new(Knowledge::builtin());
        let mut state = State::new(Rc::clone(&knowledge), &Config::default());
        let call = |pid, name| {
            let step = tokenless("/latest/user-data").by(&process(pid, &[name]));
            step.attributed(&knowledge)
        };
        state.add(&call(7, "early"));
        let batch = state.batch(false);
        state.add(&call(8, "late"));
        // A scrape drains the ledger meanwhile.
        state.metrics_page();
        let result = CommitResult {
            reloaded: Some(batch.delta),
            ..CommitResult::default()
        };
        state.committed(result, true);
        let clients: Vec<_> = state
            .recent_clients
            .clients()
            .map(|stats| (stats.client.name(), stats.calls()))
            .collect();
        let expected = ["early (app)", "late (app)"].map(|name| (name.to_owned(), 1));
        assert_eq!(clients, expected);
    }
}
