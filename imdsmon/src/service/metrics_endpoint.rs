//! The metrics endpoint: opens, moves and closes its listeners, and renders the pages.

use tokio::{sync::mpsc, task::JoinHandle};

use super::shared::Shared;
use crate::export::{
    Listen,
    server::{MetricsServer, PageRequest},
};
use crate::text::io_error::reason;

/// Scrapes that wait for a page.
const MAX_WAITING: usize = 8;

pub(crate) struct MetricsEndpoint {
    requests: mpsc::Sender<PageRequest>,
    configured: Option<(Listen, JoinHandle<()>)>,
    inherited: Option<JoinHandle<()>>,
}

impl MetricsEndpoint {
    /// An endpoint that does not listen yet, and the requests for [`serve_pages`].
    pub(crate) fn new() -> (Self, mpsc::Receiver<PageRequest>) {
        let (requests, waiting) = mpsc::channel(MAX_WAITING);
        let endpoint = Self {
            requests,
            configured: None,
            inherited: None,
        };
        (endpoint, waiting)
    }

    /// Serves on the socket that systemd passed, if any: the service itself may have no network.
    pub(crate) fn inherit(&mut self) {
        match MetricsServer::inherited() {
            Ok(None) => {}
            Ok(Some(server)) => self.inherited = Some(self.spawn(server)),
            Err(error) => tracing::error!(
                "cannot use the metrics socket of systemd: {}",
                reason(&error)
            ),
        }
    }

    /// Serves on the configured address instead of the previous one.
    pub(crate) async fn listen(&mut self, wanted: Option<&Listen>) {
        if self.configured.as_ref().map(|(listen, _)| listen) == wanted {
            return;
        }
        stop(self.configured.take().map(|(_, server)| server)).await;
        let Some(listen) = wanted else { return };
        match MetricsServer::bind(listen).await {
            Ok(server) => self.configured = Some((listen.clone(), self.spawn(server))),
            Err(error) => tracing::error!("cannot serve metrics on {listen}: {}", reason(&error)),
        }
    }

    pub(crate) async fn close(mut self) {
        self.listen(None).await;
        stop(self.inherited.take()).await;
    }

    fn spawn(&self, server: MetricsServer) -> JoinHandle<()> {
        if let Ok(address) = server.address() {
            tracing::info!("serving metrics on {address}");
        }
        tokio::spawn(server.run(self.requests.clone()))
    }
}

/// Waits for the task, which removes the name of a Unix socket.
async fn stop(server: Option<JoinHandle<()>>) {
    if let Some(server) = server {
        server.abort();
        // Always an error: the task was aborted.
        let _ = server.await;
    }
}

/// Renders the page for each waiting scrape.
pub(crate) async fn serve_pages(mut requests: mpsc::Receiver<PageRequest>, shared: &Shared) {
    while let Some(request) = requests.recv().await {
        let page = shared.state.borrow_mut().metrics_page();
        // The scraper may have disconnected.
        let _ = request.send(page);
    }
}
