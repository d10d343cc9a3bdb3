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

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use tracing::Level;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{config::ConfigError, knowledge::KnowledgeError, text::io_error::reason};

/// Find the clients on this EC2 instance that still make IMDSv1 calls
///
/// An instance can require IMDSv2 (HttpTokens=required) once none of its programs depends on
/// IMDSv1. imdsmon captures calls to the instance metadata service (IMDS) with eBPF and
/// attributes each to a process, unit, container and user. It is passive: no packet is altered,
/// and nothing stays attached when it ends.
#[derive(Parser)]
#[command(name = "imdsmon", version, max_term_width = 80, after_help = AFTER_HELP)]
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
  78 `run`: wrong usage or invalid configuration

Environment:
  IMDSMON_LOG  what to log to standard error: levels and targets such as
               `debug`, `info,imdsmon=debug` or `imdsmon_ebpf=warn` (log of the
               BPF programs)
               [default: warn; for `run`: info]
  NO_COLOR     disable colors on a terminal";

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

fn cli() -> clap::Command {
    Cli::command()
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    let is_service = matches!(cli.command, Command::Run(_));
    if let Err(error) = init_log(is_service) {
        return fail(&error, usage_status(is_service));
    }
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
        Err(error) => fail(&error, usage_status(is_service && is_configuration(&error))),
    }
}

fn fail(error: &anyhow::Error, status: ExitCode) -> ExitCode {
    // Without standard error, the exit status alone reports the failure.
    let _ = writeln!(anstream::stderr(), "imdsmon: {}", sentence(error));
    status
}

/// `EX_CONFIG` of sysexits.h for the service, whose unit does not restart it then. Otherwise 1 like
/// any other error: clap's own status, 2, means NOT READY for `report`.
fn usage_status(is_service: bool) -> ExitCode {
    if is_service {
        ExitCode::from(78)
    } else {
        ExitCode::FAILURE
    }
}

/// Whether the configuration, or a file of the knowledge base that it names, is invalid.
fn is_configuration(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.is::<ConfigError>() || cause.is::<KnowledgeError>())
}

/// Prints the requested help or version, or a usage error.
fn explain(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    if error.use_stderr() || printed.is_err_and(|e| e.kind() != io::ErrorKind::BrokenPipe) {
        usage_status(
            std::env::args_os()
                .nth(1)
                .is_some_and(|command| command == "run"),
        )
    } else {
        ExitCode::SUCCESS
    }
}

/// The environment variable with the log filter.
const LOG: &str = "IMDSMON_LOG";

/// Reads comma-separated `LEVEL` and `TARGET=LEVEL`. By default, a service logs more. The verifier
/// removes the log of the BPF programs unless a filter admits its target.
fn log_filter(text: Option<&str>, is_service: bool) -> anyhow::Result<Targets> {
    let Some(text) = text else {
        let level = if is_service { Level::INFO } else { Level::WARN };
        return Ok(Targets::new()
            .with_default(level)
            .with_target("imdsmon_ebpf", LevelFilter::OFF));
    };
    // `Targets` reads an unknown level as a target: `verbose` would log nothing.
    let is_known = |word: &str| {
        word.contains('=') || word.starts_with("imdsmon") || word.parse::<LevelFilter>().is_ok()
    };
    text.split(',')
        .all(is_known)
        .then(|| text.parse().ok())
        .flatten()
        .with_context(|| {
            format!(
                "{LOG}={text} is not a log filter; set a level and optional targets, for \
                     example {LOG}=warn or {LOG}=info,imdsmon=debug (levels: off, error, warn, \
                     info, debug, trace)"
            )
        })
}

/// A service logs to the journal with all fields if standard error is connected to it.
fn init_log(is_service: bool) -> anyhow::Result<()> {
    let text = std::env::var_os(LOG).map(|text| text.to_string_lossy().into_owned());
    let filter = log_filter(text.as_deref(), is_service)?;
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
    Ok(())
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
    error.chain().fold(String::new(), |text, cause| {
        let quoted = cause.to_string();
        let cause = cause.downcast_ref().map_or(quoted.clone(), reason);
        match (
            text.is_empty(),
            text.contains(&quoted) || text.contains(&cause),
        ) {
            (true, _) => cause,
            (false, true) => text,
            (false, false) => format!("{text}: {cause}"),
        }
    })
}

/// The reader of the output stopped: a normal end.
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
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        cli().debug_assert();
    }

    /// clap wraps its own lines; a table that it has to wrap loses its columns.
    #[test]
    fn help_fits_80_columns() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            let about = command.get_about().map(ToString::to_string);
            // 12 columns precede a summary in the list of commands.
            assert!(about.unwrap_or_default().len() <= 68, "{name}");
            let below = command.get_after_help().map(ToString::to_string);
            for line in below.unwrap_or_default().lines() {
                assert!(line.len() <= 80, "{name}: {line}");
            }
            command.get_subcommands().for_each(check);
        }
        let mut cli = cli();
        check(&cli);
        for line in cli.render_long_help().to_string().lines() {
            assert!(line.len() <= 80, "{line}");
        }
    }

    #[test]
    fn log_filter_admits_levels_and_targets() {
        let admits = |text, target, level| {
            log_filter(text, false)
                .unwrap()
                .would_enable(target, &level)
        };
        for (text, target, level, expected) in [
            (None, "imdsmon::store", Level::WARN, true),
            (None, "imdsmon::store", Level::INFO, false),
            (None, "imdsmon_ebpf", Level::WARN, false),
            (Some("debug"), "aya", Level::DEBUG, true),
            (Some("debug"), "imdsmon_ebpf", Level::DEBUG, true),
            (
                Some("imdsmon=debug,aya=trace"),
                "imdsmon::http",
                Level::DEBUG,
                true,
            ),
            (
                Some("imdsmon=debug,aya=trace"),
                "aya::maps",
                Level::TRACE,
                true,
            ),
            (
                Some("imdsmon=debug,aya=trace"),
                "tokio",
                Level::ERROR,
                false,
            ),
            (
                Some("warn,imdsmon::store=info"),
                "imdsmon::store",
                Level::INFO,
                true,
            ),
            (Some("imdsmon"), "imdsmon::http", Level::TRACE, true),
            (Some("off"), "imdsmon", Level::ERROR, false),
        ] {
            assert_eq!(admits(text, target, level), expected, "{text:?} {target}");
        }
        assert!(
            log_filter(None, true)
                .unwrap()
                .would_enable("imdsmon", &Level::INFO)
        );
    }

    #[test]
    fn wrong_log_filter_is_rejected_with_an_example() {
        for text in [
            "verbose",
            "imdsmon=loud",
            "a=b=c",
            "warn,verbose",
            "imdsmon[x]=debug=info",
        ] {
            let error = log_filter(Some(text), false).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("IMDSMON_LOG={text} is not")),
                "{error}"
            );
            assert!(error.contains("IMDSMON_LOG=warn"), "{error}");
        }
    }
}
