//! Every development task, one module each; `cargo xtask --help` lists them.
//!
//! Developers and CI run the same tasks. A task that needs a tool names it and, as root on Debian
//! or Ubuntu, installs it. On other systems it prints the commands to run.
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a command-line program; its output is its purpose"
)]

mod arch;
mod bench;
mod debian;
mod demo;
mod deny;
mod dist;
mod ebpf;
mod msrv;
mod process;
mod progress;
mod sdks;
mod static_build;
mod test;
mod vm;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use debian::{Debian, Installer};
use std::process::ExitCode;

/// Development tasks of imdsmon
///
/// Start with `cargo xtask demo`. Run `cargo xtask test` before each commit, and `cargo xtask vm`
/// after a change to the eBPF programs. `.ci/run` runs everything that CI checks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 80)]
struct Cli {
    /// Install nothing; print the commands instead
    ///
    /// By default a task that runs as root on Debian or Ubuntu names the packages it needs and
    /// installs them.
    #[arg(long, global = true)]
    no_install: bool,

    /// Debian mirror for kernels, cross compilers and test systems
    ///
    /// Defaults to the mirror that apt is configured with.
    #[arg(long, global = true, value_name = "URI")]
    mirror: Option<String>,

    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Ebpf(ebpf::Args),
    Test(test::Args),
    Deny(deny::Args),
    Msrv(msrv::Args),
    Demo(demo::Args),
    Vm(vm::Args),
    Bench(bench::Args),
    Dist(dist::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let debian = Debian::new(Installer::new(cli.no_install), cli.mirror.as_deref())?;
    match cli.task {
        Task::Ebpf(args) => ebpf::run(&args, &debian.installer),
        Task::Test(args) => test::run(&args, &debian.installer),
        Task::Deny(args) => deny::run(&args, &debian.installer),
        Task::Msrv(args) => msrv::run(&args, &debian.installer),
        Task::Demo(args) => demo::run(&args),
        Task::Vm(args) => vm::run(&args, &debian),
        Task::Bench(args) => bench::run(&args, &debian),
        Task::Dist(args) => dist::run(&args, &debian),
    }
}
