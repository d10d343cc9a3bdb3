//! `cargo xtask test`: everything that can be tested on this machine.

use crate::clients;
use crate::debian::{self, Installer};
use crate::process::{self, BUILD};
use crate::progress::{note, step, yellow};
use crate::workspace;
use anyhow::Result;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Real clients that the end-to-end tests run, by package.
const CLIENTS: &[&str] = &["curl", "wget", "python3"];

/// More of them, whose package has another name than what is run.
const MORE_CLIENTS: &[&str] = &["ruby-aws-sdk-core"];
/// What the HTML report is looked at with.
const BROWSER: &[&str] = &["chromium", "chromium-driver"];
/// What scrapes the metrics, and `promtool`, which checks them.
const PROMETHEUS: &[&str] = &["prometheus"];

/// Run all tests: unit, property, documentation, and end to end on this kernel.
///
/// The end-to-end tests load imdsmon into the running kernel and let real programs (curl, wget,
/// python, SDKs old and new) call a simulated IMDS in a network namespace of their own. They need
/// root; what cannot run here is named as SKIPPED, with the reason. `cargo xtask vm` runs other
/// kernels.
#[derive(clap::Args)]
pub struct Args {
    /// Run only tests whose name contains one of these.
    filter: Vec<String>,

    /// Repeat each end-to-end test N times (`IMDSMON_TEST_REPEAT`), to find what fails rarely.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
}

/// Builds, says what cannot run, and tests.
pub fn run(args: &Args, installer: &Installer) -> Result<()> {
    let root = workspace::root()?;
    let sdks = workspace::target(&root).join("clients");
    if debian::is_root() {
        installer.try_ensure(CLIENTS, "clients of the end-to-end tests");
        installer.try_ensure(MORE_CLIENTS, "clients of the end-to-end tests");
        clients::install(&sdks, installer);
        installer.try_ensure(BROWSER, "the browser that the HTML report is tested in");
        installer.try_ensure(PROMETHEUS, "what the metrics are checked with");
    }
    for reason in skipped() {
        note(format!("{}: {reason}", yellow("SKIPPED")));
    }
    step("build imdsmon, its tests and their clients", || {
        let mut build = process::cargo();
        build
            .current_dir(&root)
            .args(["build", "--workspace", "--bins"]);
        process::run(&mut build, BUILD)?;
        let mut build = process::cargo();
        build
            .current_dir(&root)
            .args(["test", "--workspace", "--no-run", "--quiet"]);
        process::run(&mut build, BUILD)
    })?;
    step("test", || {
        let mut test = process::cargo();
        test.current_dir(&root)
            .args(["test", "--workspace", "--no-fail-fast", "--"])
            .args(&args.filter)
            .env(
                "IMDSMON_BIN",
                workspace::target(&root).join("debug/imdsmon"),
            )
            .env("IMDSMON_TEST_CLIENTS_DIR", &sdks)
            .env("IMDSMON_TEST_REPEAT", args.repeat.to_string());
        process::run(&mut test, limit(args.repeat))
    })
}

fn limit(repeat: u32) -> Duration {
    Duration::from_secs(20 * 60).saturating_mul(repeat)
}

/// What the tests cannot do here, and why.
fn skipped() -> Vec<String> {
    let mut reasons = Vec::new();
    if !debian::is_root() {
        reasons.push("the end-to-end tests load programs into the kernel; run as root".to_owned());
    }
    if !fs::read_to_string("/proc/filesystems").is_ok_and(|known| known.contains("\tcgroup2\n")) {
        reasons.push("the end-to-end tests attach to cgroup v2; this kernel has none".to_owned());
    }
    if !Path::new("/proc/sys/kernel/unprivileged_bpf_disabled").exists() {
        reasons.push("the end-to-end tests need BPF; this kernel has no bpf(2)".to_owned());
    }
    let others = ["java", "chromedriver", "promtool"];
    for program in CLIENTS.iter().copied().chain(others) {
        if !on_path(program) {
            reasons.push(format!(
                "what is tested with {program}, which is not installed"
            ));
        }
    }
    reasons
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
