//! Measures what imdsmon costs: the load, the clock and the check in one static program.
//!
//! `cargo xtask bench` builds it, runs it and makes tables of what it prints, one line of words
//! per figure. All traffic stays in a private network namespace ([`imdsmon::sandbox`]). It comes
//! in two parts: what traffic that is *not* IMDS pays for being looked at ([`packets`]), and what
//! the monitor needs to follow many calls that *are* ([`calls`]).
//!
//! A figure is printed only after the counts behind it were checked.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its output is its job"
)]

mod calls;
mod client;
mod hooks;
mod monitor;
mod packets;
mod tally;
mod workload;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Measures what imdsmon costs; run by `cargo xtask bench`.
#[derive(Parser)]
#[command(name = "bench-load")]
struct Cli {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    Packets(packets::Args),
    Calls(calls::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().part {
        Part::Packets(args) => packets::run(&args),
        Part::Calls(args) => {
            calls::run(&args);
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}
