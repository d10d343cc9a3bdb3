//! `imdsmon watch`: calls as they happen.

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
    enrich::sees_the_hosts_processes,
    knowledge::Knowledge,
    monitor::Monitor,
    report::model::Instance,
};

/// Show calls to the metadata service as they happen.
///
/// One line per call, when its answer begins or none can come any more. KIND is how the call was
/// made: `v1` without a token, `v2` with one, `token` asks for one, `?` is no HTTP request. The
/// line below says how the program was started (token values are blanked), in which cgroup, and
/// from which parent. Ends on Ctrl-C, after --duration, or when the reader of its output goes
/// away, with the report of `imdsmon report`. Needs root, or the capabilities `CAP_BPF`,
/// `CAP_NET_ADMIN` and `CAP_PERFMON` (and `CAP_SYS_PTRACE` to see other users' processes whole).
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  imdsmon watch                              all calls, until Ctrl-C
  imdsmon watch --v1-only --duration 10m     what would break, for ten minutes
  imdsmon watch --json | jq .                for a program
  imdsmon watch --record calls.imdsmon       keep it, to look at with `imdsmon replay`")]
pub struct Args {
    #[command(flatten)]
    format: Format,

    /// Stop after this long, for example 30s, 10m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,

    /// Also write everything to FILE, for `imdsmon replay`; token values are not in it
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Size of the kernel's buffer for events that were not read yet, for example 8M; larger
    /// loses less in a burst. It counts twice in the resident memory
    #[arg(long, value_name = "SIZE", default_value = "2M", value_parser = buffer)]
    buffer: u32,

    /// Do not read in the kernel who calls: look processes up in /proc only, as on a host
    /// without BTF. One that ends at once may then stay unnamed
    #[arg(long)]
    no_snapshot: bool,

    /// Where the host's root directory is mounted, if imdsmon runs in a container: names of
    /// users, containers and packages are read below it
    #[arg(long, value_name = "DIR", default_value = "/")]
    host_root: PathBuf,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    block_on(watch(args))?
}

async fn watch(args: &Args) -> anyhow::Result<ExitCode> {
    // Before anything is attached: a signal that comes now already ends the run as it should.
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
        monitor.record(file, instance.host()).with_context(cannot)?;
    }
    announce(monitor.live())?;
    let mut output = Output::new(args.format, instance, knowledge)?;
    monitor.run(stop, &mut output).await?;
    output.finish(monitor.pipeline())?;
    if let Some(error) = monitor.recording_error.take() {
        let name = name(args.record.as_deref());
        return Err(error).with_context(|| format!("the recording {name} is not complete"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what is watched, and from where.
fn announce(live: &EventSource) -> io::Result<()> {
    let mut err = anstream::stderr();
    let place = live
        .root()
        .path
        .as_deref()
        .map_or("a private mount".into(), Path::to_string_lossy);
    writeln!(
        err,
        "imdsmon {}: watching calls to IMDS (169.254.169.254, fd00:ec2::254, port 80) of all \
         processes. Ctrl-C ends.",
        env!("CARGO_PKG_VERSION"),
    )?;
    writeln!(err, "Attached {} to {place}.", live.hooks().join(", "))?;
    if !sees_the_hosts_processes() {
        writeln!(
            err,
            "imdsmon: note: /proc does not show the host's processes, so that paths and parents may be \
             missing; in a container, use the host's pid namespace (`--pid=host`, `hostPID: true`)"
        )?;
    }
    if let Snapshot::Off(why) = live.snapshot() {
        writeln!(
            err,
            "imdsmon: note: processes are looked up in /proc only, so one that ends at once may stay \
             unnamed ({why})"
        )?;
    }
    Ok(())
}

/// A recording says who called what: it is its owner's alone, and never replaces a file.
fn create(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("it exists, and is not overwritten; choose another name")
        }
        _ => error.into(),
    })
}

fn name(path: Option<&Path>) -> String {
    path.unwrap_or(Path::new("-")).display().to_string()
}
