//! A live run: the kernel's events through the witness, the recorder and the pipeline, until
//! somebody says stop.

use std::{
    fs::File,
    future::Future,
    io::{self, BufWriter},
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    capture::{
        AttachError, Options,
        recording::{RecordedHost, Writer},
        source,
        source::EventSource,
    },
    enrich::Enricher,
    event::Event,
    knowledge::Knowledge,
    pipeline::{AttributedEvent, Pipeline},
};

/// Time between two warnings of lost records.
const WARNING: Duration = Duration::from_secs(10);

/// A recording on its way to disk.
pub type Recorder = Writer<BufWriter<File>>;

/// A live run.
pub struct Monitor {
    live: EventSource,
    witness: Enricher,
    pipeline: Pipeline,
    recorder: Option<Recorder>,
    events: Vec<Event>,
    next_warning: Option<Instant>,
    /// Why the recording stopped before its end.
    pub recording_error: Option<io::Error>,
}

/// Receives findings. An error ends the run.
pub trait Sink {
    /// Takes one finding.
    fn found(&mut self, found: &AttributedEvent) -> io::Result<()>;

    /// There is nothing more for now: what was written should be seen.
    fn flush(&mut self) -> io::Result<()>;

    /// Events came, with findings or without; `live` and `pipeline` tell how the run goes.
    fn progress(&mut self, _live: &EventSource, _pipeline: &Pipeline) {}
}

impl Monitor {
    /// Attaches to the kernel. From here on, calls are seen. Must run inside a tokio runtime.
    ///
    /// `host` is where the host's root directory is mounted: there are its files, such as the
    /// state of container runtimes.
    pub fn start(
        options: Options,
        host: &Path,
        knowledge: Rc<Knowledge>,
    ) -> Result<Self, AttachError> {
        let mut live = EventSource::start(options)?;
        let mut witness = Enricher::new(Rc::clone(live.root()), host);
        let mut events = vec![Event::Start {
            time: source::now(),
        }];
        // Now, and not when the first event is read: who holds a connection may soon be gone.
        live.find_holders(&mut |event| events.push(witness.complete(event)));
        Ok(Self {
            live,
            witness,
            pipeline: Pipeline::new(knowledge),
            recorder: None,
            events,
            next_warning: None,
            recording_error: None,
        })
    }

    /// Writes all events of the run to `file`, as of `host`.
    pub fn record(&mut self, file: File, host: RecordedHost) -> io::Result<()> {
        let mut recorder = Writer::new(BufWriter::new(file), source::now(), host)?;
        recorder.flush()?;
        self.recorder = Some(recorder);
        Ok(())
    }

    /// Hands findings to `sink` until `stop` is done, then what still waits.
    ///
    /// While there is no traffic to IMDS this sleeps without waking up.
    pub async fn run(
        &mut self,
        stop: impl Future<Output = ()>,
        sink: &mut impl Sink,
    ) -> io::Result<()> {
        tokio::pin!(stop);
        self.process(sink)?;
        let mut more = true;
        loop {
            let deadline = self.pipeline.next_deadline();
            tokio::select! {
                biased;
                () = &mut stop => break,
                ready = wait(&mut self.live, more) => ready?,
                () = until(deadline) => self.events.push(Event::Tick { time: source::now() }),
            }
            more = self.read();
            self.process(sink)?;
        }
        // What happened before the stop is in the ring already, and nothing comes after.
        self.live.detach();
        while self.read() {
            self.process(sink)?;
        }
        self.events.push(Event::End {
            time: source::now(),
            totals: self.live.totals(),
        });
        self.process(sink)?;
        self.pipeline.finish();
        self.hand_over(sink)
    }

    /// The source of the events.
    pub fn live(&self) -> &EventSource {
        &self.live
    }

    /// What was found, for the summary.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Reads a batch of events, each completed at once: its process may soon be gone. Says
    /// whether there may be more.
    fn read(&mut self) -> bool {
        let Self {
            live,
            witness,
            events,
            ..
        } = self;
        live.drain(&mut |event| events.push(witness.complete(event)))
    }

    fn process(&mut self, sink: &mut impl Sink) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            if let Event::Lost { .. } = event {
                self.warn_of_loss();
            }
            self.write_down(&event);
            self.pipeline.feed(&event);
        }
        self.events = events;
        self.flush_recording();
        self.hand_over(sink)
    }

    /// Says that calls may be missing while it happens, not only at the end; once in a while.
    fn warn_of_loss(&mut self) {
        let now = Instant::now();
        if self.next_warning.is_none_or(|next| now >= next) {
            self.next_warning = Some(now + WARNING);
            let lost = self.live.totals().lost;
            tracing::warn!(
                "{lost} records lost so far: calls may be missing; a larger --buffer helps"
            );
        }
    }

    fn hand_over(&mut self, sink: &mut impl Sink) -> io::Result<()> {
        let mut any = false;
        while let Some(found) = self.pipeline.take() {
            sink.found(&found)?;
            any = true;
        }
        sink.progress(&self.live, &self.pipeline);
        if any { sink.flush() } else { Ok(()) }
    }

    fn write_down(&mut self, event: &Event) {
        if let Some(Err(error)) = self.recorder.as_mut().map(|r| r.write(event)) {
            self.give_up_recording(error);
        }
    }

    fn flush_recording(&mut self) {
        if let Some(Err(error)) = self.recorder.as_mut().map(Recorder::flush) {
            self.give_up_recording(error);
        }
    }

    /// Watching goes on without the recording: a full disk must not blind the monitor.
    fn give_up_recording(&mut self, error: io::Error) {
        tracing::error!(%error, "the recording stops here; watching goes on");
        self.recorder = None;
        self.recording_error = Some(error);
    }
}

async fn wait(live: &mut EventSource, more: bool) -> io::Result<()> {
    if more {
        // Signals and timers get their turn in a flood, too.
        tokio::task::yield_now().await;
        return Ok(());
    }
    live.ready().await
}

/// Waits until a point in Unix time; for ever if there is none.
async fn until(deadline: Option<i64>) {
    match deadline {
        Some(deadline) => {
            let nanos = deadline
                .saturating_sub(source::now())
                .max(0)
                .cast_unsigned();
            // A millisecond on top, so that the deadline is over when it is looked at.
            tokio::time::sleep(Duration::from_nanos(nanos) + Duration::from_millis(1)).await;
        }
        None => std::future::pending().await,
    }
}
