//! `imdsmon config`: the settings of the service, shown or validated.

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::args::knowledge;
use crate::{
    config::{Config, Shown, ValueOrigin},
    text::escape::escaped,
};

/// Show or validate the configuration of the service
///
/// Settings are read from the configuration file, environment variables (`store.dir` is
/// `IMDSMON_STORE_DIR`) and flags of `imdsmon run`, in increasing precedence.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,

    /// Read FILE instead of /etc/imdsmon/imdsmon.toml; FILE must exist
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Validate the configuration; exit status 1 if it has errors
    Check,
    /// Print each setting and its origin
    Show {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.config.as_deref(), env::vars_os(), &[])?;
    let mut err = anstream::stderr();
    for note in &config.notes {
        writeln!(err, "imdsmon: note: {note}")?;
    }
    let mut out = anstream::stdout();
    match args.command {
        Command::Check => {
            knowledge(&config.knowledge.value)?;
            writeln!(out, "The configuration is valid.")?;
        }
        Command::Show { json: true } => write_json(&mut out, &config.show())?,
        Command::Show { json: false } => write_text(&mut out, &config.show())?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn write_text(out: &mut impl Write, values: &[Shown<'_>]) -> io::Result<()> {
    for Shown {
        key, value, origin, ..
    } in values
    {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Array(list) if list.is_empty() => "none".into(),
            Value::Array(list) => {
                let texts = list.iter().filter_map(Value::as_str);
                texts.collect::<Vec<_>>().join(", ")
            }
            value => value.to_string(),
        };
        let origin = origin.to_string();
        writeln!(
            out,
            "{key:<20}  {:<34}  {}",
            escaped(&text, 4096),
            escaped(&origin, 4096)
        )?;
    }
    Ok(())
}

fn write_json(out: &mut impl Write, values: &[Shown<'_>]) -> io::Result<()> {
    let mut object = Map::new();
    for Shown {
        key,
        about,
        value,
        origin,
    } in values
    {
        let kind = match origin {
            ValueOrigin::Default => "default",
            ValueOrigin::File { .. } => "file",
            ValueOrigin::Environment(_) => "environment",
            ValueOrigin::Flag(_) => "flag",
        };
        let source = (kind != "default").then(|| origin.to_string());
        let fields = json!({"value": value, "origin": kind, "source": source, "about": about});
        object.insert((*key).to_owned(), fields);
    }
    serde_json::to_writer_pretty(&mut *out, &object)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_shown_with_its_origin() {
        let mut config = Config::default();
        config.store_dir.value = "/a/\u{1b}[31mb".into();
        config.store_dir.origin = ValueOrigin::Environment("IMDSMON_STORE_DIR".into());
        let mut text = Vec::new();
        write_text(&mut text, &config.show()).unwrap();
        let text = String::from_utf8(text).unwrap();
        let first = text.lines().next().unwrap();
        let words: Vec<&str> = first.split_whitespace().collect();
        assert_eq!(words, ["store.dir", "/a/\\u{1b}[31mb", "IMDSMON_STORE_DIR"]);
        let mut text = Vec::new();
        write_json(&mut text, &config.show()).unwrap();
        let value: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["store.dir"]["value"], "/a/\u{1b}[31mb");
        assert_eq!(value["store.dir"]["source"], "IMDSMON_STORE_DIR");
        assert_eq!(value["store.max_mib"]["value"], 256);
        assert_eq!(value["store.max_mib"]["origin"], "default");
        assert_eq!(value["store.max_mib"]["source"], Value::Null);
    }
}
