//! `cargo xtask msrv`: the workspace with the oldest Rust that it declares to support.

use crate::debian::Installer;
use crate::process::{self, BUILD_TIMEOUT, DOWNLOAD_TIMEOUT, QUERY_TIMEOUT};
use crate::progress::{skipped, step};
use crate::workspace;
use anyhow::Result;
use std::process::Command;

/// `rust-version` of the workspace.
const VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

/// Check that the workspace compiles with its declared minimum version of Rust
///
/// rustup installs that toolchain. If it cannot be downloaded, the check is SKIPPED.
#[derive(clap::Args)]
pub struct Args {}

/// Installs the toolchain and checks libraries and binaries; tests may use newer features.
pub fn run(_: &Args, installer: &Installer) -> Result<()> {
    let check = format!("minimum Rust version {VERSION}");
    let mut version = rustup(&["run", VERSION, "rustc", "--version"]);
    if process::output(&mut version, QUERY_TIMEOUT).is_err() {
        if !installer.may_install() {
            skipped(
                &check,
                "the toolchain is not installed, because of --no-install",
            );
            return Ok(());
        }
        let mut install = rustup(&["toolchain", "install", VERSION, "--profile", "minimal"]);
        install.arg("--no-self-update");
        let installation = step(&format!("install Rust {VERSION}"), || {
            process::output(&mut install, DOWNLOAD_TIMEOUT)
        });
        if let Err(error) = installation {
            let error = format!("{error:#}");
            skipped(&check, error.trim().lines().last().unwrap_or_default());
            return Ok(());
        }
    }
    let root = workspace::root()?;
    step(&format!("compile with Rust {VERSION}"), || {
        let mut cargo = rustup(&["run", VERSION, "cargo", "check", "--quiet", "--locked"]);
        cargo
            .current_dir(&root)
            .arg("--target-dir")
            .arg(workspace::target(&root).join("msrv"));
        process::run(&mut cargo, BUILD_TIMEOUT)
    })
}

fn rustup(arguments: &[&str]) -> Command {
    let mut rustup = process::external("rustup");
    rustup.args(arguments);
    rustup
}
