//! Reads the configuration again on SIGHUP.

use tokio::signal::unix::Signal;

use super::{metrics_endpoint::MetricsEndpoint, shared::Shared, systemd};
use crate::config::{Config, ConfigError};

/// Reads the configuration, at startup and at each reload.
pub(crate) type LoadConfig = dyn Fn() -> Result<Config, ConfigError>;

pub(crate) struct Reload<'s> {
    load: &'s LoadConfig,
    current: Config,
    shared: &'s Shared,
    endpoint: &'s mut MetricsEndpoint,
}

impl<'s> Reload<'s> {
    pub(crate) fn new(
        load: &'s LoadConfig,
        current: Config,
        shared: &'s Shared,
        endpoint: &'s mut MetricsEndpoint,
    ) -> Self {
        Self {
            load,
            current,
            shared,
            endpoint,
        }
    }

    pub(crate) async fn run(mut self, mut sighup: Signal) {
        while sighup.recv().await.is_some() {
            systemd::reloading();
            match (self.load)() {
                Ok(config) => {
                    self.apply(config).await;
                    tracing::info!("reloaded the configuration");
                }
                Err(error) => {
                    tracing::error!("cannot reload, keeping the previous configuration: {error}");
                }
            }
            systemd::ready(&self.shared.state.borrow_mut().status());
        }
    }

    async fn apply(&mut self, config: Config) {
        for key in self.current.restart_keys_changed(&config) {
            tracing::warn!("{key} requires a restart; restart the service");
        }
        self.shared.state.borrow_mut().reconfigure(&config);
        self.endpoint
            .listen(config.metrics_listen.value.as_ref())
            .await;
        self.current = config;
        self.shared.changed();
    }
}
