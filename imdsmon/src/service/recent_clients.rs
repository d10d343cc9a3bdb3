//! What the store holds, as far as it is needed to answer at any moment: without the hours.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    event::UnixNanos,
    identity::client::Client,
    ledger::{BucketKey, ClientStats, Coverage},
};

/// How far back an answer looks, unless somebody asks for another time.
pub const MEMORY: Duration = Duration::from_secs(14 * 24 * 3600);

/// All clients of the last [`MEMORY`], those of earlier runs among them.
#[derive(Default)]
pub struct RecentClients {
    entries: BTreeMap<Client, ClientStats>,
    /// When earlier runs watched.
    earlier: Coverage,
}

impl RecentClients {
    /// Adds what earlier runs had stored.
    pub fn load(&mut self, entries: Vec<ClientStats>, earlier: Coverage) {
        for entry in entries {
            self.add(&entry);
        }
        for span in earlier.spans {
            self.earlier.add(span);
        }
        if let Some(test) = earlier.self_test {
            self.earlier.tested(test);
        }
    }

    /// Begins anew with what the store holds of the time since `since`: what is older is
    /// forgotten.
    pub fn rebuild(&mut self, entries: Vec<ClientStats>, since: UnixNanos) {
        self.entries.clear();
        for entry in entries {
            self.add(&entry);
        }
        self.earlier.spans.retain(|span| span.to >= since);
    }

    /// Adds what was counted since.
    pub fn add(&mut self, entry: &ClientStats) {
        let mut flat = entry.clone();
        flat.cells.clear();
        for (cell, count) in &entry.cells {
            let cell = BucketKey { hour: 0, ..*cell };
            *flat.cells.entry(cell).or_default() += count;
        }
        match self.entries.get_mut(&entry.client) {
            Some(known) => known.merge(flat),
            None => drop(self.entries.insert(entry.client.clone(), flat)),
        }
    }

    /// The entries.
    pub fn entries(&self) -> impl Iterator<Item = &ClientStats> {
        self.entries.values()
    }

    /// When this and earlier runs watched.
    pub fn coverage(&self, current: Coverage) -> Coverage {
        let mut all = self.earlier.clone();
        let Coverage { spans, self_test } = current;
        for span in spans {
            all.add(span);
        }
        if let Some(test) = self_test {
            all.tested(test);
        }
        all
    }
}

/// The time since which an answer looks.
pub fn since(now: UnixNanos) -> UnixNanos {
    let memory = UnixNanos::try_from(MEMORY.as_nanos()).unwrap_or(UnixNanos::MAX);
    now.saturating_sub(memory)
}
