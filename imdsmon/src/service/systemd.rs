//! Notifications to systemd: ready, alive, reloading, stopping, and a status line.
//!
//! Without `$NOTIFY_SOCKET` they do nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Without a watchdog; also how often an idle service stores the end of its coverage.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);

/// Half of the watchdog's timeout, as `sd_watchdog_enabled(3)` advises.
pub(crate) fn heartbeat_interval() -> Duration {
    sd_notify::watchdog_enabled().map_or(HEARTBEAT_INTERVAL, |timeout| timeout / 2)
}

pub(crate) fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub(crate) fn alive(status: &str) {
    send(&[NotifyState::Watchdog, NotifyState::Status(status)]);
}

/// Ended by [`ready`].
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot notify systemd of the reload"),
    }
}

pub(crate) fn stopping() {
    send(&[NotifyState::Stopping]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
