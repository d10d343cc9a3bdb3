//! What the simulated IMDS has seen: the oracle for tests and benchmarks.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Counts since the start of a sandbox, of everything sent to the IMDS addresses on port 80.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Connections accepted.
    pub connections: u64,
    /// Connections whose SYN carried data that was accepted (TCP Fast Open).
    pub fast_open: u64,
    /// Requests: the sum of `tokenless`, `with_token` and `token_requests`.
    pub total: u64,
    /// Requests without a token header.
    pub tokenless: u64,
    /// Requests with a token header, whatever its value.
    pub with_token: u64,
    /// Those of `with_token` whose value is empty.
    pub empty_token: u64,
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
pub(super) enum Place {
    /// An IMDS address, port 80.
    Imds,
    /// Another port or another address.
    Elsewhere,
}

/// What a request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tokenless,
    WithToken { empty: bool },
    TokenRequest,
    Malformed,
}

/// Shared between the server's thread and the sandbox's owner.
#[derive(Debug, Default)]
pub(super) struct Counter(Mutex<Requests>);

impl Counter {
    pub(super) fn snapshot(&self) -> Requests {
        self.lock().clone()
    }

    pub(super) fn connection(&self, place: Place, fast_open: bool) {
        if place == Place::Imds {
            let mut seen = self.lock();
            seen.connections += 1;
            seen.fast_open += u64::from(fast_open);
        }
    }

    /// Counts one request; `status` is none if it stays unanswered.
    pub(super) fn request(&self, place: Place, kind: Kind, status: Option<u16>) {
        let mut seen = self.lock();
        if place == Place::Elsewhere {
            seen.elsewhere += 1;
            return;
        }
        match kind {
            Kind::Tokenless => seen.tokenless += 1,
            Kind::WithToken { empty } => {
                seen.with_token += 1;
                seen.empty_token += u64::from(empty);
            }
            Kind::TokenRequest => seen.token_requests += 1,
            Kind::Malformed => seen.malformed += 1,
        }
        seen.total += u64::from(kind != Kind::Malformed);
        match status {
            Some(status) => *seen.by_status.entry(status).or_default() += 1,
            None => seen.unanswered += 1,
        }
    }

    /// The counts stay true if a holder panicked: each change is complete in itself.
    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
