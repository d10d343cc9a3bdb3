//! `cargo xtask deny`: licenses, duplicates, sources and advisories of dependencies.
//!
//! Runs cargo-deny with the rules in deny.toml.

use crate::debian::Installer;
use crate::process::{self, BUILD_TIMEOUT, DOWNLOAD_TIMEOUT, QUERY_TIMEOUT};
use crate::progress::{skipped, step};
use crate::workspace;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = "0.20.2";

/// Check licenses, duplicates, sources and advisories of dependencies (deny.toml)
///
/// Builds cargo-deny in target/tools unless it is installed. Advisories are SKIPPED if their
/// database cannot be downloaded.
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: &Args, installer: &Installer) -> Result<()> {
    let root = workspace::root()?;
    let program = cargo_deny(&root, installer)?;
    let deny = |arguments: &[&str]| {
        let mut deny = Command::new(&program);
        deny.current_dir(&root).arg("--locked").args(arguments);
        deny
    };
    step("check licenses, duplicates and sources", || {
        let mut check = deny(&["check", "licenses", "bans", "sources"]);
        process::run(&mut check, QUERY_TIMEOUT)
    })?;
    if let Err(error) = process::output(&mut deny(&["fetch", "db"]), DOWNLOAD_TIMEOUT) {
        let error = format!("{error:#}");
        let cause = error.trim().lines().last().unwrap_or_default();
        skipped("advisories", cause);
        return Ok(());
    }
    step("check advisories", || {
        let mut check = deny(&["check", "--disable-fetch", "advisories"]);
        process::run(&mut check, QUERY_TIMEOUT)
    })
}

fn cargo_deny(root: &Path, installer: &Installer) -> Result<PathBuf> {
    let own = workspace::target(root).join(format!("tools/cargo-deny-{VERSION}"));
    for program in workspace::program_paths("cargo-deny", &own.join("bin"))? {
        let version = process::output(Command::new(&program).arg("--version"), QUERY_TIMEOUT);
        if version.is_ok_and(|version| version.trim() == format!("cargo-deny {VERSION}")) {
            return Ok(program);
        }
    }
    // Unoptimized, it builds in 1.6 CPU minutes instead of 4.4, and checks in two seconds.
    let arguments = [
        "install",
        "cargo-deny",
        "--version",
        VERSION,
        "--locked",
        "--debug",
    ];
    if !installer.may_install() {
        let command = arguments.join(" ");
        bail!("cargo-deny {VERSION} is not installed; install it with:\n    cargo {command}");
    }
    let title = format!("install cargo-deny {VERSION} in {}", own.display());
    step(&title, || {
        let mut cargo = process::cargo();
        cargo.args(arguments).args(["--quiet", "--root"]).arg(&own);
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "0");
        process::run(&mut cargo, BUILD_TIMEOUT)
    })?;
    Ok(own.join("bin/cargo-deny"))
}
