//! `imdsmon run`: the service.

use std::{env, path::PathBuf, process::ExitCode};

use super::{args::knowledge, block_on, stop::end};
use crate::{
    config::{Config, Flag},
    service,
};

/// Run as a service that records IMDS calls continuously
///
/// Counts calls by client in a store that survives restarts and crashes, verifies its own
/// capture regularly (the canary), logs each new client that makes IMDSv1 calls, and serves
/// metrics if configured. Settings are read from /etc/imdsmon/imdsmon.toml, environment
/// variables and flags, in increasing precedence; `imdsmon config show` prints each with its
/// origin. SIGHUP reloads the configuration. Supports systemd (`Type=notify` with a watchdog)
/// and does not require it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  systemctl enable --now imdsmon             with the package installed
  imdsmon run --store /tmp/store             in a terminal
  imdsmon report --store /tmp/store          what it recorded so far")]
pub(crate) struct Args {
    /// Read FILE instead of /etc/imdsmon/imdsmon.toml; FILE must exist
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Store directory [store.dir]
    #[arg(long, value_name = "DIR")]
    store: Option<String>,

    /// Interval between canary checks, or `off` [canary.interval]
    #[arg(long, value_name = "DURATION")]
    canary: Option<String>,

    /// Listen address of the Prometheus endpoint: ADDRESS:PORT or unix:PATH [metrics.listen]
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<String>,

    /// Metrics file for the textfile collector of `node_exporter` [metrics.textfile]
    #[arg(long, value_name = "FILE")]
    textfile: Option<String>,

    /// File for CloudWatch embedded metric format lines, or `stdout` [emf.path]
    #[arg(long, value_name = "FILE")]
    emf: Option<String>,

    /// File for one JSON line per call, or `stdout` [log.path]
    #[arg(long, value_name = "FILE")]
    log: Option<String>,

    /// Mount point of the host's root directory, in a container
    #[arg(long, value_name = "DIR", default_value = "/")]
    host_root: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let file = args.config.clone();
    let flags = args.flags();
    let load = move || Config::load(file.as_deref(), env::vars_os(), &flags);
    block_on(async {
        let stop = end()?;
        // On the heap: the future of the whole service is large.
        Box::pin(service::run(
            &load,
            &|config| knowledge(&config.knowledge.value),
            &args.host_root,
            stop,
        ))
        .await
    })??;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn flags(&self) -> Vec<Flag> {
        let Self {
            config: _,
            store,
            canary,
            metrics,
            textfile,
            emf,
            log,
            host_root: _,
        } = self;
        let all = [
            ("--store", "store.dir", store),
            ("--canary", "canary.interval", canary),
            ("--metrics", "metrics.listen", metrics),
            ("--textfile", "metrics.textfile", textfile),
            ("--emf", "emf.path", emf),
            ("--log", "log.path", log),
        ];
        all.into_iter()
            .filter_map(|(name, key, value)| {
                let value = value.clone()?;
                Some(Flag { name, key, value })
            })
            .collect()
    }
}
