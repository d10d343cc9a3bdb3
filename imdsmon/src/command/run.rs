//! `imdsmon run`: the service.

use std::{env, path::PathBuf, process::ExitCode, rc::Rc};

use super::{block_on, report::knowledge, stop::end};
use crate::{
    config::{Config, Flag},
    service,
};

/// Watch for as long as the host runs, and answer `imdsmon report` at any moment.
///
/// Counts calls by client in a store that survives restarts and crashes, proves now and then that
/// it hears (the canary), tells the log when a new client calls without a token, and serves
/// metrics if it is told to. It is set up by /etc/imdsmon/imdsmon.toml, over that by the
/// environment, over that by these flags; `imdsmon config show` tells which value comes from
/// where. SIGHUP reads the configuration again. Made for systemd (`Type=notify`, with watchdog),
/// and runs without it, too.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  systemctl enable --now imdsmon             what the package is made for
  imdsmon run --store /tmp/store             to try it
  imdsmon report                             what it has seen")]
pub struct Args {
    /// Read FILE, which must exist, instead of /etc/imdsmon/imdsmon.toml, which need not
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Directory of the store [store.dir]
    #[arg(long, value_name = "DIR")]
    store: Option<String>,

    /// Time between two proofs that calls are heard, or `off` [canary.interval]
    #[arg(long, value_name = "TIME")]
    canary: Option<String>,

    /// Where Prometheus may ask: ADDRESS:PORT or unix:PATH [metrics.listen]
    #[arg(long, value_name = "WHERE")]
    metrics: Option<String>,

    /// File for the textfile collector of `node_exporter` [metrics.textfile]
    #[arg(long, value_name = "FILE")]
    textfile: Option<String>,

    /// Where lines in CloudWatch's embedded metric format go: a file, or `stdout` [emf.path]
    #[arg(long, value_name = "FILE")]
    emf: Option<String>,

    /// Where each call is written as a line of JSON: a file, or `stdout` [log.path]
    #[arg(long, value_name = "FILE")]
    log: Option<String>,

    /// Where the host's root directory is mounted, in a container
    #[arg(long, value_name = "DIR", default_value = "/")]
    host_root: PathBuf,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let file = args.config.clone();
    let flags = args.flags();
    let load = move || Config::load(file.as_deref(), env::vars_os(), &flags);
    block_on(async {
        let stop = end()?;
        // On the heap: it is as large as all that it waits for.
        Box::pin(service::run(
            Rc::new(load),
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
