//! The token requests of each process, on any connection: their order explains why a call has no
//! token.
//!
//! A token request without a response is known as such only when its connection ends, possibly
//! after the IMDSv1 calls that it explains. These are kept until then and classified again.

use std::{collections::VecDeque, num::NonZeroUsize, rc::Rc, time::Duration};

use lru::LruCache;

use crate::ledger::client_stats::{BucketKey, Cause, ResponseClass};
use crate::time::Timestamp;
use crate::{
    event::bytes::ByteString,
    http::call::{Auth, Call, Response},
    identity::Process,
};

/// Processes with a history.
const MAX_PROCESSES: NonZeroUsize = NonZeroUsize::new(2048).unwrap();
/// Families of short-lived processes with a history.
const MAX_FAMILIES: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// Token requests in the history of one process or family.
const MAX_ATTEMPTS: usize = 16;
/// `IMDSv1` calls of one process that may be reclassified.
const MAX_OPEN_CALLS: usize = 128;
/// Paths of one process that were rejected without a token.
const MAX_REJECTED_PATHS: usize = 16;
/// How long a token request explains the calls of sibling processes.
const FAMILY_TTL: Duration = Duration::from_secs(5 * 60);
/// A process that called within this time is active: forgetting it may give a wrong cause.
const ACTIVE_PERIOD: Duration = Duration::from_secs(3600);

/// The processes and their token requests.
pub(super) struct TokenHistory {
    processes: LruCache<Key, ProcessHistory>,
    families: LruCache<Family, VecDeque<(Key, Attempt)>>,
    forgotten: u64,
}

/// A pid and the start of the process, if known, which makes it unique.
type Key = (u32, Option<u64>);
/// Processes of one parent that run the same program.
type Family = (u32, ByteString);

struct ProcessHistory {
    process: Rc<Process>,
    last: Timestamp,
    attempts: VecDeque<Attempt>,
    open: VecDeque<OpenCall>,
    refused: VecDeque<(Timestamp, String)>,
    /// Whether it made calls other than token requests.
    has_read: bool,
}

#[derive(Clone)]
struct Attempt {
    time: Timestamp,
    /// The cause of `IMDSv1` calls after it.
    then: Cause,
    origin: Option<UserAgentOrigin>,
}

/// The library that the User-Agent names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UserAgentOrigin {
    pub(crate) name: String,
    pub(crate) is_aws_sdk: bool,
}

/// An `IMDSv1` call that may be reclassified.
struct OpenCall {
    time: Timestamp,
    kind: BucketKey,
    origin: Option<UserAgentOrigin>,
}

/// The cause of a call.
pub(super) struct Classified {
    pub(crate) cause: Cause,
    /// Earlier calls with a new cause.
    pub(crate) corrections: Vec<Correction>,
}

/// A call that moves from one bucket to another.
pub(super) struct Correction {
    pub(crate) time: Timestamp,
    pub(crate) from: BucketKey,
    pub(crate) cause: Cause,
}

impl Default for TokenHistory {
    fn default() -> Self {
        Self {
            processes: LruCache::new(MAX_PROCESSES),
            families: LruCache::new(MAX_FAMILIES),
            forgotten: 0,
        }
    }
}

impl TokenHistory {
    /// Adds a call to the history and finds its cause; without one it counts in `kind`.
    pub(super) fn classify(
        &mut self,
        process: &Rc<Process>,
        call: &Call,
        kind: BucketKey,
        origin: Option<&UserAgentOrigin>,
    ) -> Classified {
        let key = (process.pid, process.started);
        let siblings = self.siblings(process, key, call.time);
        let history = self.history(key, process, call.time);
        history.last = history.last.max(call.time);
        history.has_read |= call.request.auth != Auth::TokenRequest;
        let mut corrections = Vec::new();
        let cause = match call.request.auth {
            Auth::TokenRequest => {
                if let Some(then) = effect(call) {
                    let attempt = Attempt {
                        time: call.time,
                        then,
                        origin: origin.cloned(),
                    };
                    insert(&mut history.attempts, attempt.clone());
                    corrections = history.reclassify(call.time, siblings.as_ref());
                    self.add_to_family(process, key, attempt);
                    let history = self.processes.peek(&key);
                    retry(history.is_some_and(|e| e.was_rejected(call.time, None)))
                } else {
                    Cause::Plain
                }
            }
            Auth::V2(_) => {
                let is_ok = matches!(kind.response, ResponseClass::Ok);
                retry(is_ok && history.was_rejected(call.time, Some(&call.request.path)))
            }
            Auth::V1 => {
                if kind.response == ResponseClass::Unauthorized {
                    push(
                        &mut history.refused,
                        MAX_REJECTED_PATHS,
                        (call.time, call.request.path.clone()),
                    );
                }
                let cause = history.cause(call.time, origin, siblings.as_ref());
                let open = OpenCall {
                    time: call.time,
                    kind: BucketKey { cause, ..kind },
                    origin: origin.cloned(),
                };
                push(&mut history.open, MAX_OPEN_CALLS, open);
                cause
            }
        };
        Classified { cause, corrections }
    }

    /// Active processes that were forgotten.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn history(&mut self, key: Key, process: &Rc<Process>, time: Timestamp) -> &mut ProcessHistory {
        let is_known = self.processes.peek(&key).is_some_and(|history| {
            Rc::ptr_eq(&history.process, process) || history.process.is_same_program(process)
        });
        if !is_known {
            let new = ProcessHistory::new(Rc::clone(process), time);
            let old = self.processes.push(key, new);
            let is_other = |(other, old): &(Key, ProcessHistory)| {
                *other != key && time.since(old.last) < ACTIVE_PERIOD
            };
            self.forgotten += u64::from(old.as_ref().is_some_and(is_other));
        }
        let new = || ProcessHistory::new(Rc::clone(process), time);
        self.processes.get_or_insert_mut(key, new)
    }

    /// The latest token request before `time` of a sibling that did nothing else, as a script's
    /// `curl` for the token is a sibling of its `curl` for the data.
    fn siblings(&mut self, process: &Process, key: Key, time: Timestamp) -> Option<Attempt> {
        let family = self.families.get(&family(process)?)?;
        let is_explaining = |(other, attempt): &&(Key, Attempt)| {
            let is_before = attempt.time <= time && time.since(attempt.time) < FAMILY_TTL;
            let history = self.processes.peek(other);
            *other != key && is_before && history.is_some_and(|history| !history.has_read)
        };
        let latest = family.iter().rev().find(is_explaining);
        latest.map(|(_, attempt)| attempt.clone())
    }

    fn add_to_family(&mut self, process: &Process, key: Key, attempt: Attempt) {
        let Some(family) = family(process) else {
            return;
        };
        let attempts = self.families.get_or_insert_mut(family, VecDeque::new);
        push(attempts, MAX_ATTEMPTS, (key, attempt));
    }
}

impl ProcessHistory {
    fn new(process: Rc<Process>, time: Timestamp) -> Self {
        Self {
            process,
            last: time,
            attempts: VecDeque::new(),
            open: VecDeque::new(),
            refused: VecDeque::new(),
            has_read: false,
        }
    }

    /// Why an `IMDSv1` call at this time has no token.
    fn cause(
        &self,
        time: Timestamp,
        origin: Option<&UserAgentOrigin>,
        sibling: Option<&Attempt>,
    ) -> Cause {
        let before = |attempt: &&Attempt| attempt.time <= time && may_share_token(attempt, origin);
        let own = self.attempts.iter().rev().find(before);
        let own = own.map(|attempt| attempt.then);
        let sibling = sibling.map(|attempt| attempt.then);
        match (own, sibling) {
            (Some(failed), _) if failed != Cause::DespiteToken => failed,
            _ if names_token_header(&self.process.args) => Cause::HeaderInArguments,
            (Some(got), _) => got,
            // A sibling's token need not be meant for this process.
            (None, Some(failed)) if failed != Cause::DespiteToken => failed,
            (None, _) => Cause::Plain,
        }
    }

    /// Reclassifies the calls after a token request at `time` whose result has become known.
    fn reclassify(&mut self, time: Timestamp, sibling: Option<&Attempt>) -> Vec<Correction> {
        let mut corrections = Vec::new();
        let mut open = std::mem::take(&mut self.open);
        for call in open.iter_mut().filter(|call| call.time >= time) {
            let cause = self.cause(call.time, call.origin.as_ref(), sibling);
            if cause != call.kind.cause {
                corrections.push(Correction {
                    time: call.time,
                    from: call.kind,
                    cause,
                });
                call.kind.cause = cause;
            }
        }
        self.open = open;
        corrections
    }

    /// Whether a call before `time`, for `path` if given, was rejected without a token.
    fn was_rejected(&self, time: Timestamp, path: Option<&str>) -> bool {
        let mut refused = self.refused.iter();
        refused.any(|(at, refused)| *at <= time && path.is_none_or(|path| path == refused))
    }
}

/// The cause that a token request gives to later `IMDSv1` calls; `None` if its result is unknown.
fn effect(call: &Call) -> Option<Cause> {
    match (&call.response, call.response.status()) {
        (Response::None, _) => Some(Cause::AfterNoResponse),
        (_, None) => None,
        (_, Some(200..300)) => Some(Cause::DespiteToken),
        (_, Some(500..)) => Some(Cause::AfterServerError),
        (_, Some(_)) => Some(Cause::AfterRejection),
    }
}

/// Whether a call may use the token of an attempt: an AWS SDK and another library in one process
/// do not share tokens. A call without a User-Agent may.
fn may_share_token(attempt: &Attempt, origin: Option<&UserAgentOrigin>) -> bool {
    match (&attempt.origin, origin) {
        (Some(a), Some(b)) => a == b || !(a.is_aws_sdk || b.is_aws_sdk),
        _ => true,
    }
}

fn retry(is_retry: bool) -> Cause {
    if is_retry {
        Cause::RetryAfterUnauthorized
    } else {
        Cause::Plain
    }
}

/// Whether an argument contains the token header, not the TTL header of a token request.
fn names_token_header(args: &[ByteString]) -> bool {
    const NAME: &[u8] = b"x-aws-ec2-metadata-token";
    args.iter().any(|arg| {
        let mut windows = arg.windows(NAME.len()).enumerate();
        windows.any(|(at, window)| {
            let behind = &arg[at + NAME.len()..];
            window.eq_ignore_ascii_case(NAME) && !behind.starts_with(b"-")
        })
    })
}

fn family(process: &Process) -> Option<Family> {
    let parent = process.parent.filter(|&parent| parent > 1)?;
    Some((parent, process.name.clone()))
}

/// Keeps attempts in order of time.
fn insert(attempts: &mut VecDeque<Attempt>, attempt: Attempt) {
    let at = attempts.partition_point(|other| other.time <= attempt.time);
    attempts.insert(at, attempt);
    if attempts.len() > MAX_ATTEMPTS {
        attempts.pop_front();
    }
}

fn push<T>(list: &mut VecDeque<T>, max: usize, item: T) {
    if list.len() >= max {
        list.pop_front();
    }
    list.push_back(item);
}
