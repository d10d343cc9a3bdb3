//! `cargo xtask demo`: see it work, without AWS.

use crate::progress::step;
use crate::{debian, process, workspace};
use anyhow::{Result, bail};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Build imdsmon and run its demonstration against a simulated IMDS.
///
/// The demonstration lives in a network namespace of its own: nothing is sent to a real IMDS.
/// It needs root, because it loads programs into the kernel.
#[derive(clap::Args)]
pub struct Args {
    /// Passed on to `imdsmon demo`; try `cargo xtask demo -- --help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Does not return when the demonstration starts: the process becomes imdsmon.
pub fn run(args: &Args) -> Result<()> {
    let root = workspace::root()?;
    step("build imdsmon", || {
        let mut build = process::cargo();
        build
            .current_dir(&root)
            .args(["build", "--package", "imdsmon"]);
        process::run(&mut build, process::BUILD)
    })?;
    let program = workspace::target(&root).join("debug/imdsmon");
    let mut words = vec!["demo"];
    words.extend(args.arguments.iter().map(String::as_str));
    if !debian::is_root() {
        bail!(
            "the demonstration loads programs into the kernel, which needs root; it is built:\n    \
             sudo {} {}",
            program.display(),
            words.join(" ")
        );
    }
    let error = Command::new(&program).args(words).exec();
    bail!("start {}: {error}", program.display())
}
