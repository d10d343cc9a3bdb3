//! A live run: events from the kernel pass the enricher, the recorder and the pipeline, until it
//! is stopped.

use std::{
    fs::File,
    future::Future,
    io::{self, BufWriter},
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    capture::{AttachError, Options, recording::Writer, source::EventSource},
    enrich::Enricher,
    event::Event,
    host::RecordedHost,
    knowledge::Knowledge,
    pipeline::{AttributedEvent, Pipeline},
    time::Timestamp,
};

/// Between two warnings of dropped records.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

pub(crate) type Recorder = Writer<BufWriter<File>>;

pub(crate) struct Monitor {
    source: EventSource,
    enricher: Enricher,
    pipeline: Pipeline,
    recorder: Option<Recorder>,
    events: Vec<Event>,
    next_warning: Option<Instant>,
    /// Why the recording stopped before its end.
    pub(crate) recording_error: Option<io::Error>,
}

/// Receives attributed events. An error ends the run.
pub(crate) trait Sink {
    fn accept(&mut self, attributed: &AttributedEvent) -> io::Result<()>;

    /// No event waits: buffered output should be written.
    fn flush(&mut self) -> io::Result<()>;

    /// Called after each batch of kernel events, also if no call was complete.
    fn progress(&mut self, _source: &EventSource, _pipeline: &Pipeline) {}
}

impl Monitor {
    /// Attaches to the kernel; calls are captured from here on. Must be called inside a tokio
    /// runtime. `host` is where the host's root directory is mounted.
    pub(crate) fn start(
        options: Options,
        host: &Path,
        knowledge: Rc<Knowledge>,
    ) -> Result<Self, AttachError> {
        let mut source = EventSource::start(options)?;
        let mut enricher = Enricher::new(Rc::clone(source.root()), host);
        let mut events = vec![Event::Start {
            time: Timestamp::now(),
        }];
        // Before any event is read: the owner of a connection may end soon.
        source.find_socket_owners(&mut |event| events.push(enricher.complete(event)));
        Ok(Self {
            source,
            enricher,
            pipeline: Pipeline::new(knowledge),
            recorder: None,
            events,
            next_warning: None,
            recording_error: None,
        })
    }

    /// Records all events to `file`; `host` goes into its first line.
    pub(crate) fn record(&mut self, file: File, host: RecordedHost) -> io::Result<()> {
        let mut recorder = Writer::new(BufWriter::new(file), Timestamp::now(), host)?;
        recorder.flush()?;
        self.recorder = Some(recorder);
        Ok(())
    }

    /// Passes attributed events to `sink` until `stop` completes, then the remaining ones.
    ///
    /// Without IMDS traffic this sleeps without waking up.
    pub(crate) async fn run(
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
                ready = wait(&mut self.source, more) => ready?,
                () = until(deadline) => self.events.push(Event::Tick { time: Timestamp::now() }),
            }
            more = self.read();
            self.process(sink)?;
        }
        // Events from before the stop are in the ring buffer; detached programs add no more.
        self.source.detach();
        while self.read() {
            self.process(sink)?;
        }
        self.events.push(Event::End {
            time: Timestamp::now(),
            totals: self.source.totals(),
        });
        self.process(sink)?;
        self.pipeline.finish();
        self.hand_over(sink)
    }

    pub(crate) fn source(&self) -> &EventSource {
        &self.source
    }

    pub(crate) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// Reads a batch of events and enriches each immediately: its process may end soon.
    /// Returns whether there may be more.
    fn read(&mut self) -> bool {
        let Self {
            source,
            enricher,
            events,
            ..
        } = self;
        source.drain(&mut |event| events.push(enricher.complete(event)))
    }

    fn process(&mut self, sink: &mut impl Sink) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            if let Event::Lost { .. } = event {
                self.warn_of_drops();
            }
            self.record_event(&event);
            self.pipeline.feed(&event);
        }
        self.events = events;
        self.flush_recording();
        self.hand_over(sink)
    }

    /// Warns while records are dropped, not only at the end of the run.
    fn warn_of_drops(&mut self) {
        let now = Instant::now();
        if self.next_warning.is_none_or(|next| now >= next) {
            self.next_warning = Some(now + WARN_INTERVAL);
            let lost = self.source.totals().lost;
            tracing::warn!(
                "{lost} records dropped so far, calls may be missing; use a larger ring buffer"
            );
        }
    }

    fn hand_over(&mut self, sink: &mut impl Sink) -> io::Result<()> {
        let mut any = false;
        while let Some(attributed) = self.pipeline.take() {
            sink.accept(&attributed)?;
            any = true;
        }
        sink.progress(&self.source, &self.pipeline);
        if any { sink.flush() } else { Ok(()) }
    }

    fn record_event(&mut self, event: &Event) {
        if let Some(Err(error)) = self.recorder.as_mut().map(|r| r.write(event)) {
            self.stop_recording(error);
        }
    }

    fn flush_recording(&mut self) {
        if let Some(Err(error)) = self.recorder.as_mut().map(Recorder::flush) {
            self.stop_recording(error);
        }
    }

    /// Capture continues without the recording: a full disk must not stop it.
    fn stop_recording(&mut self, error: io::Error) {
        tracing::error!(%error, "cannot write the recording; capture continues without it");
        self.recorder = None;
        self.recording_error = Some(error);
    }
}

async fn wait(source: &mut EventSource, more: bool) -> io::Result<()> {
    if more {
        // Under load, signals and timers must get their turn too.
        tokio::task::yield_now().await;
        return Ok(());
    }
    source.ready().await
}

/// Waits until a point in Unix time; forever if there is none.
async fn until(deadline: Option<Timestamp>) {
    match deadline {
        Some(deadline) => {
            let rest = deadline.since(Timestamp::now());
            // One millisecond more: the deadline must have passed when it is compared.
            tokio::time::sleep(rest + Duration::from_millis(1)).await;
        }
        None => std::future::pending().await,
    }
}
