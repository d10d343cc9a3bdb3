//! `imdsmon generate`: man pages and shell completions from the command-line definition.
//!
//! Packages ship the output; users of the plain binary can generate it. Hidden commands are left
//! out: `clap_mangen` omits them, `clap_complete` does not.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Command, Subcommand, ValueEnum};
use clap_complete::aot::{Bash, Fish, Generator, Zsh};
use clap_mangen::Man;
use roff::{Roff, roman};

const NAME: &str = env!("CARGO_PKG_NAME");

/// Generate man pages and shell completions
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  imdsmon generate man report | man -l -                read one page
  imdsmon generate man --dir /usr/local/share/man/man1  install all pages
  imdsmon generate completion bash > /etc/bash_completion.d/imdsmon
  imdsmon generate completion fish > ~/.config/fish/completions/imdsmon.fish
  imdsmon generate completion zsh > /usr/local/share/zsh/site-functions/_imdsmon")]
pub(crate) struct Args {
    #[command(subcommand)]
    output: Output,
}

#[derive(Subcommand)]
enum Output {
    /// Print one man page, or write all of them
    Man {
        /// Command to describe, for example `config show` [default: imdsmon itself]
        command: Vec<String>,

        /// Write the pages of all commands to DIR, which must exist
        #[arg(long, value_name = "DIR", conflicts_with = "command")]
        dir: Option<PathBuf>,
    },
    /// Print the completion script of a shell
    Completion { shell: Shell },
}

#[derive(Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Fish,
    Zsh,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let text = match &args.output {
        Output::Man { dir: Some(dir), .. } => {
            write_pages(&buildable(), dir)?;
            Vec::new()
        }
        Output::Man { command, .. } => page(find(&buildable(), command)?)?,
        Output::Completion { shell } => completion(*shell),
    };
    let mut out = anstream::AutoStream::never(std::io::stdout());
    out.write_all(&text)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The command line as `clap_mangen` needs it: names of pages set, no `help` command.
fn buildable() -> Command {
    let mut cli = super::cli().disable_help_subcommand(true);
    cli.build();
    cli
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
}

fn find<'c>(cli: &'c Command, path: &[String]) -> anyhow::Result<&'c Command> {
    path.iter().try_fold(cli, |command, name| {
        visible(command)
            .find(|command| command.get_name() == name)
            .with_context(|| {
                let parent = command.get_bin_name().unwrap_or(NAME);
                format!("unknown command `{name}`; list the commands with `{parent} --help`")
            })
    })
}

fn write_pages(command: &Command, dir: &Path) -> anyhow::Result<()> {
    for subcommand in visible(command) {
        write_pages(subcommand, dir)?;
    }
    let path = dir.join(Man::new(command.clone()).get_filename());
    fs::write(&path, page(command)?).with_context(|| format!("cannot write {}", path.display()))
}

/// A man page in roff, with the sections of `--help` under their conventional headings.
fn page(command: &Command) -> anyhow::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .source(format!("{NAME} {}", env!("CARGO_PKG_VERSION")))
        .manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if visible(command).next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(text) = command.get_after_help() {
        sections(&text.to_string()).to_writer(&mut page)?;
    }
    Ok(page)
}

/// Sections of the text below the options in `--help`: `Exit status:` starts EXIT STATUS. Lines
/// are not filled, because they form tables.
fn sections(text: &str) -> Roff {
    let mut roff = Roff::new();
    for line in text.lines() {
        match line.strip_suffix(':') {
            Some(heading) if !line.starts_with(' ') => {
                roff.control("fi", []);
                roff.control("SH", [heading.to_uppercase().as_str()]);
                roff.control("nf", []);
            }
            _ => {
                roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
            }
        }
    }
    roff.control("fi", []);
    roff
}

fn completion(shell: Shell) -> Vec<u8> {
    let cli = super::cli();
    let mut cli = Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .args(cli.get_arguments())
        .subcommands(visible(&cli));
    match shell {
        Shell::Bash => script(Bash, &mut cli),
        Shell::Fish => script(Fish, &mut cli),
        Shell::Zsh => script(Zsh, &mut cli),
    }
}

fn script(shell: impl Generator, cli: &mut Command) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, cli, NAME, &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn completions_offer_exactly_the_visible_commands() {
        let cli = crate::command::cli();
        for &shell in Shell::value_variants() {
            let script = text(completion(shell));
            for command in cli.get_subcommands() {
                let name = command.get_name();
                assert_eq!(script.contains(name), !command.is_hide_set(), "{name}");
            }
        }
    }

    #[test]
    fn every_visible_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        write_pages(&buildable(), dir.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert!(
            names.contains(&"imdsmon-config-show.1".to_owned()),
            "{names:?}"
        );
        let cli = crate::command::cli();
        for command in cli.get_subcommands() {
            let name = format!("imdsmon-{}.1", command.get_name());
            assert_eq!(names.contains(&name), !command.is_hide_set(), "{name}");
        }
    }

    #[test]
    fn page_has_the_sections_of_the_help() {
        let page = text(page(&buildable()).unwrap());
        let title = format!(".TH imdsmon 1  \"imdsmon {}\"", env!("CARGO_PKG_VERSION"));
        assert!(page.contains(&title), "{page}");
        for heading in [
            "NAME",
            "SYNOPSIS",
            "OPTIONS",
            "\"EXIT STATUS\"",
            "ENVIRONMENT",
        ] {
            assert!(
                page.contains(&format!("\n.SH {heading}\n")),
                "{heading}: {page}"
            );
        }
        assert!(!page.contains("sandbox"), "{page}");
    }

    #[test]
    fn hidden_or_unknown_command_is_an_error() {
        let cli = buildable();
        let path = |words: &[&str]| {
            words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>()
        };
        assert!(find(&cli, &path(&["config", "show"])).is_ok());
        assert!(find(&cli, &path(&["sandbox-client"])).is_err());
        let error = find(&cli, &path(&["config", "nothing"])).unwrap_err();
        let expected = "unknown command `nothing`; list the commands with `imdsmon config --help`";
        assert_eq!(error.to_string(), expected);
    }
}
