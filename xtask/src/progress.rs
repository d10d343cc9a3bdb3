//! Progress on standard error: a line when a step starts and one when it ends.

use anyhow::Result;
use std::env;
use std::io::{self, IsTerminal as _};
use std::time::Instant;

/// Runs `work` below a heading and prints its duration.
pub fn step<T>(title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("==> {title}");
    let start = Instant::now();
    let outcome = work();
    let seconds = start.elapsed().as_secs_f64();
    match &outcome {
        Ok(_) => eprintln!("    {} in {seconds:.1} s", green("done")),
        Err(_) => eprintln!("    {} after {seconds:.1} s", red("failed")),
    }
    outcome
}

/// Prints indented lines within a step.
pub fn note(text: impl AsRef<str>) {
    for line in text.as_ref().lines() {
        eprintln!("    {line}");
    }
}

/// Prints that `what` was skipped, in the form that `.ci/run` collects.
pub fn skipped(what: &str, reason: &str) {
    note(format!("{}: {what}: {reason}", yellow("SKIPPED")));
}

/// Green on a terminal.
pub fn green(text: &str) -> String {
    paint("32", text)
}

/// Red on a terminal.
pub fn red(text: &str) -> String {
    paint("31", text)
}

/// Yellow on a terminal.
pub fn yellow(text: &str) -> String {
    paint("33", text)
}

fn paint(color: &str, text: &str) -> String {
    if io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{color}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
