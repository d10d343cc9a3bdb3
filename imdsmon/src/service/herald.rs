//! Tells the log who calls without a token: each client when it is new, then once in a while.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    capture::bytes::Bytes,
    http::call::{Call, Finding, Version},
    identity::client::Client,
    pipeline::Attributed,
};

/// Time between two words about the same client.
const REST: Duration = Duration::from_secs(24 * 3600);
/// Clients that are remembered; a hostile user could make up any number.
const CLIENTS: usize = 1000;
/// Words a minute at most, so that made-up clients cannot flood the log.
const WORDS: u32 = 20;
const MINUTE: Duration = Duration::from_secs(60);

/// Who was told of, and when.
pub struct Herald {
    told: BTreeMap<String, (Instant, u64)>,
    minute: Instant,
    words: u32,
    unsaid: u64,
}

impl Default for Herald {
    fn default() -> Self {
        Self {
            told: BTreeMap::new(),
            minute: Instant::now(),
            words: 0,
            unsaid: 0,
        }
    }
}

impl Herald {
    /// Takes note of a finding, and says a word if it is time for one.
    pub fn note(&mut self, found: &Attributed) {
        let Finding::Call(call) = &found.finding else {
            return;
        };
        if call.version != Version::V1 {
            return;
        }
        let client = found
            .caller
            .process
            .as_deref()
            .map(Client::of)
            .unwrap_or_default();
        let name = client.name();
        let now = Instant::now();
        let is_full = self.told.len() >= CLIENTS;
        match self.told.get_mut(&name) {
            Some((last, calls)) if now.duration_since(*last) < REST => {
                *calls += 1;
                return;
            }
            None if is_full => {
                self.unsaid += 1;
                return;
            }
            Some(_) | None => {}
        }
        if !self.may_speak(now) {
            self.unsaid += 1;
            return;
        }
        let since = self.told.insert(name.clone(), (now, 0)).map(|(_, n)| n + 1);
        say(found, call, &client, &name, since);
    }

    fn may_speak(&mut self, now: Instant) -> bool {
        if now.duration_since(self.minute) >= MINUTE {
            if self.unsaid > 0 {
                tracing::warn!(
                    calls = self.unsaid,
                    "more clients call without a token than are named here; see `imdsmon clients`"
                );
                self.unsaid = 0;
            }
            self.minute = now;
            self.words = 0;
        }
        self.words += 1;
        self.words <= WORDS
    }
}

/// The fields arrive in the journal by their names, `IMDSMON_CLIENT` and so on.
fn say(found: &Attributed, call: &Call, client: &Client, name: &str, since: Option<u64>) {
    let process = found.caller.process.as_deref();
    let exe = process.and_then(|p| p.exe.as_ref()).map(Bytes::to_text);
    tracing::warn!(
        client = clean(name),
        workload = clean(&client.workload.name),
        user = clean(&client.user),
        pid = process.map_or(0, |p| p.pid),
        executable = clean(&exe.unwrap_or_default()),
        path = clean(&call.path),
        status = call.status.unwrap_or_default(),
        calls = since.unwrap_or(1),
        "calls the metadata service without a token"
    );
}

/// Text that is safe on one line of a log, whoever reads it.
fn clean(text: &str) -> String {
    crate::report::escape::escaped(text, 256).to_string()
}
