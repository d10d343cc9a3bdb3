//! Arguments shared by several subcommands, and their values.

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    config::{Config, value::duration},
    knowledge::Knowledge,
    ledger::{ClientStats, Coverage},
    store,
    time::Timestamp,
};

/// Which part of which store is read.
#[derive(clap::Args)]
pub(super) struct StoreArgs {
    /// Store directory of the service [default: `store.dir` of its configuration]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,

    /// How far back to read, for example 12h, 14d, or `all`
    #[arg(long, value_name = "DURATION", default_value = "14d", value_parser = since)]
    since: Since,
}

#[derive(clap::Args)]
pub(super) struct KnowledgeArgs {
    /// Knowledge files in addition to those in the service's configuration
    /// (format: docs/reference/knowledge.md)
    #[arg(long, value_name = "FILE", num_args = 1..)]
    knowledge: Vec<PathBuf>,
}

#[derive(Clone, Copy)]
enum Since {
    All,
    Ago(Duration),
}

fn since(text: &str) -> Result<Since, String> {
    if text == "all" {
        return Ok(Since::All);
    }
    duration(text).map(Since::Ago)
}

impl KnowledgeArgs {
    /// The knowledge base with the files of the configuration and of the command line.
    pub(super) fn load(&self, config: &Config) -> anyhow::Result<Knowledge> {
        let files = [&config.knowledge.value[..], &self.knowledge].concat();
        knowledge(&files)
    }
}

impl StoreArgs {
    /// The clients and the coverage since the requested time.
    pub(super) fn load(
        &self,
        config: &Config,
        now: Timestamp,
    ) -> anyhow::Result<(Vec<ClientStats>, Coverage)> {
        let store = self.store.as_deref().unwrap_or(&config.store_dir.value);
        let mut reader = store::StoreReader::open(store)?;
        let since = match self.since {
            Since::All => Timestamp::default(),
            Since::Ago(time) => now - time,
        };
        Ok(reader.load(since.max(Timestamp::default()))?)
    }
}

/// The service's configuration. If it is unreadable or invalid, the report uses the defaults and a
/// note goes to standard error.
pub(super) fn config() -> io::Result<Config> {
    match Config::load(None, env::vars_os(), &[]) {
        Ok(config) => Ok(config),
        Err(error) => {
            writeln!(anstream::stderr(), "imdsmon: note: using defaults: {error}")?;
            Ok(Config::default())
        }
    }
}

/// The built-in knowledge base, extended by `files`.
pub(super) fn knowledge(files: &[PathBuf]) -> anyhow::Result<Knowledge> {
    let mut knowledge = Knowledge::builtin();
    for file in files {
        let name = || format!("cannot load knowledge file {}", file.display());
        let text = std::fs::read_to_string(file).with_context(name)?;
        knowledge.extend(&text).with_context(name)?;
    }
    Ok(knowledge)
}
