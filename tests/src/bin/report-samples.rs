//! `cargo run -p tests --bin report-samples`: the report of a busy instance in every format.

use std::{fs, io, path::PathBuf};

use clap::{Parser, ValueEnum};
use tests::report::FORMATS;

/// Writes report.txt, .json, .md, .html and .csv of a synthetic instance.
#[derive(Parser)]
struct Args {
    /// Output directory
    #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/samples"))]
    directory: PathBuf,

    /// Kind of instance
    #[arg(long, value_enum, default_value_t = Which::Busy)]
    of: Which,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    Busy,
    Quiet,
    Unwatched,
    Crowded,
    Hostile,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let report = match args.of {
        Which::Busy => tests::report::busy(),
        Which::Quiet => tests::report::quiet(),
        Which::Unwatched => tests::report::unwatched(),
        Which::Crowded => tests::report::overflowed(1000),
        Which::Hostile => tests::report::hostile(),
    };
    fs::create_dir_all(&args.directory)?;
    for (extension, write) in FORMATS {
        let path = args.directory.join("report").with_extension(extension);
        fs::write(path, write(&report))?;
    }
    Ok(())
}
