//! `imdsmon sandbox-client` (hidden): the client of the demo and the self-test.
//!
//! It calls the simulated IMDS of `sandbox::ImdsSimulator` and sends nothing elsewhere.

use std::process::ExitCode;

use crate::{event::Endpoint, selftest::probe};

/// Call the simulated IMDS; works inside the simulator only
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Request a token first and send it with the call
    #[arg(long)]
    token: bool,

    /// Call over IPv6
    #[arg(long)]
    ipv6: bool,

    /// Path to get
    #[arg(default_value = probe::PATH)]
    path: String,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let endpoint = if args.ipv6 {
        Endpoint::V6
    } else {
        Endpoint::V4
    };
    probe::call(endpoint, &args.path, args.token)?;
    Ok(ExitCode::SUCCESS)
}
