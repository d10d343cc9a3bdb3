//! A live run: kernel events pass the enricher, the recorder and the pipeline.

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

    /// No event is pending: buffered output should be written.
    fn flush(&mut self) -> io::Result<()>;

    /// Called after each batch of kernel events, even without a complete call.
    fn progress(&mut self, _source: &EventSource, _pipeline: &Pipeline) {}
}

impl Monitor {
    /// Attaches to the kernel and starts capture. Must be called inside a tokio runtime. `host` is
    /// the mount point of the host's root directory.
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

    /// Passes attributed events to `sink` until `stop` completes, then the remaining ones. Without
    /// IMDS traffic, nothing wakes up.
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
        // The ring buffer has events from before the stop; detached programs add no more.
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

    /// Reads a batch of events and enriches each immediately: its process may end soon. Returns
    /// whether more may follow.
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

    /// Warns during the run, not only at its end.
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

    /// A full disk must not stop capture.
    fn stop_recording(&mut self, error: io::Error) {
        tracing::error!(%error, "cannot write the recording; capture continues without it");
        self.recorder = None;
        self.recording_error = Some(error);
    }
}

async fn wait(source: &mut EventSource, more: bool) -> io::Result<()> {
    if more {
        // Under load, signals and timers must run, too.
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
            // One extra millisecond: the deadline must have passed when it is compared.
            tokio::time::sleep(rest + Duration::from_millis(1)).await;
        }
        None => std::future::pending().await,
    }
}
