//! `cargo xtask bench`: the cost of imdsmon, as tables for docs/performance.md.
//!
//! `bench-load` of the package tests generates the load, measures and checks; this module turns its
//! output into tables. [`run`] measures times on this machine, with its noise. [`icount`] counts
//! instructions in a virtual machine, with the same result on every run.

mod figures;
mod icount;
mod table;

use crate::debian::{self, Debian};
use crate::process::{self, BUILD_TIMEOUT};
use crate::progress::step;
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use figures::{Calls, Figures};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// One program of the benchmark; with all rounds it takes ten minutes.
const BENCH_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Measure the cost of imdsmon: for traffic other than IMDS, and of the monitor itself
///
/// Prints Markdown tables, without rows whose call counts were wrong. Needs root, an idle machine,
/// and no other eBPF program attached to the cgroup v2 root. Runs in a private network namespace;
/// nothing is sent to a real IMDS.
#[derive(clap::Args)]
pub struct Args {
    /// Run fewer rounds, to test the benchmark itself
    #[arg(long)]
    quick: bool,

    /// Count instructions in virtual machines instead
    #[arg(long)]
    vm: bool,

    /// With --vm, the kernel; repeatable [default: 6.1]
    #[arg(long = "kernel", value_name = "NAME", requires = "vm")]
    kernels: Vec<String>,
}

pub fn run(args: &Args, debian: &Debian) -> Result<()> {
    let root = workspace::root()?;
    if args.vm {
        return icount::run(&args.kernels, args.quick, &root, debian);
    }
    if !debian::is_root() {
        bail!("the benchmark needs root to load eBPF programs; run as root");
    }
    build(&root)?;
    let programs = workspace::target(&root).join("release");
    let packets = step("measure traffic other than IMDS", || {
        packets(&programs, args.quick)
    })?;
    println!("{}", machine()?);
    print!("\n{}", table::packets(&packets));
    let calls = step("measure calls to a simulated IMDS", || {
        calls(&programs, args.quick)
    })?;
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
        process::run(&mut build, BUILD_TIMEOUT)
    })
}

fn packets(programs: &Path, quick: bool) -> Result<Figures> {
    let rounds = if quick { "60" } else { "600" };
    let mut load = Command::new(programs.join("bench-load"));
    load.args(["packets", "--rounds", rounds, "--imdsmon"])
        .arg(programs.join("imdsmon"));
    Figures::parse(&process::output(&mut load, BENCH_TIMEOUT)?)
}

fn calls(programs: &Path, quick: bool) -> Result<(Vec<Calls>, Vec<String>)> {
    let seconds = if quick { "5" } else { "30" };
    // Not in /tmp, which may be a tmpfs.
    let directory = tempfile::tempdir_in(programs).context("create a temporary directory")?;
    let mut load = Command::new(programs.join("bench-load"));
    load.args(["calls", "--seconds", seconds, "--imdsmon"])
        .arg(programs.join("imdsmon"))
        .arg("--directory")
        .arg(directory.path());
    figures::calls(&process::output(&mut load, BENCH_TIMEOUT)?)
}

/// The machine's processor and kernel, as a heading of the tables.
fn machine() -> Result<String> {
    let release =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel release")?;
    let processors = std::thread::available_parallelism().context("count processors")?;
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    Ok(format!(
        "{processors} processors ({model}), Linux {}.",
        release.trim()
    ))
}
