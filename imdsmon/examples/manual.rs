//! Writes the man pages and the shell completions of the `imdsmon` command into a directory:
//! `cargo run -p imdsmon --example manual -- DIRECTORY`.
//!
//! An example, so that neither the command nor the tasks carry what only packages need.

use std::{env, io, path::Path};

use clap_complete::{Shell, generate_to};

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

fn main() -> io::Result<()> {
    let directory = env::args_os()
        .nth(1)
        .ok_or_else(|| io::Error::other("usage: manual DIRECTORY"))?;
    let directory = Path::new(&directory);
    clap_mangen::generate_to(imdsmon::command::cli(), directory)?;
    for shell in SHELLS {
        generate_to(shell, &mut imdsmon::command::cli(), "imdsmon", directory)?;
    }
    Ok(())
}
