//! `imdsmon watch`: IMDS calls, live.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use anyhow::Context as _;

use super::{
    block_on,
    output::{Format, Output},
    stop::stop,
};
use crate::{
    capture::{Options, Snapshot, source::EventSource},
    config::value::{buffer, duration},
    enrich::in_host_pid_namespace,
    host::Instance,
    knowledge::Knowledge,
    monitor::Monitor,
};

/// Show IMDS calls as they happen
///
/// Prints one line per call when its response starts or its connection ends. KIND is `v1` for an
/// IMDSv1 call, `v2` for an IMDSv2 call, `token` for a token request and `?` for bytes that are
/// not HTTP. A second line shows the arguments (token values are masked), cgroup and parent of
/// the process. Stops on Ctrl-C, after --duration or when standard output is closed, then prints
/// the report. Requires root, or `CAP_BPF`, `CAP_NET_ADMIN` and `CAP_PERFMON` (and
/// `CAP_SYS_PTRACE` for the executables of other users).
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  imdsmon watch                              all calls, until Ctrl-C
  imdsmon watch --v1-only --duration 10m     IMDSv1 calls, for ten minutes
  imdsmon watch --json | jq .                for a script
  imdsmon watch --record calls.imdsmon       for `replay` and `report --from`")]
pub(crate) struct Args {
    #[command(flatten)]
    format: Format,

    /// Stop after this long, for example 30s, 10m or 1h30m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    duration: Option<Duration>,

    /// Also record to FILE, for `imdsmon replay`; token values are not recorded
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Size of the ring buffer, for example 8M. A larger buffer drops fewer records under load;
    /// it is mapped twice and counts twice toward RSS
    #[arg(long, value_name = "SIZE", default_value = "2M", value_parser = buffer)]
    buffer: u32,

    /// Identify processes through /proc only, as on a kernel without BTF. Short-lived processes
    /// may show up as unknown
    #[arg(long)]
    no_snapshot: bool,

    /// Mount point of the host's root directory, in a container: users, containers and packages
    /// are looked up below it
    #[arg(long, value_name = "DIR", default_value = "/")]
    host_root: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    block_on(watch(args))?
}

async fn watch(args: &Args) -> anyhow::Result<ExitCode> {
    // Before attaching: a signal that arrives now already ends the run cleanly.
    let stop = stop(args.duration)?;
    let cannot = || format!("cannot record to {}", name(args.record.as_deref()));
    let file = args
        .record
        .as_deref()
        .map(create)
        .transpose()
        .with_context(cannot)?;
    let options = Options {
        ring_bytes: args.buffer,
        snapshot: !args.no_snapshot,
    };
    let knowledge = Rc::new(Knowledge::builtin());
    let mut monitor = Monitor::start(options, &args.host_root, Rc::clone(&knowledge))?;
    let instance = Instance::local();
    if let Some(file) = file {
        monitor
            .record(file, instance.to_recorded())
            .with_context(cannot)?;
    }
    announce(monitor.source())?;
    let mut output = Output::new(args.format, instance, knowledge)?;
    monitor.run(stop, &mut output).await?;
    output.finish(monitor.pipeline())?;
    if let Some(error) = monitor.recording_error.take() {
        let name = name(args.record.as_deref());
        return Err(error).with_context(|| format!("the recording {name} is incomplete"));
    }
    Ok(ExitCode::SUCCESS)
}

fn announce(live: &EventSource) -> io::Result<()> {
    let mut err = anstream::stderr();
    let place = live
        .root()
        .path
        .as_deref()
        .map_or("a private mount".into(), Path::to_string_lossy);
    writeln!(
        err,
        "imdsmon {}: capturing IMDS calls (169.254.169.254, fd00:ec2::254, port 80) of all \
         processes. Press Ctrl-C to stop.",
        env!("CARGO_PKG_VERSION"),
    )?;
    writeln!(err, "Attached {} to {place}.", live.hooks().join(", "))?;
    if !in_host_pid_namespace() {
        writeln!(
            err,
            "imdsmon: note: /proc does not show the host's processes; executables and parents may be \
             missing. In a container, use the host's PID namespace (`--pid=host`, `hostPID: true`)"
        )?;
    }
    if let Snapshot::Off(why) = live.snapshot() {
        writeln!(
            err,
            "imdsmon: note: identifying processes through /proc only; short-lived processes may show \
             up as unknown ({why})"
        )?;
    }
    Ok(())
}

/// A recording names users and programs: only its owner may read it, and no file is replaced.
fn create(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("the file exists; choose another name")
        }
        _ => error.into(),
    })
}

fn name(path: Option<&Path>) -> String {
    path.unwrap_or(Path::new("-")).display().to_string()
}
