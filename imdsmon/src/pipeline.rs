//! Turns events into attributed calls: joins `http`, `identity` and `knowledge`.
//!
//! Reads no clock and treats live and recorded events alike: a replay gives the same bytes.

use std::{collections::VecDeque, io::BufRead, rc::Rc};

use crate::{
    capture::recording::{RecordingError, RecordingReader},
    event::{CaptureTotals, Event},
    http::{
        Counters, Http, HttpLimits,
        call::{Call, HttpEvent, Unparsed},
    },
    identity::{Caller, CallerTable},
    knowledge::{Knowledge, Sdk},
    time::Timestamp,
};

/// A call, or bytes that are not HTTP, with the processes behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributedEvent {
    pub(crate) event: HttpEvent,
    pub(crate) caller: Caller,
    /// The SDK or tool that the User-Agent names.
    pub(crate) sdk: Option<Sdk>,
}

/// Turns events into attributed calls.
pub struct Pipeline {
    knowledge: Rc<Knowledge>,
    http: Http,
    callers: CallerTable,
    found: Vec<HttpEvent>,
    out: VecDeque<AttributedEvent>,
    window: Option<(Timestamp, Timestamp)>,
    totals: Option<CaptureTotals>,
}

impl Default for Pipeline {
    fn default() -> Self {
        Self::new(Rc::new(Knowledge::builtin()))
    }
}

impl Pipeline {
    pub fn new(knowledge: Rc<Knowledge>) -> Self {
        Self {
            knowledge,
            http: Http::new(HttpLimits::default()),
            callers: CallerTable::default(),
            found: Vec::new(),
            out: VecDeque::new(),
            window: None,
            totals: None,
        }
    }

    /// Takes one event. [`Self::take`] returns the calls that it completes.
    pub fn feed(&mut self, event: &Event) {
        let time = match event {
            Event::Task(task) => task.time,
            Event::Sent(sent) => sent.time,
            Event::Received(received) => received.time,
            Event::Closed { time, .. }
            | Event::Start { time }
            | Event::Tick { time }
            | Event::Lost { time, .. }
            | Event::End { time, .. } => *time,
        };
        let (start, end) = self.window.unwrap_or((time, time));
        self.window = Some((start.min(time), end.max(time)));
        if let Event::End { totals, .. } = event {
            self.totals = Some(*totals);
        }
        self.callers.feed(event);
        self.http.feed(event, &mut self.found);
        self.attribute();
        if let Event::Closed { connection, .. } = event {
            self.callers.forget(*connection);
        }
    }

    /// Ends the run: pending requests become calls without a response.
    pub fn finish(&mut self) {
        self.http.finish(&mut self.found);
        self.attribute();
    }

    /// The next complete call.
    pub fn take(&mut self) -> Option<AttributedEvent> {
        self.out.pop_front()
    }

    /// Feeds a whole recording and passes each attributed event to `found`, also those before an
    /// error. Returns the first error of the recording or of `found`.
    pub(crate) fn play<R: BufRead, E: From<RecordingError>>(
        &mut self,
        reader: &mut RecordingReader<R>,
        mut found: impl FnMut(&AttributedEvent) -> Result<(), E>,
    ) -> Result<(), E> {
        let result = loop {
            match reader.read() {
                Ok(Some(event)) => self.feed(&event),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
            while let Some(attributed) = self.take() {
                found(&attributed)?;
            }
        };
        self.finish();
        while let Some(attributed) = self.take() {
            found(&attributed)?;
        }
        result
    }

    /// When an [`Event::Tick`] is due if no event comes first; `None` if nothing is pending.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.http.next_deadline()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.http.counters()
    }

    /// Time of the first and of the last event.
    pub(crate) fn window(&self) -> Option<(Timestamp, Timestamp)> {
        self.window
    }

    /// Counters of the kernel programs; `None` before the end event.
    pub(crate) fn totals(&self) -> Option<CaptureTotals> {
        self.totals
    }

    fn attribute(&mut self) {
        for event in self.found.drain(..) {
            let (connection, task, user_agent) = match &event {
                HttpEvent::Call(call) => {
                    let Call {
                        connection,
                        task,
                        request,
                        ..
                    } = &**call;
                    (*connection, *task, request.user_agent.as_deref())
                }
                HttpEvent::Unparsed(Unparsed {
                    connection, task, ..
                }) => (*connection, *task, None),
            };
            let sdk = user_agent.and_then(|said| self.knowledge.sdk(said));
            let caller = self.callers.caller(connection, task);
            self.out.push_back(AttributedEvent { event, caller, sdk });
        }
    }
}
