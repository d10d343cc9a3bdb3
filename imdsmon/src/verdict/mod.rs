//! From evidence to an answer: may this instance be flipped, who must change what, and how sure
//! is that.

mod call_counts;
mod instance;
mod judge;
mod reason;
mod remedy;
mod rule;

use std::time::Duration;

use serde::Serialize;

use call_counts::CallCounts;
pub use instance::assess;
pub use judge::judge;
pub use remedy::{DRY_RUN, INSTANCE_ID};
pub use rule::Rule;

use crate::{event::UnixNanos, ledger::ClientStats};

/// What flipping the instance to `HttpTokens=required` means for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Calls without a token, and shows no sign of trying to get one.
    Breaks,
    /// Calls without a token, and is refused already.
    Rejected,
    /// Both ways of calling from one client: a part of it breaks.
    Mixed,
    /// Knows tokens, cannot get one, and then calls without.
    FallsBack,
    /// Means to send a token, and has none: fetching it failed unnoticed.
    EmptyToken,
    /// Something other than the EC2 metadata service answers it.
    NotImds,
    /// Calls without a token first, and with one when refused.
    Survives,
    /// Looks only for other clouds, or for what is not there.
    Probe,
    /// Only ever calls with a token.
    Ready,
}

/// The answer for the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostVerdict {
    /// Nobody needs to change anything, and enough was seen to say so.
    Ready,
    /// Somebody must change something first.
    NotReady,
    /// Not enough was seen to say so.
    Inconclusive,
}

/// What was concluded about a client, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// The conclusion.
    pub verdict: Verdict,
    /// The rule that gave it: a stable name, described in `docs/verdicts.md`.
    pub rule: &'static str,
    /// Whether somebody must do something before the flip.
    pub needs_action: bool,
    /// How sure this is.
    pub confidence: Confidence,
    /// What the client gets once the instance is flipped.
    pub outlook: AccessAfter,
    /// Why, in a sentence.
    pub reason: String,
    /// What to do.
    pub remedy: Remedy,
}

/// What a client gets of what it asks for, once the instance is flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessAfter {
    /// Nothing, unless the client itself is changed.
    Nothing,
    /// What it asks for with a token. Whether it can do without the rest cannot be known.
    Part,
    /// Everything, once it can get a token: the hop limit, a proxy or throttling is in the way.
    AllOnceMended,
    /// Everything.
    All,
}

impl AccessAfter {
    /// Whether it gets data, if it can get a token.
    pub fn gets_data(self) -> bool {
        self != Self::Nothing
    }
}

/// When there is enough to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Time that must be watched; a day by default.
    pub min_window: Duration,
    /// Now, if watching is meant to go on: then it must not have ended long ago.
    pub now: Option<UnixNanos>,
}

/// The answer for the instance and for each client.
#[derive(Clone, Debug)]
pub struct Assessment<'a> {
    /// In a word.
    pub verdict: HostVerdict,
    /// Why, in a sentence. Holds clients' names, which are untrusted.
    pub sentence: String,
    /// What makes it inconclusive, each in a sentence; also there beside a "not ready".
    pub doubts: Vec<String>,
    /// The clients, worst first.
    pub clients: Vec<Assessed<'a>>,
}

/// A client and what was concluded about it.
#[derive(Clone, Debug)]
pub struct Assessed<'a> {
    /// What is known of it.
    pub entry: &'a ClientStats,
    /// What was concluded.
    pub judgement: Judgement,
    tally: CallCounts,
}

/// What a judgement rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// The calls themselves show it.
    Seen,
    /// The knowledge base says that this program behaves so.
    Known,
    /// The calls suggest it, and another reading is possible.
    Likely,
}

/// What mends a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// In a few words, for a table.
    pub short: String,
    /// What to do, in sentences, in order.
    pub steps: Vec<String>,
    /// Commands to run or settings to make, as they are typed: one line each, and what comes from a
    /// process in them is quoted for a shell.
    pub commands: Vec<String>,
    /// Page that describes it.
    pub reference: Option<String>,
}

#[cfg(test)]
mod instance_tests;
#[cfg(test)]
mod tests;
