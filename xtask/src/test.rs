//! `cargo xtask test`: all tests that can run on this machine.

use crate::debian::{self, Installer};
use crate::process::{self, BUILD_TIMEOUT};
use crate::progress::{skipped, step};
use crate::sdks;
use crate::workspace;
use anyhow::Result;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Clients that the end-to-end tests run; Debian package and program have the same name.
const CLIENTS: &[&str] = &["curl", "wget", "python3"];

/// Other packages that tests use, each group with its purpose.
const TEST_PACKAGES: &[(&[&str], &str)] = &[
    (&["ruby-aws-sdk-core"], "a client of the end-to-end tests"),
    (
        &["chromium", "chromium-driver"],
        "to test the HTML report in a browser",
    ),
    (&["prometheus"], "to scrape and check the metrics"),
];
/// For the whole test run; end-to-end tests take most of it.
const TEST_TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// Run all tests: unit, property, documentation and end-to-end tests
///
/// The end-to-end tests load imdsmon into the running kernel, and let curl, wget, Python and old
/// and new SDKs call a simulated IMDS in a private network namespace. They need root. Tests that
/// cannot run are listed as SKIPPED with the reason. `cargo xtask vm` tests other kernels.
#[derive(clap::Args)]
pub struct Args {
    /// Run only tests whose name contains one of these
    filter: Vec<String>,

    /// Repeat each end-to-end test N times, to find rare failures (`IMDSMON_TEST_REPEAT`)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
}

pub fn run(args: &Args, installer: &Installer) -> Result<()> {
    let root = workspace::root()?;
    let clients = workspace::target(&root).join("clients");
    if debian::is_root() {
        installer.try_ensure(CLIENTS, "clients of the end-to-end tests");
        for (packages, purpose) in TEST_PACKAGES {
            installer.try_ensure(packages, purpose);
        }
        sdks::install(&clients, installer);
    }
    for (tests, reason) in unavailable() {
        skipped(&tests, reason);
    }
    step("build imdsmon, the tests and their clients", || {
        let mut build = process::cargo();
        build
            .current_dir(&root)
            .args(["build", "--workspace", "--bins"]);
        process::run(&mut build, BUILD_TIMEOUT)?;
        let mut build = process::cargo();
        build
            .current_dir(&root)
            .args(["test", "--workspace", "--no-run", "--quiet"]);
        process::run(&mut build, BUILD_TIMEOUT)
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
            .env("IMDSMON_TEST_CLIENTS_DIR", &clients)
            .env("IMDSMON_TEST_REPEAT", args.repeat.to_string());
        process::run(&mut test, TEST_TIMEOUT.saturating_mul(args.repeat))
    })
}

/// Tests that cannot run here, with the reason.
fn unavailable() -> Vec<(String, &'static str)> {
    let has_cgroup2 =
        fs::read_to_string("/proc/filesystems").is_ok_and(|list| list.contains("\tcgroup2\n"));
    let has_bpf = Path::new("/proc/sys/kernel/unprivileged_bpf_disabled").exists();
    let requirements = [
        (debian::is_root(), "not root"),
        (has_cgroup2, "this kernel has no cgroup v2"),
        (has_bpf, "this kernel has no bpf(2)"),
    ];
    let end_to_end = requirements
        .into_iter()
        .filter(|(is_met, _)| !is_met)
        .map(|(_, reason)| ("end-to-end tests".to_owned(), reason));
    let with_program = CLIENTS
        .iter()
        .chain(&["java", "chromedriver", "promtool"])
        .filter(|program| !on_path(program))
        .map(|program| (format!("tests with {program}"), "not installed"));
    end_to_end.chain(with_program).collect()
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
