//! `imdsmon replay`: the calls of a recording.

use std::{io::Write, path::PathBuf, process::ExitCode, rc::Rc};

use anyhow::Context as _;

use super::output::{Format, Output};
use crate::{
    host::Instance, knowledge::Knowledge, ledger::recording, monitor::Sink as _, pipeline::Pipeline,
};

/// Show the calls of a recording
///
/// Prints what `imdsmon watch` printed while it recorded. Needs no privileges and no kernel
/// support; the JSON output is the same, byte for byte, on every machine.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  imdsmon replay calls.imdsmon               all calls, then the report
  imdsmon replay calls.imdsmon --v1-only     IMDSv1 calls only")]
pub(crate) struct Args {
    /// Recording written by `imdsmon watch --record`
    file: PathBuf,

    #[command(flatten)]
    format: Format,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut reader = recording::open(&args.file)?;
    let knowledge = Rc::new(Knowledge::builtin());
    let instance = Instance::of(reader.host());
    let mut pipeline = Pipeline::new(Rc::clone(&knowledge));
    let mut output = Output::new(args.format, instance, knowledge)?;
    let name = || args.file.display().to_string();
    let played = pipeline.play(&mut reader, |attributed| {
        output.accept(attributed).map_err(anyhow::Error::from)
    });
    output.flush()?;
    played.with_context(name)?;
    if reader.is_truncated() {
        writeln!(
            anstream::stderr(),
            "imdsmon: note: the last line of {} is incomplete and was skipped: the recording \
             ended unexpectedly",
            name()
        )?;
    }
    output.finish(&pipeline)?;
    Ok(ExitCode::SUCCESS)
}
