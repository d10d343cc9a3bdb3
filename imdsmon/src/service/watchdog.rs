//! What systemd is told: ready, alive, reloading, stopping, and a line of status.
//!
//! Nothing happens where no service manager listens (`$NOTIFY_SOCKET` is not set).

use std::time::Duration;

use sd_notify::NotifyState;

/// How often the service says that it is alive, where no watchdog asks for it: as often, the time
/// up to which it has watched is written down.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// The time between two signs of life: half of what the watchdog allows (`sd_watchdog_enabled(3)`).
pub fn heartbeat() -> Duration {
    sd_notify::watchdog_enabled().map_or(HEARTBEAT, |limit| limit / 2)
}

/// The hooks are live.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Still alive, and how it is.
pub fn alive(status: &str) {
    send(&[NotifyState::Watchdog, NotifyState::Status(status)]);
}

/// The configuration is being read again; [`ready`] ends that.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "systemd is not told of the reload"),
    }
}

/// The end begins.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd cannot be told the state of the service");
    }
}
