//! What a process did before: the order of its calls, on whatever connection, tells why a call
//! has no token.
//!
//! A token request that hangs is known as such only when its connection ends, which may be after
//! the tokenless calls that it explains. They are kept until then, and judged anew.

use std::{collections::VecDeque, num::NonZeroUsize, rc::Rc};

use lru::LruCache;

use crate::ledger::client_stats::{Answer, BucketKey, Cause};
use crate::{
    event::{UnixNanos, bytes::ByteString},
    http::call::{Call, Outcome, Version},
    identity::Process,
};

/// Processes that are remembered.
const PROCESSES: NonZeroUsize = NonZeroUsize::new(2048).unwrap();
/// Families of short-lived processes that are remembered.
const FAMILIES: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// Token requests of one process, or one family, that are remembered.
const ATTEMPTS: usize = 16;
/// Tokenless calls of one process that may still be judged anew.
const OPEN: usize = 128;
/// Paths of one process that were refused without a token.
const REFUSED: usize = 16;
/// How long after a token request of one process its sibling's call is explained by it.
const FAMILY_MEMORY: UnixNanos = 5 * 60 * 1_000_000_000;
/// A process that called within this time and is forgotten may be judged wrong.
const RECENT: UnixNanos = 3600 * 1_000_000_000;

/// The processes, and what each tried.
pub(super) struct TokenHistory {
    processes: LruCache<Key, ProcessHistory>,
    families: LruCache<Family, VecDeque<(Key, Attempt)>>,
    forgotten: u64,
}

/// A process, once and for all if the start is known.
type Key = (u32, Option<u64>);
/// Processes of one parent that run the same program.
type Family = (u32, ByteString);

struct ProcessHistory {
    process: Rc<Process>,
    last: UnixNanos,
    attempts: VecDeque<Attempt>,
    open: VecDeque<Open>,
    refused: VecDeque<(UnixNanos, String)>,
    /// Whether it did anything but ask for tokens.
    has_read: bool,
}

#[derive(Clone)]
struct Attempt {
    time: UnixNanos,
    /// What a tokenless call after it is.
    then: Cause,
    maker: Option<UserAgentOrigin>,
}

/// What a call is made with, as its User-Agent says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UserAgentOrigin {
    pub name: String,
    pub is_aws_sdk: bool,
}

/// A tokenless call that may still be judged anew.
struct Open {
    time: UnixNanos,
    kind: BucketKey,
    maker: Option<UserAgentOrigin>,
}

/// What the past says about a call.
pub(super) struct Classified {
    pub how: Cause,
    /// Earlier calls that are now seen in another light.
    pub corrections: Vec<Correction>,
}

/// A call that was counted in one cell and belongs in another.
pub(super) struct Correction {
    pub time: UnixNanos,
    pub from: BucketKey,
    pub how: Cause,
}

impl Default for TokenHistory {
    fn default() -> Self {
        Self {
            processes: LruCache::new(PROCESSES),
            families: LruCache::new(FAMILIES),
            forgotten: 0,
        }
    }
}

impl TokenHistory {
    /// Takes note of a call, which would be counted in `kind` if nothing explained it.
    pub(super) fn classify(
        &mut self,
        process: &Rc<Process>,
        call: &Call,
        kind: BucketKey,
        maker: Option<&UserAgentOrigin>,
    ) -> Classified {
        let key = (process.pid, process.started);
        let siblings = self.siblings(process, key, call.time);
        let history = self.history(key, process, call.time);
        history.last = history.last.max(call.time);
        history.has_read |= call.version != Version::Token;
        let mut corrections = Vec::new();
        let how = match call.version {
            Version::Token => {
                if let Some(then) = then(call) {
                    let attempt = Attempt {
                        time: call.time,
                        then,
                        maker: maker.cloned(),
                    };
                    insert(&mut history.attempts, attempt.clone());
                    corrections = history.judge_anew(call.time, siblings.as_ref());
                    self.tell_family(process, key, attempt);
                    let history = self.processes.peek(&key);
                    retry(history.is_some_and(|e| e.was_refused(call.time, None)))
                } else {
                    Cause::Plain
                }
            }
            Version::V2 => {
                let is_ok = matches!(kind.answer, Answer::Ok);
                retry(is_ok && history.was_refused(call.time, Some(&call.path)))
            }
            Version::V1 => {
                if kind.answer == Answer::Unauthorized {
                    push(
                        &mut history.refused,
                        REFUSED,
                        (call.time, call.path.clone()),
                    );
                }
                let how = history.how(call.time, maker, siblings.as_ref());
                let open = Open {
                    time: call.time,
                    kind: BucketKey { how, ..kind },
                    maker: maker.cloned(),
                };
                push(&mut history.open, OPEN, open);
                how
            }
        };
        Classified { how, corrections }
    }

    /// Processes that were forgotten though they had called not long before.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn history(&mut self, key: Key, process: &Rc<Process>, time: UnixNanos) -> &mut ProcessHistory {
        let is_known = self.processes.peek(&key).is_some_and(|history| {
            Rc::ptr_eq(&history.process, process) || history.process.is_same_program(process)
        });
        if !is_known {
            let new = ProcessHistory::new(Rc::clone(process), time);
            let old = self.processes.push(key, new);
            let is_other = |(other, old): &(Key, ProcessHistory)| {
                *other != key && time.saturating_sub(old.last) < RECENT
            };
            self.forgotten += u64::from(old.as_ref().is_some_and(is_other));
        }
        let new = || ProcessHistory::new(Rc::clone(process), time);
        self.processes.get_or_insert_mut(key, new)
    }

    /// The latest token request before `time` of a sibling that did nothing else, as a script's
    /// `curl` for the token is a sibling of its `curl` for the data.
    fn siblings(&mut self, process: &Process, key: Key, time: UnixNanos) -> Option<Attempt> {
        let family = self.families.get(&family(process)?)?;
        let is_explaining = |(other, attempt): &&(Key, Attempt)| {
            let is_before = (0..FAMILY_MEMORY).contains(&time.saturating_sub(attempt.time));
            let history = self.processes.peek(other);
            *other != key && is_before && history.is_some_and(|history| !history.has_read)
        };
        let latest = family.iter().rev().find(is_explaining);
        latest.map(|(_, attempt)| attempt.clone())
    }

    fn tell_family(&mut self, process: &Process, key: Key, attempt: Attempt) {
        let Some(family) = family(process) else {
            return;
        };
        let attempts = self.families.get_or_insert_mut(family, VecDeque::new);
        push(attempts, ATTEMPTS, (key, attempt));
    }
}

impl ProcessHistory {
    fn new(process: Rc<Process>, time: UnixNanos) -> Self {
        Self {
            process,
            last: time,
            attempts: VecDeque::new(),
            open: VecDeque::new(),
            refused: VecDeque::new(),
            has_read: false,
        }
    }

    /// Why a call at this time has no token.
    fn how(
        &self,
        time: UnixNanos,
        maker: Option<&UserAgentOrigin>,
        sibling: Option<&Attempt>,
    ) -> Cause {
        let before = |attempt: &&Attempt| attempt.time <= time && is_akin(attempt, maker);
        let own = self.attempts.iter().rev().find(before);
        let own = own.map(|attempt| attempt.then);
        let sibling = sibling.map(|attempt| attempt.then);
        match (own, sibling) {
            (Some(failed), _) if failed != Cause::DespiteToken => failed,
            _ if names_token_header(&self.process.args) => Cause::HeaderInArguments,
            (Some(got), _) => got,
            // That a sibling got a token does not mean that this one was to use it.
            (None, Some(failed)) if failed != Cause::DespiteToken => failed,
            (None, _) => Cause::Plain,
        }
    }

    /// A token request at `time` has become known: what came after it is seen in its light.
    fn judge_anew(&mut self, time: UnixNanos, sibling: Option<&Attempt>) -> Vec<Correction> {
        let mut corrections = Vec::new();
        let mut open = std::mem::take(&mut self.open);
        for call in open.iter_mut().filter(|call| call.time >= time) {
            let how = self.how(call.time, call.maker.as_ref(), sibling);
            if how != call.kind.how {
                corrections.push(Correction {
                    time: call.time,
                    from: call.kind,
                    how,
                });
                call.kind.how = how;
            }
        }
        self.open = open;
        corrections
    }

    /// Whether a call before `time`, if given of this path, was refused for want of a token.
    fn was_refused(&self, time: UnixNanos, path: Option<&str>) -> bool {
        let mut refused = self.refused.iter();
        refused.any(|(at, refused)| *at <= time && path.is_none_or(|path| path == refused))
    }
}

/// What a tokenless call after this token request is; `None` if its outcome is not known.
fn then(call: &Call) -> Option<Cause> {
    match (call.outcome, call.status) {
        (Outcome::NoAnswer, _) => Some(Cause::AfterNoAnswer),
        (Outcome::Answered, None) => None,
        (Outcome::Answered, Some(200..300)) => Some(Cause::DespiteToken),
        (Outcome::Answered, Some(500..)) => Some(Cause::AfterServerError),
        (Outcome::Answered, Some(_)) => Some(Cause::AfterRefusal),
    }
}

/// An AWS SDK and another library in one process do not use each other's tokens. A call that does
/// not say what made it gets the benefit of the doubt.
fn is_akin(attempt: &Attempt, maker: Option<&UserAgentOrigin>) -> bool {
    match (&attempt.maker, maker) {
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

/// Whether an argument is, or holds, the header with a token in it (and not the one that asks for
/// a token).
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
    if attempts.len() > ATTEMPTS {
        attempts.pop_front();
    }
}

fn push<T>(list: &mut VecDeque<T>, max: usize, item: T) {
    if list.len() >= max {
        list.pop_front();
    }
    list.push_back(item);
}
