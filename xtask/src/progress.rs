//! What a person sees while a task runs: one line when a step begins, one when it has ended.

use anyhow::Result;
use std::env;
use std::io::{self, IsTerminal as _};
use std::time::Instant;

/// Runs `work` between a heading and a line with its seconds.
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

/// Says something within a step.
pub fn note(text: impl AsRef<str>) {
    for line in text.as_ref().lines() {
        eprintln!("    {line}");
    }
}

/// Green at a terminal.
pub fn green(text: &str) -> String {
    paint("32", text)
}

/// Red at a terminal.
pub fn red(text: &str) -> String {
    paint("31", text)
}

/// Yellow at a terminal.
pub fn yellow(text: &str) -> String {
    paint("33", text)
}

fn paint(colour: &str, text: &str) -> String {
    if io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
