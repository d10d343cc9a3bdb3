//! Runs the canary at an interval, and records in the coverage whether its calls were captured.

use std::time::Duration;

use tokio::time::sleep;

use super::shared::Shared;
use crate::selftest::canary::Canary;
use crate::time::Timestamp;

/// Returns immediately if the canary is off.
pub(crate) async fn run(canary: Option<&Canary>, interval: Option<Duration>, shared: &Shared) {
    let Some(interval) = interval else { return };
    let Some(canary) = canary else {
        let why = "no network namespace available for the canary".to_owned();
        return record(Err(why), shared);
    };
    loop {
        let result = canary.run().await;
        if let Err(why) = &result {
            tracing::error!(
                "canary check failed, calls may not be captured; run `imdsmon doctor`: {why}"
            );
        }
        record(result, shared);
        sleep(interval).await;
    }
}

fn record(result: Result<(), String>, shared: &Shared) {
    let mut state = shared.state.borrow_mut();
    state.coverage.record_canary(Timestamp::now(), result);
    drop(state);
    shared.changed();
}
