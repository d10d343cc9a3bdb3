//! `cargo xtask bench`: what imdsmon costs, as tables for docs/performance.md.
//!
//! The program `bench-load` of the package tests makes the load, measures and checks; here its
//! lines become tables. On this machine ([`run`]) times are real and carry the machine's noise;
//! in a machine under `-icount` ([`exact`]) they are instructions, the same on every run.

mod exact;
mod figures;
mod table;

use crate::debian::{self, Installer};
use crate::process::{self, BUILD};
use crate::progress::step;
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use figures::{Calls, Figures};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Measure what imdsmon costs: the traffic that is not IMDS, and the monitor itself.
///
/// Everything happens in a private network namespace; nothing is sent to a real IMDS. Prints
/// Markdown on standard output, and no figure whose counts were wrong. Needs root, a quiet
/// machine, and that nothing else is attached at the cgroup v2 root.
#[derive(clap::Args)]
pub struct Args {
    /// Fewer rounds and seconds: to see that it works, not for publication.
    #[arg(long)]
    quick: bool,

    /// Count instructions instead, in virtual machines of other kernels.
    #[arg(long)]
    vm: bool,

    /// With --vm, this kernel instead of 6.1; may be given several times.
    #[arg(long = "kernel", value_name = "NAME", requires = "vm")]
    kernels: Vec<String>,
}

/// Builds, measures and prints.
pub fn run(args: &Args, installer: &Installer) -> Result<()> {
    let root = workspace::root()?;
    if args.vm {
        return exact::run(&args.kernels, args.quick, &root, installer);
    }
    if !debian::is_root() {
        bail!("the benchmark loads programs into the kernel; run as root");
    }
    build(&root)?;
    let programs = workspace::target(&root).join("release");
    let packets = step("traffic that is not IMDS", || {
        packets(&programs, args.quick)
    })?;
    println!("{}", machine()?);
    print!("\n{}", table::packets(&packets));
    let calls = step("calls to a simulated IMDS", || calls(&programs, args.quick))?;
    let (rows, failures) = calls;
    print!("\n{}", table::calls(&rows));
    if !failures.is_empty() {
        bail!("FAILED {}", failures.join("\nFAILED "));
    }
    Ok(())
}

fn build(root: &Path) -> Result<()> {
    step("build", || {
        let mut build = process::cargo();
        build
            .current_dir(root)
            .args(["build", "--release", "--locked"])
            .args(["--package", "imdsmon", "--package", "tests"])
            .args(["--bin", "imdsmon", "--bin", "bench-load"]);
        process::run(&mut build, BUILD)
    })
}

fn packets(programs: &Path, quick: bool) -> Result<Figures> {
    let rounds = if quick { "60" } else { "600" };
    let mut load = Command::new(programs.join("bench-load"));
    load.args(["packets", "--rounds", rounds, "--imdsmon"])
        .arg(programs.join("imdsmon"));
    Figures::parse(&process::output(&mut load, Duration::from_secs(15 * 60))?)
}

fn calls(programs: &Path, quick: bool) -> Result<(Vec<Calls>, Vec<String>)> {
    let seconds = if quick { "5" } else { "30" };
    // Beside the build: /tmp may be memory, which is not to be filled.
    let directory = tempfile::tempdir_in(programs).context("make a directory")?;
    let mut load = Command::new(programs.join("bench-load"));
    load.args(["calls", "--seconds", seconds, "--imdsmon"])
        .arg(programs.join("imdsmon"))
        .arg("--directory")
        .arg(directory.path());
    figures::calls(&process::output(&mut load, Duration::from_secs(15 * 60))?)
}

/// What it was measured on.
fn machine() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the release")?;
    let processors = std::thread::available_parallelism().context("count processors")?;
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("read the processor's name")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    Ok(format!(
        "{processors} processors ({model}), Linux {}.",
        release.trim()
    ))
}
