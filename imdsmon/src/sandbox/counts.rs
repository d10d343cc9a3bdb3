//! What the simulated IMDS has seen: the oracle for tests and benchmarks.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Counts since the start of a sandbox, of everything sent to the IMDS addresses on port 80.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Connections accepted.
    pub connections: u64,
    /// Connections whose SYN carried data that was accepted (TCP Fast Open).
    pub fast_open: u64,
    /// Requests: the sum of `v1`, `v2` and `token_requests`.
    pub total: u64,
    /// Requests without a token header.
    pub v1: u64,
    /// Requests with a token header, whatever its value.
    pub v2: u64,
    /// Those of `v2` whose value is empty.
    pub v2_empty_token: u64,
    /// `PUT .../api/token`.
    pub token_requests: u64,
    /// Those of `token_requests` that were left without an answer.
    pub unanswered: u64,
    /// Bytes that were no HTTP request, once per connection. Not in `total`.
    pub malformed: u64,
    /// Answers by status, those to malformed requests too.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests to the listeners that are not IMDS: another port, another address. Not in any
    /// other count.
    pub elsewhere: u64,
}

/// Which listener a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listener {
    /// An IMDS address, port 80.
    Imds,
    /// Another port or another address.
    Elsewhere,
}

/// What a request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    V1,
    V2 { empty: bool },
    TokenRequest,
    Malformed,
}

/// Shared between the server's thread and the sandbox's owner.
#[derive(Debug, Default)]
pub(super) struct RequestCounter(Mutex<RequestCounts>);

impl RequestCounter {
    pub(super) fn snapshot(&self) -> RequestCounts {
        self.lock().clone()
    }

    pub(super) fn connection(&self, listener: Listener, fast_open: bool) {
        if listener == Listener::Imds {
            let mut seen = self.lock();
            seen.connections += 1;
            seen.fast_open += u64::from(fast_open);
        }
    }

    /// Counts one request; `status` is none if it stays unanswered.
    pub(super) fn request(&self, listener: Listener, kind: RequestKind, status: Option<u16>) {
        let mut seen = self.lock();
        if listener == Listener::Elsewhere {
            seen.elsewhere += 1;
            return;
        }
        match kind {
            RequestKind::V1 => seen.v1 += 1,
            RequestKind::V2 { empty } => {
                seen.v2 += 1;
                seen.v2_empty_token += u64::from(empty);
            }
            RequestKind::TokenRequest => seen.token_requests += 1,
            RequestKind::Malformed => seen.malformed += 1,
        }
        seen.total += u64::from(kind != RequestKind::Malformed);
        match status {
            Some(status) => *seen.by_status.entry(status).or_default() += 1,
            None => seen.unanswered += 1,
        }
    }

    /// The counts stay true if a holder panicked: each change is complete in itself.
    fn lock(&self) -> MutexGuard<'_, RequestCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
