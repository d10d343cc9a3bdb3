//! The clients of the last [`WINDOW`], without hourly counts: the input of the current verdict.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    identity::client::Client,
    ledger::{BucketKey, ClientStats, Coverage},
    time::{Hour, Timestamp},
};

/// Observation period of the service's verdict.
pub(crate) const WINDOW: Duration = Duration::from_secs(14 * 24 * 3600);

pub(crate) fn window_start(now: Timestamp) -> Timestamp {
    now - WINDOW
}

/// Clients of this run and of earlier ones.
#[derive(Default)]
pub(crate) struct RecentClients {
    clients: BTreeMap<Client, ClientStats>,
    /// Coverage of earlier runs.
    earlier: Coverage,
}

impl RecentClients {
    pub(crate) fn add_earlier(&mut self, clients: &[ClientStats], coverage: Coverage) {
        for stats in clients {
            self.add(stats);
        }
        add_coverage(&mut self.earlier, coverage);
    }

    /// Replaces all clients by those in the store since `since`.
    pub(crate) fn rebuild(&mut self, clients: &[ClientStats], since: Timestamp) {
        self.clients.clear();
        for stats in clients {
            self.add(stats);
        }
        self.earlier.spans.retain(|span| span.to >= since);
    }

    pub(crate) fn add(&mut self, stats: &ClientStats) {
        let mut flat = stats.clone();
        flat.buckets.clear();
        for (key, count) in &stats.buckets {
            let key = BucketKey {
                hour: Hour::default(),
                ..*key
            };
            *flat.buckets.entry(key).or_default() += count;
        }
        merge(&mut self.clients, flat);
    }

    pub(crate) fn clients(&self) -> impl Iterator<Item = &ClientStats> {
        self.clients.values()
    }

    /// Coverage of earlier runs and of this one.
    pub(crate) fn coverage(&self, current: Coverage) -> Coverage {
        let mut all = self.earlier.clone();
        add_coverage(&mut all, current);
        all
    }
}

fn add_coverage(sum: &mut Coverage, Coverage { spans, self_test }: Coverage) {
    for span in spans {
        sum.add(span);
    }
    if let Some(test) = self_test {
        sum.add_self_test(test);
    }
}

/// Adds to the client's entry, or creates it.
pub(crate) fn merge(clients: &mut BTreeMap<Client, ClientStats>, stats: ClientStats) {
    if let Some(known) = clients.get_mut(&stats.client) {
        known.merge(stats);
    } else {
        clients.insert(stats.client.clone(), stats);
    }
}
