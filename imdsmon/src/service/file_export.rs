//! Writes the exporters' files when there are new counts.

use std::time::Duration;

use tokio::time::sleep;

use super::shared::Shared;

const WRITE_INTERVAL: Duration = Duration::from_secs(15);

pub(crate) async fn run(shared: &Shared) {
    loop {
        shared.export.notified().await;
        shared.state.borrow_mut().write_files();
        sleep(WRITE_INTERVAL).await;
    }
}
