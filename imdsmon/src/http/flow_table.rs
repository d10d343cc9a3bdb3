//! All connections, bounded in number and buffered bytes. Deadlines are sorted: the next one is
//! found without a scan.

use std::collections::BTreeSet;

use lru::LruCache;

use crate::event::ConnectionId;
use crate::http::HttpLimits;
use crate::http::flow::Flow;
use crate::time::Timestamp;

#[derive(Debug)]
struct Entry {
    flow: Flow,
    /// The flow's share of `deadlines` and `bytes`.
    deadline: Option<Timestamp>,
    footprint: usize,
}

/// State kept of a dropped connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past {
    /// Sequence number of the next byte.
    pub(crate) next: u32,
    pub(crate) unreadable: bool,
}

#[derive(Debug)]
pub(super) struct FlowTable {
    flows: LruCache<ConnectionId, Entry>,
    deadlines: BTreeSet<(Timestamp, ConnectionId)>,
    bytes: usize,
    /// Dropped connections. The kernel may retransmit after the program has closed its socket,
    /// which is not a second request.
    past: LruCache<ConnectionId, Past>,
}

impl FlowTable {
    pub(super) fn new() -> Self {
        Self {
            flows: LruCache::unbounded(),
            deadlines: BTreeSet::new(),
            bytes: 0,
            past: LruCache::unbounded(),
        }
    }

    pub(super) fn peek(&self, connection: ConnectionId) -> Option<&Flow> {
        self.flows.peek(&connection).map(|entry| &entry.flow)
    }

    /// Applies `change` to a flow, which becomes the most recently used; `None` if there is none.
    pub(super) fn with<R>(
        &mut self,
        connection: ConnectionId,
        limits: &HttpLimits,
        change: impl FnOnce(&mut Flow) -> R,
    ) -> Option<R> {
        let entry = self.flows.get_mut(&connection)?;
        let result = change(&mut entry.flow);
        let deadline = entry.flow.deadline(limits);
        if deadline != entry.deadline {
            if let Some(old) = entry.deadline {
                self.deadlines.remove(&(old, connection));
            }
            if let Some(new) = deadline {
                self.deadlines.insert((new, connection));
            }
            entry.deadline = deadline;
        }
        let footprint = entry.flow.footprint();
        self.bytes = self.bytes - entry.footprint + footprint;
        entry.footprint = footprint;
        Some(result)
    }

    /// Adds a flow that buffers nothing yet.
    pub(super) fn insert(&mut self, connection: ConnectionId, flow: Flow) {
        self.past.pop(&connection);
        self.remove(connection);
        let entry = Entry {
            flow,
            deadline: None,
            footprint: 0,
        };
        self.flows.put(connection, entry);
    }

    /// Removes a flow and keeps its [`Past`].
    pub(super) fn retire(&mut self, connection: ConnectionId, limits: &HttpLimits) -> Option<Flow> {
        let flow = self.remove(connection)?;
        let past = Past {
            next: flow.next(),
            unreadable: flow.is_unreadable(),
        };
        self.past.put(connection, past);
        if self.past.len() > limits.flows {
            self.past.pop_lru();
        }
        Some(flow)
    }

    pub(super) fn past(&mut self, connection: ConnectionId) -> Option<Past> {
        self.past.get(&connection).copied()
    }

    pub(super) fn first_deadline(&self) -> Option<(Timestamp, ConnectionId)> {
        self.deadlines.first().copied()
    }

    /// The least recently used flow.
    pub(super) fn oldest(&self) -> Option<(ConnectionId, &Flow)> {
        self.flows.peek_lru().map(|(&c, entry)| (c, &entry.flow))
    }

    pub(super) fn is_over(&self, limits: &HttpLimits) -> bool {
        self.flows.len() > limits.flows || self.bytes > limits.total_bytes
    }

    /// In the order of their numbers.
    pub(super) fn connections(&self) -> Vec<ConnectionId> {
        let mut connections: Vec<_> = self.flows.iter().map(|(&c, _)| c).collect();
        connections.sort_unstable();
        connections
    }

    pub(super) fn forget_past(&mut self) {
        self.past.clear();
    }

    fn remove(&mut self, connection: ConnectionId) -> Option<Flow> {
        let Entry {
            flow,
            deadline,
            footprint,
        } = self.flows.pop(&connection)?;
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, connection));
        }
        self.bytes -= footprint;
        Some(flow)
    }

    /// Asserts that the sums match the flows.
    #[cfg(test)]
    pub(super) fn check(&self, limits: &HttpLimits) {
        let entries = || self.flows.iter().map(|(_, entry)| entry);
        assert_eq!(
            self.bytes,
            entries().map(|e| e.flow.footprint()).sum::<usize>()
        );
        assert!(entries().all(|e| e.deadline == e.flow.deadline(limits)));
        assert_eq!(
            self.deadlines.len(),
            entries().filter(|e| e.deadline.is_some()).count()
        );
        assert!(!self.is_over(limits));
        assert!(self.past.len() <= limits.flows);
    }
}
