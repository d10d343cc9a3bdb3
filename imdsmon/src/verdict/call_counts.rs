//! The sums of an entry's cells that the rules look at.

use crate::{
    http::call::{TokenValue, Version},
    knowledge::PathClass,
    ledger::{Answer, BucketKey, Cause, ClientStats},
};

/// Calls of one client. "Tokenless" is without those that look for other clouds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CallCounts {
    /// Tokenless, got or would have got its data, by what led to it.
    pub plain: u64,
    pub despite_token: u64,
    pub header_in_arguments: u64,
    pub after_no_answer: u64,
    pub after_refusal: u64,
    pub after_server_error: u64,
    /// Tokenless and answered 401, nothing having failed before.
    pub rejected: u64,
    /// Tokenless and answered 401, with the header named in an argument.
    pub rejected_header: u64,
    /// Tokenless and answered 401, after a token request that failed.
    pub rejected_after_failure: u64,
    /// Tokenless, and there was nothing: 404, 403, 405.
    pub missing: u64,
    /// Tokenless and not answered.
    pub silent: u64,
    /// Tokenless, for a path that only another cloud has.
    pub other_cloud: u64,
    /// Of any kind, answered by something else than IMDS.
    pub not_imds: u64,
    /// With a token that was accepted.
    pub with_token: u64,
    /// The same, for a path that had been refused without one.
    pub retried: u64,
    /// With a token that was refused.
    pub token_refused: u64,
    /// With a header that holds no token.
    pub empty_header: u64,
    /// Token requests by what came of them.
    pub put_ok: u64,
    pub put_unanswered: u64,
    pub put_refused: u64,
    pub put_server_error: u64,
    /// Calls that were answered, by whomever.
    pub answered: u64,
    /// The most sensitive thing that was asked for without a token.
    pub tokenless_class: PathClass,
}

impl CallCounts {
    pub(super) fn of(entry: &ClientStats) -> Self {
        let mut tally = Self::default();
        for (cell, &count) in &entry.cells {
            tally.add(cell, u64::try_from(count).unwrap_or(0));
        }
        tally
    }

    /// Tokenless calls that a failed token request explains.
    pub(super) fn after_failure(&self) -> u64 {
        self.after_no_answer + self.after_refusal + self.after_server_error
    }

    /// Tokenless calls that nothing explains.
    pub(super) fn unexplained(&self) -> u64 {
        self.plain + self.despite_token
    }

    /// Tokenless calls that IMDS served.
    pub(super) fn served_tokenless(&self) -> u64 {
        self.unexplained() + self.header_in_arguments + self.after_failure()
    }

    /// Tokenless calls that IMDS refused.
    pub(super) fn refused(&self) -> u64 {
        self.rejected + self.rejected_header + self.rejected_after_failure
    }

    /// Token requests that failed for a reason that is not the client's.
    pub(super) fn put_failed(&self) -> u64 {
        self.put_unanswered + self.put_refused + self.put_server_error
    }

    fn add(&mut self, cell: &BucketKey, count: u64) {
        if count == 0 {
            return;
        }
        if cell.answer != Answer::None {
            self.answered += count;
        }
        if cell.version == Version::V1 && cell.path == PathClass::OtherCloud {
            self.other_cloud += count;
        } else if cell.answer == Answer::NotImds {
            self.not_imds += count;
        } else {
            match cell.version {
                Version::V1 => self.add_tokenless(cell, count),
                Version::V2 => self.add_with_token(cell, count),
                Version::Token => self.add_put(cell, count),
            }
        }
    }

    fn add_tokenless(&mut self, cell: &BucketKey, count: u64) {
        if !matches!(
            cell.answer,
            Answer::NotFound | Answer::Other | Answer::Forbidden
        ) {
            self.tokenless_class = self.tokenless_class.max(cell.path);
        }
        let sum = match (cell.answer, cell.how) {
            (Answer::None, _) => &mut self.silent,
            (Answer::Unauthorized, Cause::HeaderInArguments) => &mut self.rejected_header,
            (
                Answer::Unauthorized,
                Cause::AfterNoAnswer | Cause::AfterRefusal | Cause::AfterServerError,
            ) => &mut self.rejected_after_failure,
            (Answer::Unauthorized, _) => &mut self.rejected,
            (Answer::NotFound | Answer::Other | Answer::Forbidden, _) => &mut self.missing,
            // A throttled call (503) would have got its data, and so may one whose status is not
            // known.
            (_, Cause::AfterNoAnswer) => &mut self.after_no_answer,
            (_, Cause::AfterRefusal) => &mut self.after_refusal,
            (_, Cause::AfterServerError) => &mut self.after_server_error,
            (_, Cause::HeaderInArguments) => &mut self.header_in_arguments,
            (_, Cause::DespiteToken) => &mut self.despite_token,
            (_, Cause::Plain | Cause::RetryAfterUnauthorized) => &mut self.plain,
        };
        *sum += count;
    }

    fn add_with_token(&mut self, cell: &BucketKey, count: u64) {
        let sum = match (cell.token, cell.answer) {
            (Some(TokenValue::Empty), _) => &mut self.empty_header,
            (_, Answer::Unauthorized) => &mut self.token_refused,
            _ => &mut self.with_token,
        };
        *sum += count;
        if cell.how == Cause::RetryAfterUnauthorized {
            self.retried += count;
        }
    }

    fn add_put(&mut self, cell: &BucketKey, count: u64) {
        let sum = match cell.answer {
            Answer::Ok | Answer::Unknown => &mut self.put_ok,
            Answer::None => &mut self.put_unanswered,
            Answer::ServerError => &mut self.put_server_error,
            _ => &mut self.put_refused,
        };
        *sum += count;
    }
}
