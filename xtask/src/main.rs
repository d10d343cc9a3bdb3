//! Every task of those who build imdsmon, one file each; `cargo xtask --help` lists them.
//!
//! People and CI run the same tasks. A task that needs a tool says which, and gets it by itself
//! where it may: as root on Debian or Ubuntu. Elsewhere it prints the commands to run.
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for people at a terminal; its output is its job"
)]

mod bench;
mod clients;
mod compile;
mod debian;
mod demo;
mod dist;
mod ebpf;
mod process;
mod progress;
mod test;
mod vm;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Every task of those who build imdsmon.
///
/// Start with `cargo xtask demo` to see it work, `cargo xtask test` before a commit, and
/// `cargo xtask vm` when the kernel side has changed. `.ci/run` runs all that CI checks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    /// Never install packages; print the commands instead.
    ///
    /// Without it a task that runs as root on Debian or Ubuntu installs the packages it needs
    /// and names them first.
    #[arg(long, global = true)]
    no_install: bool,

    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Ebpf(ebpf::Args),
    Test(test::Args),
    Demo(demo::Args),
    Vm(vm::Args),
    Bench(bench::Args),
    Dist(dist::Args),
}

fn main() -> ExitCode {
    let Cli { no_install, task } = Cli::parse();
    match run(task, &debian::Installer::new(no_install)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task, installer: &debian::Installer) -> Result<()> {
    match task {
        Task::Ebpf(args) => ebpf::run(&args, installer),
        Task::Test(args) => test::run(&args, installer),
        Task::Demo(args) => demo::run(&args),
        Task::Vm(args) => vm::run(&args, installer),
        Task::Bench(args) => bench::run(&args, installer),
        Task::Dist(args) => dist::run(&args, installer),
    }
}
