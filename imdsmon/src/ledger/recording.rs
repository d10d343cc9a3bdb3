//! Counts recordings into the same clients and coverage as the live monitor.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    rc::Rc,
};

use anyhow::{Context as _, bail};

use super::{ClientStats, Coverage, Ledger, coverage::Span};
use crate::{
    capture::recording::{RecordingError, RecordingReader},
    host::RecordedHost,
    knowledge::Knowledge,
    pipeline::Pipeline,
};

/// What one or more recordings of one instance hold.
pub(crate) struct Recorded {
    pub(crate) clients: Vec<ClientStats>,
    pub(crate) coverage: Coverage,
    pub(crate) host: RecordedHost,
}

/// Counts recordings, in any order. A damaged one counts up to the damage, which `note` reports.
///
/// # Errors
///
/// A file that cannot be read or is no recording; recordings of different instances; recordings
/// of overlapping times, whose calls would count twice.
pub(crate) fn count(
    files: &[PathBuf],
    knowledge: &Rc<Knowledge>,
    note: &mut dyn FnMut(String),
) -> anyhow::Result<Recorded> {
    let mut ledger = Ledger::new(Rc::clone(knowledge));
    let mut spans: Vec<(Span, &Path)> = Vec::new();
    let mut host = RecordedHost::default();
    for file in files {
        let (span, recorded) = count_one(file, &mut ledger, knowledge, note)?;
        spans.extend(span.map(|span| (span, file.as_path())));
        match (&host.instance, &recorded.instance) {
            (Some(one), Some(other)) if one != other => bail!(
                "the recordings are from different instances, {one} and {other}; create one report \
                 per instance"
            ),
            (Some(_), _) => {}
            (None, _) => host = recorded,
        }
    }
    spans.sort_by_key(|(span, _)| span.from);
    if let Some([(_, one), (_, other)]) = spans
        .windows(2)
        .find(|pair| matches!(pair, [(earlier, _), (later, _)] if later.from < earlier.to))
    {
        bail!(
            "{} and {} overlap in time, and their calls would count twice; leave one out",
            one.display(),
            other.display()
        );
    }
    for (span, _) in spans {
        ledger.coverage.add(span);
    }
    let coverage = std::mem::take(&mut ledger.coverage);
    Ok(Recorded {
        clients: ledger.take(),
        coverage,
        host,
    })
}

fn count_one(
    file: &Path,
    ledger: &mut Ledger,
    knowledge: &Rc<Knowledge>,
    note: &mut dyn FnMut(String),
) -> anyhow::Result<(Option<Span>, RecordedHost)> {
    let name = || file.display().to_string();
    let mut reader = open(file)?;
    let mut pipeline = Pipeline::new(Rc::clone(knowledge));
    let before = ledger.overflow();
    let played = pipeline.play(&mut reader, |found| {
        ledger.add(found);
        Ok::<_, RecordingError>(())
    });
    match played {
        Err(error @ RecordingError::Damaged { .. }) => {
            note(format!(
                "{}: {error}; only events before the damage are counted",
                name()
            ));
        }
        played => played.with_context(name)?,
    }
    let overflow = ledger.overflow().since(&before);
    let span = |(from, to)| {
        let mut span = Span::new(from, to, pipeline.totals().as_ref(), &pipeline.counters());
        span.add_overflow(overflow);
        span
    };
    Ok((pipeline.window().map(span), reader.host().clone()))
}

/// Opens a recording and reads its header.
pub(crate) fn open(file: &Path) -> anyhow::Result<RecordingReader<BufReader<File>>> {
    let name = || format!("cannot read recording {}", file.display());
    let input = File::open(file).with_context(name)?;
    RecordingReader::new(BufReader::new(input)).with_context(name)
}
