//! Takes the captured calls: counts all but imdsmon's own.

use std::io;

use super::{notify::ClientNotifier, shared::Shared};
use crate::{
    capture::source::EventSource,
    monitor::Sink,
    pipeline::{AttributedEvent, Pipeline},
    selftest::{canary::Canary, doctor_filter::DoctorFilter},
};

pub(crate) struct CaptureSink<'s> {
    shared: &'s Shared,
    canary: Option<&'s Canary>,
    doctor: DoctorFilter,
    notifier: ClientNotifier,
}

impl<'s> CaptureSink<'s> {
    pub(crate) fn new(shared: &'s Shared, canary: Option<&'s Canary>) -> Self {
        Self {
            shared,
            canary,
            doctor: DoctorFilter::default(),
            notifier: ClientNotifier::default(),
        }
    }
}

impl Sink for CaptureSink<'_> {
    fn accept(&mut self, attributed: &AttributedEvent) -> io::Result<()> {
        let is_canary = self.canary.is_some_and(|canary| canary.observe(attributed));
        if !is_canary && !self.doctor.matches(attributed) {
            let client = self.shared.state.borrow_mut().add(attributed);
            self.notifier.observe(attributed, &client);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.shared.state.borrow_mut().exporters.flush();
        Ok(())
    }

    fn progress(&mut self, source: &EventSource, pipeline: &Pipeline) {
        let mut state = self.shared.state.borrow_mut();
        state.update_coverage(source.totals(), pipeline.counters());
        drop(state);
        self.shared.changed();
    }
}
