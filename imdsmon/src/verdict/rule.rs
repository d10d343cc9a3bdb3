//! The rules by name: stable in reports, described in `docs/verdicts.md`.

use crate::words::with_words;

use super::{AccessAfter, Confidence, Verdict};

with_words! {
    /// A rule that gives a verdict, in the order of [`Verdict`].
    pub enum Rule {
        /// `IMDSv1` calls and nothing that explains them.
        Tokenless,
        /// The same, by an SDK below the first version with `IMDSv2` support.
        OldSdk,
        /// The same, by an SDK with `IMDSv2` support.
        CurrentSdk,
        /// The same, by a program that is known to make `IMDSv1` calls.
        KnownTokenless,
        /// `IMDSv1` calls, all rejected (401).
        Refused,
        /// `IMDSv1` and `IMDSv2` calls.
        BothWays,
        /// Lists over `IMDSv1` what it then reads over `IMDSv2`.
        ListThenRead,
        /// Some `IMDSv1` calls follow a failed token request, and others do not.
        FallsBackAndPlain,
        /// `IMDSv1` calls after a token request without a response.
        TokenUnanswered,
        /// `IMDSv1` calls after a rejected token request (4xx).
        TokenRequestRefused,
        /// `IMDSv1` calls after a token request with a 5xx response.
        TokenServerError,
        /// `IMDSv1` calls of a program with the token header in an argument.
        HeaderInArguments,
        /// A token header without a value.
        EmptyHeader,
        /// No token that IMDS accepts.
        BadToken,
        /// Responses of a server with another name.
        OtherServer,
        /// Responses of a server without a name.
        NamelessServer,
        /// `IMDSv1` calls, rejected and retried with a token.
        Retries,
        /// `IMDSv1` calls of a program that is known to retry with a token.
        KnownToRetry,
        /// Only paths of other clouds.
        OtherClouds,
        OnlyTheRoot,
        /// Only paths that IMDS does not have.
        NotFound,
        /// `IMDSv1` calls without a response.
        Unanswered,
        /// No valid HTTP request.
        NoRequest,
        /// `IMDSv2` calls only.
        TokensOnly,
        /// Failed token requests only.
        NoTokenToGet,
    }
}

impl Rule {
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

    /// The confidence of its verdict, unless the case lowers it.
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

    /// What the client can read once `IMDSv2` is required; `put_failed`: some of its token
    /// requests failed.
    pub(super) fn access_after(self, put_failed: bool) -> AccessAfter {
        match self.verdict() {
            Verdict::Mixed if self != Self::ListThenRead => AccessAfter::Part,
            Verdict::FallsBack => AccessAfter::AllOnceFixed,
            // If it could get a token, the header would not be empty. If it requested none, or got
            // one, the bug is in the client.
            Verdict::EmptyToken if put_failed => AccessAfter::AllOnceFixed,
            Verdict::Breaks | Verdict::Rejected | Verdict::Mixed | Verdict::EmptyToken => {
                AccessAfter::Nothing
            }
            Verdict::Ready if self == Self::NoTokenToGet => AccessAfter::AllOnceFixed,
            Verdict::Ready | Verdict::NotImds | Verdict::Survives | Verdict::Probe => {
                AccessAfter::All
            }
        }
    }
}
