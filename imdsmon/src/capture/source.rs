//! The live source of events: the kernel programs and their ring buffer.

use std::{
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
use imdsmon_common::Counter;
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    capture::{
        attach,
        attach::{Attached, Options, Snapshot},
        cgroup::Root,
        connections::Connections,
        error::AttachError,
        record::Record,
        socket_owners,
    },
    event::{CaptureTotals, Event},
    time::{Clocks, Timestamp},
};

/// Interval between reads of the ring buffer in a burst, one wake-up each. After a quiet period,
/// the first record is read immediately, while its process still exists.
const WAKEUP_INTERVAL: Duration = Duration::from_millis(1);
/// Immediate reads saved in a quiet period, one per [`WAKEUP_INTERVAL`].
const MAX_SAVED_WAKEUPS: f64 = 64.0;

/// Records per read, which bounds memory under a flood.
const MAX_BATCH: usize = 1024;

/// Dropping it detaches the programs.
pub(crate) struct EventSource {
    ring: AsyncFd<RingBuf<MapData>>,
    attached: Attached,
    connections: Connections,
    root: Rc<Root>,
    limiter: WakeupLimiter,
    clock: Clock,
    lost: u64,
    unknown: u64,
}

/// A token bucket that distinguishes a burst from a quiet period.
struct WakeupLimiter {
    saved: f64,
    last: Instant,
}

impl EventSource {
    /// Attaches the programs at the cgroup v2 root. Must run inside a tokio runtime.
    pub(crate) fn start(options: Options) -> Result<Self, AttachError> {
        let root = Rc::new(Root::find()?);
        let (attached, ring) = attach::attach(&root, options)?;
        // SAFETY: the ring buffer owns its descriptor, keeps it open until dropped and always
        // returns the same one.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        Ok(Self {
            ring: ring.map_err(|error| error.into_parts().1)?,
            attached,
            connections: Connections::new(),
            root,
            limiter: WakeupLimiter {
                saved: MAX_SAVED_WAKEUPS,
                last: Instant::now(),
            },
            clock: Clock::new(),
            lost: 0,
            unknown: 0,
        })
    }

    /// Reports the owners of connections that were open before [`Self::start`].
    pub(crate) fn find_socket_owners(&mut self, sink: &mut dyn FnMut(Event)) {
        let now = Timestamp::now();
        for owner in socket_owners::find() {
            self.connections.socket_owner(&owner, now, sink);
        }
    }

    /// Waits for a record without polling. Cancel-safe.
    pub(crate) async fn ready(&mut self) -> io::Result<()> {
        if self.limiter.is_burst() {
            tokio::time::sleep(WAKEUP_INTERVAL).await;
        }
        self.ring.readable_mut().await?.clear_ready();
        Ok(())
    }

    /// Reads up to [`MAX_BATCH`] records and returns whether more may follow.
    pub(crate) fn drain(&mut self, sink: &mut dyn FnMut(Event)) -> bool {
        self.clock.refresh();
        let clock = self.clock;
        let mut read = 0;
        while read < MAX_BATCH {
            let Some(item) = self.ring.get_mut().next() else {
                break;
            };
            read += 1;
            match Record::parse(&item) {
                Some(record) => self
                    .connections
                    .record(record, |boot| clock.unix(boot), sink),
                None => self.unknown += 1,
            }
        }
        let lost = self.attached.counter(Counter::Dropped);
        if lost > self.lost {
            sink(Event::Lost {
                time: Timestamp::now(),
                records: lost - self.lost,
            });
            self.lost = lost;
        }
        for cookie in self.connections.take_evicted() {
            self.attached.forget_owner(cookie);
        }
        self.attached.flush_logs();
        read == MAX_BATCH
    }

    /// Detaches the programs. Earlier records can still be read.
    pub(crate) fn detach(&mut self) {
        self.attached.detach();
    }

    pub(crate) fn totals(&self) -> CaptureTotals {
        CaptureTotals {
            segments: self.attached.counter(Counter::Segments),
            captured: self.attached.counter(Counter::Captured),
            lost: self.attached.counter(Counter::Dropped),
            truncated: self.attached.counter(Counter::Truncated),
            unknown: self.unknown,
        }
    }

    pub(crate) fn hooks(&self) -> &[&'static str] {
        &self.attached.hooks
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.attached.snapshot
    }

    pub(crate) fn root(&self) -> &Rc<Root> {
        &self.root
    }
}

impl WakeupLimiter {
    fn is_burst(&mut self) -> bool {
        let now = Instant::now();
        let quiet = (now - self.last).as_secs_f64() / WAKEUP_INTERVAL.as_secs_f64();
        self.last = now;
        self.saved = (self.saved + quiet - 1.0).clamp(-1.0, MAX_SAVED_WAKEUPS);
        self.saved < 0.0
    }
}

/// Turns boot time into Unix time.
#[derive(Clone, Copy)]
struct Clock {
    booted: Timestamp,
}

impl Clock {
    /// Two readings of a clock differ by less, a clock change by more.
    const JITTER: Duration = Duration::from_millis(1);

    fn new() -> Self {
        Self {
            booted: Clocks::read().booted(),
        }
    }

    /// Adopts a change of the wall clock. Smaller differences are ignored: intervals stay exact.
    fn refresh(&mut self) {
        let booted = Clocks::read().booted();
        if booted.abs_diff(self.booted) > Self::JITTER {
            self.booted = booted;
        }
    }

    fn unix(self, boot: u64) -> Timestamp {
        self.booted + Duration::from_nanos(boot)
    }
}
