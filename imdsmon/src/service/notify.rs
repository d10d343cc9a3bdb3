//! Tells the log who calls without a token: each client when it is new, then once in a while.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use lru::LruCache;

use crate::{
    event::bytes::ByteString,
    http::call::{Call, HttpEvent, Version},
    identity::client::Client,
    pipeline::AttributedEvent,
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
pub struct ClientNotifier {
    told: LruCache<String, (Instant, u64)>,
    minute: Instant,
    words: u32,
    unsaid: u64,
}

impl Default for ClientNotifier {
    fn default() -> Self {
        Self {
            told: LruCache::new(CLIENTS),
            minute: Instant::now(),
            words: 0,
            unsaid: 0,
        }
    }
}

impl ClientNotifier {
    /// Takes note of a finding of `client`, and says a word if it is time for one.
    pub fn note(&mut self, found: &AttributedEvent, client: &Client) {
        let HttpEvent::Call(call) = &found.finding else {
            return;
        };
        if call.version == Version::V1
            && let Some(calls) = self.should_log(&client.name(), Instant::now())
        {
            log(found, call, client, calls);
        }
    }

    /// Whether it is time for a word about the client of this name, which has called once more: if
    /// so, how often it has called since the last one.
    fn should_log(&mut self, name: &str, now: Instant) -> Option<u64> {
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
        if !self.allow(now) {
            self.unsaid += 1;
            return None;
        }
        // Of too many, who has been silent for longest is new again when it calls.
        self.told.put(name.to_owned(), (now, 0));
        Some(calls)
    }

    fn allow(&mut self, now: Instant) -> bool {
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
fn log(found: &AttributedEvent, call: &Call, client: &Client, calls: u64) {
    let process = found.caller.process.as_deref();
    let exe = process
        .and_then(|p| p.exe.as_ref())
        .map(ByteString::to_text);
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
    crate::text::escape::escaped(text, 256).to_string()
}

#[cfg(test)]
mod tests {
    use crate::service::notify::*;

    #[test]
    fn who_makes_up_clients_does_not_silence_the_log() {
        let mut notifier = ClientNotifier::default();
        let mut now = Instant::now();
        for number in 0..2000 {
            if number % 20 == 0 {
                now += MINUTE;
            }
            let said = notifier.should_log(&format!("fake{number}"), now);
            assert_eq!(said, Some(1), "{number}");
        }
        now += MINUTE;
        assert_eq!(notifier.should_log("backup.sh", now), Some(1));
    }

    #[test]
    fn a_client_is_named_once_and_then_after_a_day_with_its_calls() {
        let mut notifier = ClientNotifier::default();
        let begin = Instant::now();
        let words: Vec<_> = [0, 1, 2, 24 * 3600, 24 * 3600 + 1]
            .map(|second| notifier.should_log("a", begin + Duration::from_secs(second)))
            .into_iter()
            .collect();
        assert_eq!(words, [Some(1), None, None, Some(3), None]);
        // Too many at once: the rest is only counted.
        let said = (0..100).filter(|n| notifier.should_log(&n.to_string(), begin).is_some());
        assert!(said.count() <= WORDS as usize);
    }
}
