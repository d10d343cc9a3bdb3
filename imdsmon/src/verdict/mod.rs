//! From evidence to a verdict: whether `IMDSv2` can be required on the instance, which clients to
//! fix first, and how certain that is.

mod call_counts;
mod case;
mod instance;
mod judge;
mod reason;
mod remedy;
mod rule;

use std::time::Duration;

use serde::Serialize;

use call_counts::CallCounts;
pub use instance::assess;
#[cfg(test)]
use remedy::DRY_RUN;
pub(crate) use remedy::INSTANCE_ID;
pub use rule::Rule;

use crate::{ledger::ClientStats, time::Timestamp, words::with_words};

with_words! {
    /// What requiring `IMDSv2` (`HttpTokens=required`) means for a client.
    pub enum Verdict {
        /// Makes `IMDSv1` calls and does not try to get a token.
        Breaks,
        /// Makes `IMDSv1` calls that are rejected already.
        Rejected,
        /// Makes `IMDSv1` and `IMDSv2` calls: a part of it breaks.
        Mixed,
        /// Requests a token, gets none, and falls back to `IMDSv1`.
        FallsBack,
        /// Sends a token header without a valid token: fetching the token failed silently.
        EmptyToken,
        /// Gets its responses from something other than the EC2 metadata service.
        NotImds,
        /// Retries a rejected `IMDSv1` call with a token.
        Survives,
        /// Reads only other clouds' paths, or what IMDS does not have.
        Probe,
        /// Makes `IMDSv2` calls only.
        Ready,
    }
}
with_words! {
    /// The verdict on the instance.
    pub(crate) enum HostVerdict {
        /// No client needs a change, and the data is sufficient.
        Ready,
        /// At least one client needs a change first.
        NotReady,
        /// No client needs a change, but the data is not sufficient.
        Inconclusive,
    }
}

/// The verdict on a client, and its fix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// What requiring `IMDSv2` means for it.
    pub verdict: Verdict,
    /// The rule that gave it: a stable name, described in `docs/verdicts.md`.
    pub rule: Rule,
    /// Whether it must be fixed before `IMDSv2` is required.
    pub needs_action: bool,
    /// What the verdict is based on.
    pub(crate) confidence: Confidence,
    /// What the client can read once `IMDSv2` is required.
    #[serde(rename = "outlook")]
    pub access_after: AccessAfter,
    /// Why the rule fits, in a sentence.
    pub reason: String,
    pub remedy: Remedy,
}

/// What a client can read of what it reads now, once `IMDSv2` is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessAfter {
    /// Nothing, unless the client itself is changed.
    Nothing,
    /// What it reads over `IMDSv2`. Whether it needs the rest is not known.
    Part,
    /// Everything, once it can get a token: the hop limit, a proxy or throttling prevents that.
    #[serde(rename = "all-once-mended")]
    AllOnceFixed,
    All,
}

impl AccessAfter {
    /// Whether it can read data, provided that it can get a token.
    pub fn gets_data(self) -> bool {
        self != Self::Nothing
    }
}

/// What data is sufficient for a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The shortest observation period; a day by default.
    pub min_window: Duration,
    /// The current time, if monitoring must not have ended long before.
    pub now: Option<Timestamp>,
}

/// The verdicts on the instance and on each client.
#[derive(Clone, Debug)]
pub struct Assessment<'a> {
    /// Whether `IMDSv2` can be required.
    pub(crate) verdict: HostVerdict,
    /// Why, in a sentence. Holds clients' names, which are untrusted.
    pub(crate) sentence: String,
    /// Why the verdict is inconclusive, or would be if it were not `NotReady`.
    pub(crate) doubts: Vec<String>,
    /// Worst first.
    pub clients: Vec<Assessed<'a>>,
}

/// A client and the verdict on it.
#[derive(Clone, Debug)]
pub struct Assessed<'a> {
    pub(crate) stats: &'a ClientStats,
    pub judgement: Judgement,
    counts: CallCounts,
}

with_words! {
    /// What a verdict is based on.
    pub(crate) enum Confidence {
        /// The observed calls.
        Seen,
        /// The knowledge base: programs and SDKs with known behavior.
        Known,
        /// The observed calls, which have another possible cause.
        Likely,
    }
}

/// How to fix a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// A few words, for a table.
    pub short: String,
    /// Sentences, in order.
    pub steps: Vec<String>,
    /// Commands or settings, one line each. Text from a process is quoted for a shell.
    pub commands: Vec<String>,
    /// URL of a page that describes it.
    pub(crate) reference: Option<String>,
}

#[cfg(test)]
mod instance_tests;
#[cfg(test)]
mod tests;
