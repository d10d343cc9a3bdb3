//! `imdsmon sandbox-client` (hidden): the client of the demo and the self-test.
//!
//! It calls the simulated IMDS of `sandbox::ImdsSimulator` and refuses to send anything outside it.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::{event::Endpoint, sandbox::client};

/// Call the simulated IMDS; works inside the simulator only
#[derive(clap::Args)]
pub struct Args {
    /// Request a token first and send it with the call
    #[arg(long)]
    token: bool,

    /// Call over IPv6
    #[arg(long)]
    ipv6: bool,

    /// Path to get
    #[arg(default_value = "/latest/meta-data/instance-id")]
    path: String,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let endpoint = if args.ipv6 {
        Endpoint::V6
    } else {
        Endpoint::V4
    };
    let token = if args.token {
        Some(client::token(endpoint, 60).context("cannot get a token")?)
    } else {
        None
    };
    let response = client::get(endpoint, &args.path, token.as_deref())?;
    anyhow::ensure!(response.status == 200, "status {}", response.status);
    Ok(ExitCode::SUCCESS)
}
