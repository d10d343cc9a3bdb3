//! The rules by name: a stable word in reports, described in `docs/verdicts.md`.

use super::{AccessAfter, Confidence, Verdict};

/// A rule that gives a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// No token, and nothing that explains it.
    Tokenless,
    /// The same, by an SDK below the version that speaks `IMDSv2`.
    OldSdk,
    /// The same, by an SDK that speaks `IMDSv2`.
    CurrentSdk,
    /// The same, by a program that is known to do so.
    KnownTokenless,
    /// Tokenless, and answered 401.
    Refused,
    /// Calls with a token, and calls without.
    BothWays,
    /// Lists without a token what it then reads with one.
    ListThenRead,
    /// Some tokenless calls follow a failed token request, and others do not.
    FallsBackAndPlain,
    /// Tokenless after a token request without an answer.
    TokenUnanswered,
    /// Tokenless after a token request that was refused.
    TokenRequestRefused,
    /// Tokenless after a token request that was answered 5xx.
    TokenServerError,
    /// Tokenless, though an argument names the token header.
    HeaderInArguments,
    /// A token header without a token.
    EmptyHeader,
    /// Never a token that is accepted.
    BadToken,
    /// Answered by a server of another name.
    OtherServer,
    /// Answered by a server that does not say its name.
    NamelessServer,
    /// Refused without a token, and asked again with one.
    Retries,
    /// A program that is known to ask again with a token when refused.
    KnownToRetry,
    /// Asks only for paths that other clouds have.
    OtherClouds,
    /// Asks only for `/`.
    OnlyTheRoot,
    /// Asks only for what is not there.
    NotFound,
    /// Tokenless and never answered.
    Unanswered,
    /// Connects and sends nothing that is a request.
    NoRequest,
    /// Tokens only.
    TokensOnly,
    /// Tokens only, and token requests that fail.
    NoTokenToGet,
}

impl Rule {
    /// All of them, in the order of [`Verdict`].
    pub const ALL: [Self; 25] = [
        Self::Tokenless,
        Self::OldSdk,
        Self::CurrentSdk,
        Self::KnownTokenless,
        Self::Refused,
        Self::BothWays,
        Self::ListThenRead,
        Self::FallsBackAndPlain,
        Self::TokenUnanswered,
        Self::TokenRequestRefused,
        Self::TokenServerError,
        Self::HeaderInArguments,
        Self::EmptyHeader,
        Self::BadToken,
        Self::OtherServer,
        Self::NamelessServer,
        Self::Retries,
        Self::KnownToRetry,
        Self::OtherClouds,
        Self::OnlyTheRoot,
        Self::NotFound,
        Self::Unanswered,
        Self::NoRequest,
        Self::TokensOnly,
        Self::NoTokenToGet,
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokenless => "tokenless",
            Self::OldSdk => "old-sdk",
            Self::CurrentSdk => "current-sdk",
            Self::KnownTokenless => "known-tokenless",
            Self::Refused => "refused",
            Self::BothWays => "both-ways",
            Self::ListThenRead => "list-then-read",
            Self::FallsBackAndPlain => "falls-back-and-plain",
            Self::TokenUnanswered => "token-unanswered",
            Self::TokenRequestRefused => "token-request-refused",
            Self::TokenServerError => "token-server-error",
            Self::HeaderInArguments => "header-in-arguments",
            Self::EmptyHeader => "empty-header",
            Self::BadToken => "bad-token",
            Self::OtherServer => "other-server",
            Self::NamelessServer => "nameless-server",
            Self::Retries => "retries",
            Self::KnownToRetry => "known-to-retry",
            Self::OtherClouds => "other-clouds",
            Self::OnlyTheRoot => "only-the-root",
            Self::NotFound => "not-found",
            Self::Unanswered => "unanswered",
            Self::NoRequest => "no-request",
            Self::TokensOnly => "tokens-only",
            Self::NoTokenToGet => "no-token-to-get",
        }
    }

    /// The verdict that it gives.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Tokenless | Self::OldSdk | Self::CurrentSdk | Self::KnownTokenless => {
                Verdict::Breaks
            }
            Self::Refused => Verdict::Rejected,
            Self::BothWays | Self::ListThenRead | Self::FallsBackAndPlain => Verdict::Mixed,
            Self::TokenUnanswered | Self::TokenRequestRefused | Self::TokenServerError => {
                Verdict::FallsBack
            }
            Self::HeaderInArguments | Self::EmptyHeader | Self::BadToken => Verdict::EmptyToken,
            Self::OtherServer | Self::NamelessServer => Verdict::NotImds,
            Self::Retries | Self::KnownToRetry => Verdict::Survives,
            Self::OtherClouds
            | Self::OnlyTheRoot
            | Self::NotFound
            | Self::Unanswered
            | Self::NoRequest => Verdict::Probe,
            Self::TokensOnly | Self::NoTokenToGet => Verdict::Ready,
        }
    }

    /// What its verdict rests on, unless the case says otherwise.
    pub(super) fn confidence(self) -> Confidence {
        match self {
            Self::OldSdk | Self::KnownTokenless | Self::KnownToRetry => Confidence::Known,
            Self::CurrentSdk
            | Self::ListThenRead
            | Self::FallsBackAndPlain
            | Self::NamelessServer
            | Self::OnlyTheRoot
            | Self::Unanswered
            | Self::NoRequest => Confidence::Likely,
            _ => Confidence::Seen,
        }
    }

    /// What the client gets after the flip; `put_failed`: token requests that it made failed.
    pub(super) fn outlook(self, put_failed: bool) -> AccessAfter {
        match self.verdict() {
            Verdict::Mixed if self != Self::ListThenRead => AccessAfter::Part,
            Verdict::FallsBack => AccessAfter::AllOnceMended,
            // With a token to get, the header would not be empty. If none was asked for, or one
            // was got, the fault is the client's.
            Verdict::EmptyToken if put_failed => AccessAfter::AllOnceMended,
            Verdict::Breaks | Verdict::Rejected | Verdict::Mixed | Verdict::EmptyToken => {
                AccessAfter::Nothing
            }
            Verdict::Ready if self == Self::NoTokenToGet => AccessAfter::AllOnceMended,
            Verdict::Ready | Verdict::NotImds | Verdict::Survives | Verdict::Probe => {
                AccessAfter::All
            }
        }
    }
}
