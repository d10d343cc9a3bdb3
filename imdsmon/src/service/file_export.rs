//! Writes the files that others read, when there is something new.

use std::time::Duration;

use tokio::time::sleep;

use super::shared::Shared;

/// Between two writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(15);

pub(crate) async fn run(shared: &Shared) {
    loop {
        shared.export.notified().await;
        shared.state.borrow_mut().write_files();
        sleep(WRITE_INTERVAL).await;
    }
}
