//! Logs the clients with IMDSv1 calls: each when it is new, then once a day.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use lru::LruCache;

use crate::{
    event::bytes::ByteString,
    http::call::{Auth, Call, HttpEvent},
    identity::client::Client,
    pipeline::AttributedEvent,
    text::escape::escaped,
};

/// Interval between two lines about the same failure.
pub(crate) const WARN_INTERVAL: Duration = Duration::from_secs(600);
/// Interval between two lines about the same client.
const CLIENT_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// At least as many as the ledger counts separately, which limits each user to a share.
const MAX_CLIENTS: NonZeroUsize = NonZeroUsize::new(1100).unwrap();
/// A process can invent clients and must not flood the log.
const LINES_PER_MINUTE: u32 = 20;
const MINUTE: Duration = Duration::from_secs(60);

pub(crate) struct ClientNotifier {
    /// By client name: time of the last line, and calls since.
    logged: LruCache<String, (Instant, u64)>,
    /// Start of the minute that `lines` counts.
    minute: Instant,
    lines: u32,
    suppressed: u64,
}

impl Default for ClientNotifier {
    fn default() -> Self {
        Self {
            logged: LruCache::new(MAX_CLIENTS),
            minute: Instant::now(),
            lines: 0,
            suppressed: 0,
        }
    }
}

impl ClientNotifier {
    /// Counts a call, and logs its client if a line is due.
    pub(crate) fn observe(&mut self, attributed: &AttributedEvent, client: &Client) {
        let HttpEvent::Call(call) = &attributed.event else {
            return;
        };
        if call.request.auth == Auth::V1
            && let Some(calls) = self.should_log(&client.name(), Instant::now())
        {
            log(attributed, call, client, calls);
        }
    }

    /// The client's calls since its last line, including this one, if a line is due.
    fn should_log(&mut self, name: &str, now: Instant) -> Option<u64> {
        let known = self.logged.get_mut(name);
        let calls = known.as_ref().map_or(0, |(_, calls)| *calls) + 1;
        if let Some((last, unlogged)) = known
            && now.duration_since(*last) < CLIENT_INTERVAL
        {
            *unlogged = calls;
            return None;
        }
        if !self.allow(now) {
            self.suppressed += 1;
            return None;
        }
        // An evicted client counts as new at its next call.
        self.logged.put(name.to_owned(), (now, 0));
        Some(calls)
    }

    fn allow(&mut self, now: Instant) -> bool {
        if now.duration_since(self.minute) >= MINUTE {
            if self.suppressed > 0 {
                tracing::warn!(
                    calls = self.suppressed,
                    "too many new IMDSv1 clients to log each; run `imdsmon clients` for all"
                );
                self.suppressed = 0;
            }
            self.minute = now;
            self.lines = 0;
        }
        self.lines += 1;
        self.lines <= LINES_PER_MINUTE
    }
}

/// The journal stores the fields as `IMDSMON_CLIENT` and so on.
fn log(attributed: &AttributedEvent, call: &Call, client: &Client, calls: u64) {
    let process = attributed.caller.process.as_deref();
    let exe = process
        .and_then(|p| p.exe.as_ref())
        .map(ByteString::to_text);
    // Untrusted: the log is read on terminals.
    let clean = |text: &str| escaped(text, 256).to_string();
    tracing::warn!(
        client = clean(&client.name()),
        workload = clean(&client.workload.name),
        user = clean(&client.user),
        pid = process.map_or(0, |p| p.pid),
        executable = clean(&exe.unwrap_or_default()),
        path = clean(&call.request.path),
        status = call.response.status().unwrap_or_default(),
        calls,
        "client uses IMDSv1"
    );
}

#[cfg(test)]
mod tests {
    use crate::service::notify::*;

    #[test]
    fn made_up_clients_do_not_silence_the_log() {
        let mut notifier = ClientNotifier::default();
        let mut now = Instant::now();
        for number in 0..2000 {
            if number % 20 == 0 {
                now += MINUTE;
            }
            let logged = notifier.should_log(&format!("fake{number}"), now);
            assert_eq!(logged, Some(1), "{number}");
        }
        now += MINUTE;
        assert_eq!(notifier.should_log("backup.sh", now), Some(1));
    }

    #[test]
    fn a_client_is_logged_once_a_day_with_its_calls() {
        let mut notifier = ClientNotifier::default();
        let begin = Instant::now();
        let lines: Vec<_> = [0, 1, 2, 24 * 3600, 24 * 3600 + 1]
            .map(|second| notifier.should_log("a", begin + Duration::from_secs(second)))
            .into_iter()
            .collect();
        assert_eq!(lines, [Some(1), None, None, Some(3), None]);
        // Beyond the limit, calls are only counted.
        let logged = (0..100).filter(|n| notifier.should_log(&n.to_string(), begin).is_some());
        assert!(logged.count() <= LINES_PER_MINUTE as usize);
    }
}
