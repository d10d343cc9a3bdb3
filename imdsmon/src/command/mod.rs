//! The command line: one file per subcommand, which connects the other modules and holds no logic.

mod args;
mod client;
mod clients;
mod config;
mod demo;
mod doctor;
mod generate;
mod output;
mod replay;
mod report;
mod run;
mod stop;
mod watch;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Find the programs on this EC2 instance that still use IMDSv1
///
/// An instance can require IMDSv2 (HttpTokens=required) once none of its programs depends on
/// IMDSv1. imdsmon captures calls to the instance metadata service (IMDS) with eBPF and
/// attributes each to a process, unit, container and user. It is passive: no packet is altered,
/// and nothing stays attached when it ends.
#[derive(Parser)]
#[command(name = "imdsmon", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit status:
  0  success; `doctor`: the self-test passed; `report`: READY
  1  an error, described on standard error, or wrong usage
  2  `report`: NOT READY
  3  `report`: INCONCLUSIVE

Environment:
  IMDSMON_LOG  what to log on standard error, for example `debug` or `imdsmon_ebpf=warn`
               (the kernel programs' own diagnostics) [default: warn]
  NO_COLOR     disable colours on a terminal";

#[derive(Subcommand)]
enum Command {
    Watch(watch::Args),
    Replay(replay::Args),
    Report(report::Args),
    Clients(clients::Args),
    Calls(clients::CallsArgs),
    Run(run::Args),
    Demo(demo::Args),
    Doctor(doctor::Args),
    Config(config::Args),
    Generate(generate::Args),
    #[command(hide = true)]
    SandboxClient(client::Args),
}

/// The command-line definition.
fn cli() -> clap::Command {
    Cli::command()
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    init_log(matches!(cli.command, Command::Run(_)));
    let result = match cli.command {
        Command::Watch(args) => watch::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Clients(args) => clients::run(&args),
        Command::Calls(args) => clients::run_calls(&args),
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::SandboxClient(args) => client::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a standard error, the exit status alone reports the failure.
            let _ = writeln!(anstream::stderr(), "imdsmon: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// Prints the requested help or version, or a usage error. Usage errors exit with 1 like any other
/// error, because clap's own status, 2, means NOT READY for `report`.
fn explain(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    if error.use_stderr() || printed.is_err_and(|e| e.kind() != io::ErrorKind::BrokenPipe) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Where the log filter is read from.
const LOG: &str = "IMDSMON_LOG";
/// The filter if nobody says otherwise. The kernel programs' diagnostics are compiled out by the
/// verifier as long as no filter lets them through.
const LOG_DEFAULT: &str = "warn,imdsmon_ebpf=off";
const LOG_DEFAULT_SERVICE: &str = "info,imdsmon_ebpf=off";

/// A service tells more of itself, and to the journal with all fields, if that listens.
fn init_log(is_service: bool) {
    let default = if is_service {
        LOG_DEFAULT_SERVICE
    } else {
        LOG_DEFAULT
    };
    let filter = std::env::var(LOG).unwrap_or_else(|_unset| default.into());
    let filter = EnvFilter::builder().parse_lossy(filter);
    let journal = is_service
        .then(journal)
        .flatten()
        .map(|journal| journal.with_field_prefix(Some("IMDSMON".into())));
    let text = journal.is_none().then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(false)
            .without_time()
            .with_target(false)
    });
    tracing_subscriber::registry()
        .with(filter)
        .with(journal)
        .with(text)
        .init();
}

/// The journal, if standard error leads there (systemd.exec(5), `$JOURNAL_STREAM`).
fn journal() -> Option<tracing_journald::Layer> {
    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    let stderr = rustix::fs::fstat(io::stderr()).ok()?;
    if stream != format!("{}:{}", stderr.st_dev, stderr.st_ino) {
        return None;
    }
    tracing_journald::layer().ok()
}

/// The error and its causes, each once: many errors quote their cause.
fn sentence(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .fold(String::new(), |text, cause| {
            match (text.is_empty(), text.contains(&cause)) {
                (true, _) => cause,
                (false, true) => text,
                (false, false) => format!("{text}: {cause}"),
            }
        })
}

/// The reader of the output stopped reading: a normal end.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Runs a future on a single-threaded runtime.
fn block_on<F: Future>(future: F) -> anyhow::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::cli().debug_assert();
    }
}
