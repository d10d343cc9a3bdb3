//! Requests counted by the simulated IMDS: the oracle of the tests and benchmarks.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Counts since the simulator started, of everything sent to the IMDS addresses on port 80.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    pub connections: u64,
    /// Connections whose SYN carried accepted data (TCP Fast Open).
    pub fast_open: u64,
    /// The sum of `v1`, `v2` and `token_requests`.
    pub total: u64,
    /// Requests without a token header.
    pub v1: u64,
    /// Requests with a token header, whatever its value.
    pub v2: u64,
    /// Those of `v2` whose token header is empty.
    pub v2_empty_token: u64,
    /// `PUT .../api/token`.
    pub token_requests: u64,
    /// Those of `token_requests` without a response.
    pub unanswered: u64,
    /// Connections that sent something other than HTTP requests. Not in `total`.
    pub malformed: u64,
    /// Responses by status, including those to malformed requests.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests to the listeners that are not IMDS. Not in any other count.
    pub elsewhere: u64,
}

/// The listener of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listener {
    /// An IMDS address, port 80.
    Imds,
    /// Another port or another address.
    Elsewhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    V1,
    V2 { empty_token: bool },
    TokenRequest,
    Malformed,
}

/// Shared between the server's thread and the owner of the simulator.
#[derive(Debug, Default)]
pub(super) struct RequestCounter(Mutex<RequestCounts>);

impl RequestCounter {
    pub(super) fn snapshot(&self) -> RequestCounts {
        self.lock().clone()
    }

    pub(super) fn connection(&self, listener: Listener, fast_open: bool) {
        if listener == Listener::Imds {
            let mut counts = self.lock();
            counts.connections += 1;
            counts.fast_open += u64::from(fast_open);
        }
    }

    /// Counts one request; `status` is none without a response.
    pub(super) fn request(&self, listener: Listener, kind: RequestKind, status: Option<u16>) {
        let mut counts = self.lock();
        if listener == Listener::Elsewhere {
            counts.elsewhere += 1;
            return;
        }
        match kind {
            RequestKind::V1 => counts.v1 += 1,
            RequestKind::V2 { empty_token } => {
                counts.v2 += 1;
                counts.v2_empty_token += u64::from(empty_token);
            }
            RequestKind::TokenRequest => counts.token_requests += 1,
            RequestKind::Malformed => counts.malformed += 1,
        }
        counts.total += u64::from(kind != RequestKind::Malformed);
        match status {
            Some(status) => *counts.by_status.entry(status).or_default() += 1,
            None => counts.unanswered += 1,
        }
    }

    /// The counts are consistent even if a holder panicked: a panic cannot split an update.
    fn lock(&self) -> MutexGuard<'_, RequestCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
