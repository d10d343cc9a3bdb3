//! From evidence to an answer: may this instance be flipped, who must change what, and how sure
//! is that.

use serde::Serialize;

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
    /// Why, in a sentence.
    pub reason: String,
    /// What to do.
    pub remedy: Remedy,
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
    /// Commands to run or settings to make, as they are typed.
    pub commands: Vec<String>,
    /// Page that describes it.
    pub reference: Option<String>,
}
