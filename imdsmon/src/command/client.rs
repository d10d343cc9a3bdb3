//! `imdsmon sandbox-client`, hidden: the client that the demo and the self-test always have.
//!
//! It calls the simulated IMDS of `sandbox::ImdsSimulator` and refuses to send anything outside it.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::{event::Endpoint, sandbox::client};

/// Call the simulated metadata service; works inside the IMDS simulator only.
#[derive(clap::Args)]
pub struct Args {
    /// Fetch a token first and send it along
    #[arg(long)]
    token: bool,

    /// Call by IPv6
    #[arg(long)]
    ipv6: bool,

    /// What to get
    #[arg(default_value = "/latest/meta-data/instance-id")]
    path: String,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let endpoint = if args.ipv6 {
        Endpoint::V6
    } else {
        Endpoint::V4
    };
    let token = if args.token {
        Some(client::token(endpoint, 60).context("no token")?)
    } else {
        None
    };
    let answer = client::get(endpoint, &args.path, token.as_deref())?;
    anyhow::ensure!(answer.status == 200, "status {}", answer.status);
    Ok(ExitCode::SUCCESS)
}
