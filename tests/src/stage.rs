//! A client with a name that no other test uses, a place to call, and a directory for a service's store.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use imdsmon::sandbox::{ImdsConfig, ImdsSimulator};
use serde_json::Value;

use crate::{
    OwnClient, own_client,
    service::{eventually, try_report},
    skipped,
};

/// See the module.
pub struct Stage {
    /// Where it calls.
    pub simulator: ImdsSimulator,
    /// The client under test, with a name that no other test uses.
    pub client: OwnClient,
    place: tempfile::TempDir,
}

impl Stage {
    /// The client goes by `name`, which is no other story's. `None` where it cannot be played.
    ///
    /// # Panics
    ///
    /// If it cannot be set up.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        Self::at(name, ImdsConfig::default())
    }

    /// The same, with an instance of this kind.
    ///
    /// # Panics
    ///
    /// If it cannot be set up.
    #[must_use]
    pub fn at(name: &str, config: ImdsConfig) -> Option<Self> {
        (!skipped()).then(|| Self {
            simulator: ImdsSimulator::start(config).unwrap(),
            client: own_client(name),
            place: tempfile::tempdir().unwrap(),
        })
    }

    /// The directory; gone when dropped.
    #[must_use]
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// What the client is called in a report: a part of its path.
    ///
    /// # Panics
    ///
    /// Never: it has a name.
    #[must_use]
    pub fn program(&self) -> &str {
        self.client.path.file_name().unwrap().to_str().unwrap()
    }

    /// Makes calls without a token, each on a connection of its own, and waits for the end.
    ///
    /// # Panics
    ///
    /// If they fail.
    pub fn call(&self, count: u32) {
        self.call_as("v1", count);
    }

    /// The same, in one of the ways of `wire-client load --pattern`.
    ///
    /// # Panics
    ///
    /// If they fail.
    pub fn call_as(&self, pattern: &str, count: u32) {
        let mut load = self.spawn(&["--pattern", pattern], count, 1000);
        assert!(load.wait().unwrap().success());
    }

    /// Makes calls without a token, so many a second, and does not wait.
    ///
    /// # Panics
    ///
    /// If the client cannot be started.
    #[must_use]
    pub fn load(&self, count: u32, rate: u32) -> Child {
        self.spawn(&[], count, rate)
    }

    fn spawn(&self, more: &[&str], count: u32, rate: u32) -> Child {
        let mut command = Command::new(&self.client.path);
        command
            .args(["load", "--new-connections", "--count", &count.to_string()])
            .args(["--rate", &rate.to_string()])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        self.simulator.enter(&mut command).spawn().unwrap()
    }

    /// Calls of the client that a report counts.
    ///
    /// # Panics
    ///
    /// If it is no report.
    #[must_use]
    pub fn counted(&self, report: &Value) -> u64 {
        let program = self.program();
        let clients = report["clients"].as_array().unwrap();
        clients
            .iter()
            .filter(|client| client["client"]["program"] == program)
            .map(|client| client["totals"]["tokenless"].as_u64().unwrap())
            .sum()
    }

    /// The same, of the store as it is; of none, if there is none yet.
    #[must_use]
    pub fn reported(&self) -> u64 {
        try_report(self.place(), &[]).map_or(0, |report| self.counted(&report))
    }

    /// Waits until the store has that many calls.
    pub fn has(&self, count: u64) {
        eventually(&format!("{count} calls are in the store"), || {
            (self.reported() == count).then_some(())
        });
    }
}
