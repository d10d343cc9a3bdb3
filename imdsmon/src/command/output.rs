//! Where findings go: lines for people or for machines, and a summary at the end.

use std::io::{self, BufWriter, Write};

use anstream::AutoStream;

use crate::{
    export::json,
    http::call::{Finding, Version},
    monitor::Sink,
    pipeline::{Attributed, Pipeline},
    report::{line, summary::Summary},
};

/// What the findings look like.
#[derive(clap::Args, Clone, Copy)]
pub struct Format {
    /// Print one JSON object per line on standard output, and all else on standard error
    #[arg(long)]
    pub json: bool,

    /// Print only calls without a token header; the summary still counts all
    #[arg(long)]
    pub v1_only: bool,
}

/// Standard output, and the counts for the summary.
pub struct Output {
    format: Format,
    out: BufWriter<Box<dyn Write>>,
    summary: Summary,
}

impl Output {
    /// Begins; in text form with the names of the columns.
    pub fn new(format: Format) -> io::Result<Self> {
        let stdout = io::stdout().lock();
        let out: Box<dyn Write> = if format.json {
            Box::new(stdout)
        } else {
            let choice = AutoStream::choice(&stdout);
            Box::new(AutoStream::new(stdout, choice))
        };
        let out = BufWriter::new(out);
        let mut output = Self {
            format,
            out,
            summary: Summary::default(),
        };
        if !format.json {
            line::heading(&mut output.out)?;
            output.out.flush()?;
        }
        Ok(output)
    }

    /// Ends with the summary: after the lines for a person, beside them for a machine.
    pub fn finish(mut self, pipeline: &Pipeline) -> io::Result<()> {
        if self.format.json {
            self.out.flush()?;
            return self.summary.write(&mut anstream::stderr(), pipeline);
        }
        self.summary.write(&mut self.out, pipeline)?;
        self.out.flush()
    }

    fn wants(&self, found: &Attributed) -> bool {
        !self.format.v1_only
            || matches!(&found.finding, Finding::Call(call) if call.version == Version::V1)
    }
}

impl Sink for Output {
    fn found(&mut self, found: &Attributed) -> io::Result<()> {
        self.summary.add(found);
        if !self.wants(found) {
            return Ok(());
        }
        if self.format.json {
            json::line(&mut self.out, found)
        } else {
            line::line(&mut self.out, found)
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
