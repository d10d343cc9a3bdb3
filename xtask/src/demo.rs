//! `cargo xtask demo`: runs `imdsmon demo`.

use crate::progress::step;
use crate::{debian, process, workspace};
use anyhow::{Result, bail};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Build imdsmon and run its demo against a simulated IMDS
///
/// Needs root to load eBPF programs. The demo runs in a private network namespace; nothing is sent
/// to a real IMDS.
#[derive(clap::Args)]
pub struct Args {
    /// Arguments for `imdsmon demo`; see `cargo xtask demo -- --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Replaces this process by imdsmon, so it returns only on errors.
pub fn run(args: &Args) -> Result<()> {
    let root = workspace::root()?;
    step("build imdsmon", || {
        let mut build = process::cargo();
        build
            .current_dir(&root)
            .args(["build", "--package", "imdsmon"]);
        process::run(&mut build, process::BUILD_TIMEOUT)
    })?;
    let program = workspace::target(&root).join("debug/imdsmon");
    let mut words = vec!["demo"];
    words.extend(args.arguments.iter().map(String::as_str));
    if !debian::is_root() {
        bail!(
            "the demo needs root to load eBPF programs; run it with:\n    sudo {} {}",
            program.display(),
            words.join(" ")
        );
    }
    let error = Command::new(&program).args(words).exec();
    bail!("cannot start {}: {error}", program.display())
}
