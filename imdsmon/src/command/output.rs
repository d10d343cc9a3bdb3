//! Output of calls, as lines of text or JSON, and the report at the end.

use std::{
    io::{self, BufWriter, Write},
    rc::Rc,
    time::Duration,
};

use anstream::AutoStream;

use crate::{
    http::call::{Auth, HttpEvent},
    knowledge::Knowledge,
    ledger::{Coverage, Ledger, coverage::Span},
    monitor::Sink,
    output,
    pipeline::{AttributedEvent, Pipeline},
    report::{
        build::ReportInput,
        model::{Instance, Report},
        text,
    },
    time::Timestamp,
    verdict::{self, Policy},
};

/// Required observation period; `imdsmon report --min-window` overrides it.
const MIN_WINDOW: Duration = Duration::from_secs(24 * 3600);

#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Format {
    /// Print one JSON object per line, and the report on standard error
    #[arg(long)]
    pub(crate) json: bool,

    /// Print only IMDSv1 calls; the report still counts all calls
    #[arg(long)]
    pub(crate) v1_only: bool,
}

/// Standard output, and the counts for the report.
pub(crate) struct Output {
    format: Format,
    instance: Instance,
    out: BufWriter<Box<dyn Write>>,
    knowledge: Rc<Knowledge>,
    ledger: Ledger,
}

impl Output {
    /// In text form, prints the column names.
    pub(crate) fn new(
        format: Format,
        instance: Instance,
        knowledge: Rc<Knowledge>,
    ) -> io::Result<Self> {
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
            instance,
            out,
            ledger: Ledger::new(Rc::clone(&knowledge)),
            knowledge,
        };
        if !format.json {
            output::text::heading(&mut output.out)?;
            output.out.flush()?;
        }
        Ok(output)
    }

    /// Prints the report: after the lines, or on standard error with `--json`.
    pub(crate) fn finish(mut self, pipeline: &Pipeline) -> io::Result<()> {
        self.out.flush()?;
        let report = self.report(pipeline);
        if self.format.json {
            return text::write(&mut anstream::stderr(), &report, text::width());
        }
        writeln!(self.out)?;
        text::write(&mut self.out, &report, text::width())?;
        self.out.flush()
    }

    fn report(&self, pipeline: &Pipeline) -> Report {
        let mut coverage = Coverage::default();
        let window = pipeline.window();
        if let Some((from, to)) = window {
            let totals = pipeline.totals();
            let mut span = Span::new(from, to, totals.as_ref(), &pipeline.counters());
            span.add_overflow(self.ledger.overflow());
            coverage.add(span);
        }
        let policy = Policy {
            min_window: MIN_WINDOW,
            now: None,
        };
        let entries = self.ledger.entries();
        Report::new(ReportInput {
            instance: self.instance.clone(),
            coverage: &coverage,
            assessment: verdict::assess(entries, &coverage, &self.knowledge, &policy),
            min_window: MIN_WINDOW,
            cloudwatch: None,
            // Not the wall clock: a replay gives the same bytes.
            now: window.map_or(Timestamp::default(), |(_, to)| to),
        })
    }

    fn wants(&self, attributed: &AttributedEvent) -> bool {
        !self.format.v1_only
            || matches!(&attributed.event, HttpEvent::Call(call) if call.request.auth == Auth::V1)
    }
}

impl Sink for Output {
    fn accept(&mut self, attributed: &AttributedEvent) -> io::Result<()> {
        self.ledger.add(attributed);
        if !self.wants(attributed) {
            return Ok(());
        }
        if self.format.json {
            output::json::line(&mut self.out, attributed)
        } else {
            output::text::line(&mut self.out, attributed)
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
