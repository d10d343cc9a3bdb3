//! The heartbeat: notifies systemd's watchdog, extends the coverage, and detects a suspended host
//! and a changed clock.

use tokio::time::sleep;

use super::{
    clock_watch::{ClockChange, ClockWatch},
    shared::Shared,
    systemd,
};
use crate::time::Timestamp;

pub(crate) async fn run(shared: &Shared) {
    let mut clocks = ClockWatch::new();
    loop {
        sleep(systemd::heartbeat_interval()).await;
        let mut state = shared.state.borrow_mut();
        let now = Timestamp::now();
        match clocks.change() {
            Some(ClockChange::Suspended) => {
                tracing::warn!("the host was suspended; coverage has a gap");
                state.coverage.interrupt(now);
            }
            Some(ClockChange::Set) => {
                tracing::warn!("the clock was set; coverage starts a new span");
                state.coverage.interrupt(now);
            }
            None => state.coverage.extend(now),
        }
        systemd::alive(&state.status());
        drop(state);
        shared.commit.notify_one();
    }
}
