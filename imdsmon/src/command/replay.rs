//! `imdsmon replay`: a recording, as `watch` would have shown it.

use std::{
    fs::File,
    io::{BufReader, Write},
    path::PathBuf,
    process::ExitCode,
    rc::Rc,
};

use anyhow::Context as _;

use super::output::{Format, Output};
use crate::{
    capture::recording::Reader, knowledge::Knowledge, monitor::Sink as _, pipeline::Pipeline,
    report::model::Instance,
};

/// Show a recording as `watch` showed it.
///
/// Needs no root and no kernel support, and gives the same JSON, byte for byte, on any machine.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  imdsmon replay calls.imdsmon               as `watch` showed it
  imdsmon replay calls.imdsmon --v1-only     only calls without a token")]
pub struct Args {
    /// What `imdsmon watch --record` wrote
    file: PathBuf,

    #[command(flatten)]
    format: Format,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let name = || args.file.display().to_string();
    let file = File::open(&args.file).with_context(|| format!("cannot open {}", name()))?;
    let mut reader = Reader::new(BufReader::new(file)).with_context(name)?;
    let knowledge = Rc::new(Knowledge::builtin());
    let instance = Instance::of(reader.host());
    let mut pipeline = Pipeline::new(Rc::clone(&knowledge));
    let mut output = Output::new(args.format, instance, knowledge)?;
    while let Some(event) = reader.read().with_context(name)? {
        pipeline.feed(&event);
        while let Some(found) = pipeline.take() {
            output.found(&found)?;
        }
    }
    pipeline.finish();
    while let Some(found) = pipeline.take() {
        output.found(&found)?;
    }
    output.flush()?;
    if reader.is_truncated() {
        writeln!(
            anstream::stderr(),
            "imdsmon: note: the last line of {} is cut off",
            name()
        )?;
    }
    output.finish(&pipeline)?;
    Ok(ExitCode::SUCCESS)
}
