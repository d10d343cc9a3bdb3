//! A client: what an owner recognises, and what stays the same over restarts and pids.

use serde::{Deserialize, Serialize};

use super::{process::Process, workload::Workload};

/// Who calls, without anything that a restart changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Client {
    /// What runs: the script, not only its interpreter.
    pub program: String,
    /// What it runs as.
    pub workload: Workload,
    /// The user's name, or its number; empty if unknown.
    pub user: String,
    /// The package that owns the executable, with its version, if the database could be read.
    pub package: Option<String>,
    /// Whether its network namespace is the host's; `None` if unknown.
    pub host_network: Option<bool>,
}

impl Client {
    /// The client that a process is.
    #[must_use]
    pub fn of(process: &Process) -> Self {
        let program = process.exe.as_ref().unwrap_or(&process.name).to_text();
        let user = process.user.clone();
        Self {
            program,
            user: user.unwrap_or_else(|| process.uid.to_string()),
            ..Self::default()
        }
    }

    /// Its stable name: program and user.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { program, user, .. } = self;
        if user.is_empty() {
            return program.clone();
        }
        format!("{program} ({user})")
    }
}
