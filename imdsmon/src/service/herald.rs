//! Tells the log who calls without a token: each client when it is new, then once in a while.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use lru::LruCache;

use crate::{
    capture::bytes::Bytes,
    http::call::{Call, Finding, Version},
    identity::client::Client,
    pipeline::Attributed,
};

/// Time between two words about the same client.
const REST: Duration = Duration::from_secs(24 * 3600);
/// Clients that are remembered: as many as the ledger tells apart, which lets no user make up
/// more than a share of them.
const CLIENTS: NonZeroUsize = NonZeroUsize::new(1100).unwrap();
/// Words a minute at most, so that made-up clients cannot flood the log.
const WORDS: u32 = 20;
const MINUTE: Duration = Duration::from_secs(60);

/// Who was told of, and when.
pub struct Herald {
    told: LruCache<String, (Instant, u64)>,
    minute: Instant,
    words: u32,
    unsaid: u64,
}

impl Default for Herald {
    fn default() -> Self {
        Self {
            told: LruCache::new(CLIENTS),
            minute: Instant::now(),
            words: 0,
            unsaid: 0,
        }
    }
}

impl Herald {
    /// Takes note of a finding of `client`, and says a word if it is time for one.
    pub fn note(&mut self, found: &Attributed, client: &Client) {
        let Finding::Call(call) = &found.finding else {
            return;
        };
        if call.version == Version::V1
            && let Some(calls) = self.wants_word(&client.name(), Instant::now())
        {
            say(found, call, client, calls);
        }
    }

    /// Whether it is time for a word about the client of this name, which has called once more: if
    /// so, how often it has called since the last one.
    fn wants_word(&mut self, name: &str, now: Instant) -> Option<u64> {
        let known = self.told.get_mut(name);
        let calls = match &known {
            Some((_, calls)) => calls + 1,
            None => 1,
        };
        if let Some((last, unsaid)) = known
            && now.duration_since(*last) < REST
        {
            *unsaid = calls;
            return None;
        }
        if !self.may_speak(now) {
            self.unsaid += 1;
            return None;
        }
        // Of too many, who has been silent for longest is new again when it calls.
        self.told.put(name.to_owned(), (now, 0));
        Some(calls)
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
fn say(found: &Attributed, call: &Call, client: &Client, calls: u64) {
    let process = found.caller.process.as_deref();
    let exe = process.and_then(|p| p.exe.as_ref()).map(Bytes::to_text);
    tracing::warn!(
        client = clean(&client.name()),
        workload = clean(&client.workload.name),
        user = clean(&client.user),
        pid = process.map_or(0, |p| p.pid),
        executable = clean(&exe.unwrap_or_default()),
        path = clean(&call.path),
        status = call.status.unwrap_or_default(),
        calls,
        "calls the metadata service without a token"
    );
}

/// Text that is safe on one line of a log, whoever reads it.
fn clean(text: &str) -> String {
    crate::report::escape::escaped(text, 256).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_up_clients_does_not_silence_the_log() {
        let mut herald = Herald::default();
        let mut now = Instant::now();
        for number in 0..2000 {
            if number % 20 == 0 {
                now += MINUTE;
            }
            let said = herald.wants_word(&format!("fake{number}"), now);
            assert_eq!(said, Some(1), "{number}");
        }
        now += MINUTE;
        assert_eq!(herald.wants_word("backup.sh", now), Some(1));
    }

    #[test]
    fn a_client_is_named_once_and_then_after_a_day_with_its_calls() {
        let mut herald = Herald::default();
        let begin = Instant::now();
        let words: Vec<_> = [0, 1, 2, 24 * 3600, 24 * 3600 + 1]
            .map(|second| herald.wants_word("a", begin + Duration::from_secs(second)))
            .into_iter()
            .collect();
        assert_eq!(words, [Some(1), None, None, Some(3), None]);
        // Too many at once: the rest is only counted.
        let said = (0..100).filter(|n| herald.wants_word(&n.to_string(), begin).is_some());
        assert!(said.count() <= WORDS as usize);
    }
}
