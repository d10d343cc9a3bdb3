//! Everybody who is told what was counted: Prometheus, CloudWatch, a log of calls.
//!
//! None of them can keep the service from hearing: what cannot be written is said once in a while,
//! and tried again.

use std::{io, path::PathBuf, time::Instant};

use crate::{
    capture::source,
    config::{Config, value::Destination},
    event::UnixNanos,
    export::{
        emf::Emf,
        lines::{Lines, Rotation},
        log::CallLog,
        metrics::{Metrics, to_text_format},
        textfile,
    },
    ledger::{ClientStats, Coverage},
    monitor::Sink as _,
    pipeline::AttributedEvent,
    report::model::Instance,
    verdict::Assessment,
};

/// Where counts and calls go.
pub struct Exporters {
    metrics: Metrics,
    textfile: Option<PathBuf>,
    emf: Option<(Emf, Lines)>,
    log: Option<CallLog>,
    /// When it was last said that something cannot be written.
    said: Option<Instant>,
}

impl Exporters {
    /// Opens what the configuration asks for.
    pub fn open(config: &Config) -> Self {
        let mut exporters = Self {
            metrics: Metrics::default(),
            textfile: None,
            emf: None,
            log: None,
            said: None,
        };
        exporters.apply(config);
        exporters
    }

    /// Opens it again, as the configuration is now; the counts stay. A file that cannot be opened
    /// is said, and done without.
    pub fn apply(&mut self, config: &Config) {
        let rotation = Rotation {
            bytes: u64::from(config.log_max_mib.value.0) << 20,
            keep: config.log_keep.value.0,
        };
        self.textfile.clone_from(&config.metrics_textfile.value);
        self.log = opened(config.log_path.value.as_ref(), |path| {
            CallLog::open(path, rotation)
        });
        let counted = self.emf.take().map(|(emf, _)| emf);
        let lines = opened(config.emf_path.value.as_ref(), |path| {
            Lines::open(path, rotation)
        });
        self.emf = lines.map(|lines| {
            let namespace = config.emf_namespace.value.clone();
            let new = || Emf::new(namespace, Instance::local().id);
            (counted.unwrap_or_else(new), lines)
        });
    }

    /// A client's call, for the log of calls.
    pub fn found(&mut self, found: &AttributedEvent) {
        if let Some(log) = &mut self.log {
            // It never fails: what it cannot write, it counts.
            drop(log.found(found));
        }
    }

    /// There is nothing more for now.
    pub fn flush(&mut self) {
        if let Some(log) = &mut self.log {
            drop(log.flush());
        }
    }

    /// What was counted since the last time.
    pub fn count(&mut self, delta: &[ClientStats]) {
        self.metrics.count(delta);
        if let Some((emf, _)) = &mut self.emf {
            emf.count(delta);
        }
    }

    /// What was concluded, and how well it was watched.
    pub fn conclude(&mut self, assessment: &Assessment<'_>, coverage: &Coverage, stored: bool) {
        let clients = assessment.clients.iter();
        let verdicts = clients.map(|c| (&c.entry.client, c.judgement.verdict));
        self.metrics.conclude(assessment.verdict, verdicts);
        self.metrics.cover(coverage);
        self.metrics.store(stored);
    }

    /// The metrics as they are now, in `OpenMetrics` 1.0.
    pub fn page(&self) -> String {
        self.metrics.page()
    }

    /// Whether somebody waits to be told by [`Self::publish`].
    pub fn has_readers(&self) -> bool {
        self.textfile.is_some() || self.emf.is_some()
    }

    /// Writes the files for others.
    pub fn publish(&mut self) {
        let mut troubles = Vec::new();
        if let Some(path) = &self.textfile
            && let Err(error) = textfile::write(path, &to_text_format(&self.metrics.page()))
        {
            troubles.push((path.display().to_string(), error));
        }
        if let Some((emf, lines)) = &mut self.emf
            && !emf.is_empty()
        {
            let now: UnixNanos = source::now();
            match lines.write(emf.lines(now).as_bytes()) {
                Ok(()) => emf.clear(),
                Err(error) => troubles.push(("the metrics for CloudWatch".into(), error)),
            }
        }
        for (what, error) in troubles {
            self.complain(&what, &error);
        }
    }

    fn complain(&mut self, what: &str, error: &io::Error) {
        let now = Instant::now();
        if self.said.is_none_or(|said| now - said >= super::REST) {
            self.said = Some(now);
            tracing::error!("{what} cannot be written, and will be tried again: {error}");
        }
    }
}

fn opened<T>(
    path: Option<&Destination>,
    open: impl FnOnce(&Destination) -> io::Result<T>,
) -> Option<T> {
    let path = path?;
    match open(path) {
        Ok(open) => Some(open),
        Err(error) => {
            let name = match path {
                Destination::Stdout => "standard output".into(),
                Destination::File(path) => path.display().to_string(),
            };
            tracing::error!("{name} cannot be opened, and nothing is written to it: {error}");
            None
        }
    }
}
