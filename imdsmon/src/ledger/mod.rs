//! Counts and evidence by client, on which verdicts are based and which the store keeps.
//!
//! Bounded in every dimension, and additive: the counts of two runs can be merged.

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
pub(crate) use client_limit::OTHERS;
pub use client_stats::{BucketKey, Cause, ClientStats, Evidence, ResponseClass, Sample};
pub use coverage::{Coverage, Overflow};
use token_history::{TokenHistory, UserAgentOrigin};

use crate::{
    http::call::{Call, HttpEvent},
    identity::{Caller, Process, client::Client},
    knowledge::{Knowledge, Sdk},
    pipeline::AttributedEvent,
    time::Timestamp,
};

/// Processes whose client is cached.
const MAX_CACHED_PROCESSES: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Counts and evidence of every client since the last [`Ledger::take`].
pub struct Ledger {
    knowledge: Rc<Knowledge>,
    entries: BTreeMap<Rc<Client>, ClientStats>,
    limiter: ClientLimiter,
    /// The client of each process, by pid.
    known: LruCache<u32, (Rc<Process>, Rc<Client>)>,
    token_history: TokenHistory,
    pub(crate) coverage: Coverage,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(knowledge: Rc<Knowledge>) -> Self {
        Self {
            knowledge,
            entries: BTreeMap::new(),
            limiter: ClientLimiter::default(),
            known: LruCache::new(MAX_CACHED_PROCESSES),
            token_history: TokenHistory::default(),
            coverage: Coverage::default(),
        }
    }

    /// Counts an event and returns the client that it is counted for.
    pub fn add(&mut self, attributed: &AttributedEvent) -> Rc<Client> {
        let AttributedEvent { event, caller, sdk } = attributed;
        let client = self.client(caller);
        match event {
            HttpEvent::Call(call) => self.call(Rc::clone(&client), call, caller, sdk.as_ref()),
            HttpEvent::Unparsed(unparsed) => {
                let entry = self.entry(Rc::clone(&client), unparsed.time);
                let bytes = &mut entry.evidence.unparsed_bytes;
                *bytes = bytes.saturating_add(unparsed.bytes);
            }
        }
        client
    }

    pub fn entries(&self) -> impl Iterator<Item = &ClientStats> {
        self.entries.values()
    }

    /// Takes the counts since the last call. They may be negative: corrections of earlier counts.
    pub(crate) fn take(&mut self) -> Vec<ClientStats> {
        std::mem::take(&mut self.entries).into_values().collect()
    }

    /// Replaces the clients that count toward the limit, to remove inactive ones.
    pub(crate) fn reset<'a>(&mut self, clients: impl IntoIterator<Item = &'a Client>) {
        self.known.clear();
        self.limiter.reset(clients);
    }

    /// Processes that were merged or forgotten so far.
    pub(crate) fn overflow(&self) -> Overflow {
        Overflow {
            merged: self.limiter.merged(),
            forgotten: self.token_history.forgotten(),
        }
    }

    fn call(&mut self, client: Rc<Client>, call: &Call, caller: &Caller, sdk: Option<&Sdk>) {
        let response = ResponseClass::of(call);
        let class = self
            .knowledge
            .path_class(&call.request.method, &call.request.path);
        let mut kind = BucketKey {
            hour: call.time.hour(),
            auth: call.request.auth,
            response,
            path: class,
            cause: Cause::Plain,
        };
        let mut corrections = Vec::new();
        if let Some(process) = &caller.process {
            let origin = sdk.map(|sdk| UserAgentOrigin {
                name: sdk.name.clone(),
                is_aws_sdk: self.knowledge.sdk_facts(sdk).is_some(),
            });
            let classified = self
                .token_history
                .classify(process, call, kind, origin.as_ref());
            kind.cause = classified.cause;
            corrections = classified.corrections;
        }
        let pid = caller.process.as_ref().map(|process| process.pid);
        let entry = self.entry(client, call.time);
        for correction in corrections {
            entry.touch(correction.time);
            entry.count(correction.from, -1);
            let cause = correction.cause;
            entry.count(
                BucketKey {
                    cause,
                    ..correction.from
                },
                1,
            );
            let from = correction.from.cause;
            let pid = pid.unwrap_or_default();
            entry.evidence.correct(correction.time, pid, from, cause);
        }
        entry.count(kind, 1);
        entry.evidence.note(call, sdk, class);
        if entry.evidence.needs_sample(&kind, call.time) {
            let sample = Sample::of(call, caller, kind.cause, response);
            entry.evidence.note_sample(sample);
        }
    }

    fn entry(&mut self, client: Rc<Client>, time: Timestamp) -> &mut ClientStats {
        let new = |client: &Rc<Client>| ClientStats::new(Client::clone(client), time);
        let entry = self.entries.entry(client).or_insert_with_key(new);
        entry.touch(time);
        entry
    }

    fn client(&mut self, caller: &Caller) -> Rc<Client> {
        let Some(process) = &caller.process else {
            return Rc::new(self.limiter.resolve(Client::unknown()));
        };
        match self.known.get(&process.pid) {
            Some((known, client)) if Rc::ptr_eq(known, process) => Rc::clone(client),
            _ => {
                let client = Rc::new(self.limiter.resolve(Client::of(process)));
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
