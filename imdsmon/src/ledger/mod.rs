//! Counts and evidence by client: what a verdict is built on, and what a store keeps.
//!
//! Bounded in every direction, and additive: what was counted in two runs can be merged.

mod client_limit;
pub mod client_stats;
pub mod coverage;
mod doubt;
mod evidence;
pub(crate) mod recording;
mod token_history;

use std::{collections::BTreeMap, num::NonZeroUsize, rc::Rc};

use lru::LruCache;

use client_limit::ClientLimiter;
pub use client_limit::OTHERS;
pub use client_stats::{Answer, BucketKey, Cause, ClientStats, Evidence, Sample};
pub use coverage::{Coverage, Overflow};
use token_history::{TokenHistory, UserAgentOrigin};

use crate::{
    http::call::{Call, HttpEvent},
    identity::{Caller, Process, client::Client},
    knowledge::{Knowledge, Sdk},
    pipeline::AttributedEvent,
};

/// Processes whose client is remembered.
const PROCESSES: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// Nanoseconds of an hour.
const HOUR: i64 = 3600 * 1_000_000_000;

/// What every client did, as far as it was not taken out yet.
pub struct Ledger {
    knowledge: Rc<Knowledge>,
    entries: BTreeMap<Rc<Client>, ClientStats>,
    roster: ClientLimiter,
    /// Who a process is counted as: it calls more than once.
    known: LruCache<u32, (Rc<Process>, Rc<Client>)>,
    episodes: TokenHistory,
    /// When somebody watched, and how well.
    pub coverage: Coverage,
}

impl Ledger {
    /// Nothing counted yet.
    pub fn new(knowledge: Rc<Knowledge>) -> Self {
        Self {
            knowledge,
            entries: BTreeMap::new(),
            roster: ClientLimiter::default(),
            known: LruCache::new(PROCESSES),
            episodes: TokenHistory::default(),
            coverage: Coverage::default(),
        }
    }

    /// Counts a finding, and gives the client as whom it is counted.
    pub fn add(&mut self, found: &AttributedEvent) -> Rc<Client> {
        let AttributedEvent {
            finding,
            caller,
            sdk,
        } = found;
        let client = self.client(caller);
        match finding {
            HttpEvent::Call(call) => self.call(Rc::clone(&client), call, caller, sdk.as_ref()),
            HttpEvent::Unparsed(unparsed) => {
                let entry = self.entry(Rc::clone(&client), unparsed.time);
                let bytes = &mut entry.evidence.unparsed_bytes;
                *bytes = bytes.saturating_add(unparsed.bytes);
            }
        }
        client
    }

    /// The entries, by client.
    pub fn entries(&self) -> impl Iterator<Item = &ClientStats> {
        self.entries.values()
    }

    /// Takes the entries out, to be merged into those that were taken before. What is counted
    /// from now on may take back a part of them: then a count is negative.
    pub fn take(&mut self) -> Vec<ClientStats> {
        std::mem::take(&mut self.entries).into_values().collect()
    }

    /// The clients that are told apart are these from now on, and those that come as long as there
    /// is room: who has not called for long takes nobody's place for ever.
    pub fn reset<'a>(&mut self, clients: impl IntoIterator<Item = &'a Client>) {
        self.known.clear();
        self.roster.reset(clients);
    }

    /// What could not be kept apart so far.
    pub fn overflow(&self) -> Overflow {
        Overflow {
            merged: self.roster.crowded_out(),
            forgotten: self.episodes.forgotten(),
        }
    }

    fn call(&mut self, client: Rc<Client>, call: &Call, caller: &Caller, sdk: Option<&Sdk>) {
        let answer = Answer::of(call);
        let class = self.knowledge.path_class(&call.method, &call.path);
        let mut kind = BucketKey {
            hour: call.time.div_euclid(HOUR),
            version: call.version,
            token: call.token,
            answer,
            path: class,
            how: Cause::Plain,
        };
        let mut corrections = Vec::new();
        if let Some(process) = &caller.process {
            let maker = sdk.map(|sdk| UserAgentOrigin {
                name: sdk.name.clone(),
                is_aws_sdk: self.knowledge.sdk_facts(sdk).is_some(),
            });
            let told = self.episodes.classify(process, call, kind, maker.as_ref());
            kind.how = told.how;
            corrections = told.corrections;
        }
        let pid = caller.process.as_ref().map(|process| process.pid);
        let entry = self.entry(client, call.time);
        for correction in corrections {
            entry.touch(correction.time);
            entry.count(correction.from, -1);
            let how = correction.how;
            entry.count(
                BucketKey {
                    how,
                    ..correction.from
                },
                1,
            );
            let from = correction.from.how;
            let pid = pid.unwrap_or_default();
            entry.evidence.correct(correction.time, pid, from, how);
        }
        entry.count(kind, 1);
        entry.evidence.note(call, sdk, class);
        if entry.evidence.wants_sample(&kind, call.time) {
            let sample = Sample::of(call, caller, kind.how, answer);
            entry.evidence.note_sample(sample);
        }
    }

    fn entry(&mut self, client: Rc<Client>, time: i64) -> &mut ClientStats {
        let new = |client: &Rc<Client>| ClientStats::new(Client::clone(client), time);
        let entry = self.entries.entry(client).or_insert_with_key(new);
        entry.touch(time);
        entry
    }

    fn client(&mut self, caller: &Caller) -> Rc<Client> {
        let Some(process) = &caller.process else {
            return Rc::new(self.roster.resolve(Client::unknown()));
        };
        match self.known.get(&process.pid) {
            Some((known, client)) if Rc::ptr_eq(known, process) => Rc::clone(client),
            _ => {
                let client = Rc::new(self.roster.resolve(Client::of(process)));
                let known = (Rc::clone(process), Rc::clone(&client));
                self.known.put(process.pid, known);
                client
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod any_calls_tests;
#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;
