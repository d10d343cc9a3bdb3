//! The configured exporters: Prometheus metrics, CloudWatch lines, the call log.
//!
//! None of them can stop the service: a failure is logged, at intervals, and retried.

use std::{fmt::Display, io, path::PathBuf, time::Instant};

use super::notify::WARN_INTERVAL;
use crate::{
    config::Config,
    export::{
        Destination,
        emf::Emf,
        lines::Lines,
        log::CallLog,
        metrics::{Metrics, to_text_format},
        textfile,
    },
    host::Instance,
    ledger::{ClientStats, Coverage},
    pipeline::AttributedEvent,
    text::io_error::reason,
    time::Timestamp,
    verdict::Assessment,
};

pub(crate) struct Exporters {
    metrics: Metrics,
    textfile: Option<PathBuf>,
    emf: Option<(Emf, Lines)>,
    call_log: Option<CallLog>,
    /// When a failure was last logged.
    warned: Option<Instant>,
}

impl Exporters {
    pub(crate) fn open(config: &Config) -> Self {
        let mut exporters = Self {
            metrics: Metrics::new(),
            textfile: None,
            emf: None,
            call_log: None,
            warned: None,
        };
        exporters.reconfigure(config);
        exporters
    }

    /// Reopens all files and keeps the counts. A file that cannot be opened is logged and left out.
    pub(crate) fn reconfigure(&mut self, config: &Config) {
        let rotation = config.rotation();
        self.textfile.clone_from(&config.metrics_textfile.value);
        self.call_log = open(config.log_path.value.as_ref(), |path| {
            CallLog::open(path, rotation)
        });
        let counted = self.emf.take().map(|(emf, _)| emf);
        let lines = open(config.emf_path.value.as_ref(), |path| {
            Lines::open(path, rotation)
        });
        self.emf = lines.map(|lines| {
            let namespace = config.emf_namespace.value.clone();
            let new = || Emf::new(namespace, Instance::local().id);
            (counted.unwrap_or_else(new), lines)
        });
    }

    pub(crate) fn log_call(&mut self, attributed: &AttributedEvent) {
        if let Some(log) = &mut self.call_log {
            log.add(attributed);
        }
    }

    pub(crate) fn flush(&mut self) {
        if let Some(log) = &mut self.call_log {
            log.flush();
        }
    }

    pub(crate) fn count(&mut self, delta: &[ClientStats]) {
        self.metrics.count(delta);
        if let Some((emf, _)) = &mut self.emf {
            emf.count(delta);
        }
    }

    pub(crate) fn set_assessment(
        &mut self,
        assessment: &Assessment<'_>,
        coverage: &Coverage,
        is_store_ok: bool,
    ) {
        let clients = assessment.clients.iter();
        let verdicts = clients.map(|c| (&c.stats.client, c.judgement.verdict));
        self.metrics.set_verdicts(assessment.verdict, verdicts);
        self.metrics.set_coverage(coverage);
        self.metrics.set_store_success(is_store_ok);
    }

    /// The metrics in `OpenMetrics` 1.0.
    pub(crate) fn metrics_page(&self) -> String {
        self.metrics.page()
    }

    pub(crate) fn has_files(&self) -> bool {
        self.textfile.is_some() || self.emf.is_some()
    }

    pub(crate) fn write_files(&mut self) {
        if let Some(path) = &self.textfile {
            let written = textfile::write(path, &to_text_format(&self.metrics.page()));
            warn_on_failure(&mut self.warned, path.display(), written);
        }
        if let Some((emf, lines)) = &mut self.emf
            && !emf.is_empty()
        {
            let written = lines.write(emf.lines(Timestamp::now()).as_bytes());
            if written.is_ok() {
                emf.clear();
            }
            warn_on_failure(&mut self.warned, "the metrics for CloudWatch", written);
        }
    }
}

fn warn_on_failure(warned: &mut Option<Instant>, what: impl Display, written: io::Result<()>) {
    let now = Instant::now();
    if let Err(error) = written
        && warned.is_none_or(|last| now - last >= WARN_INTERVAL)
    {
        *warned = Some(now);
        tracing::error!("cannot write {what}, retrying: {}", reason(&error));
    }
}

fn open<T>(
    destination: Option<&Destination>,
    open: impl FnOnce(&Destination) -> io::Result<T>,
) -> Option<T> {
    let destination = destination?;
    match open(destination) {
        Ok(open) => Some(open),
        Err(error) => {
            tracing::error!(
                "cannot open {destination}, not writing to it: {}",
                reason(&error)
            );
            None
        }
    }
}
