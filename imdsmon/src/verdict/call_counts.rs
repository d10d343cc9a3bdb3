//! The sums of a client's calls that the rules look at.

use crate::{
    http::call::{Auth, TokenValue},
    knowledge::PathClass,
    ledger::{BucketKey, Cause, ClientStats, ResponseClass},
};

/// Calls of one client. `IMDSv1` calls are counted without those for other clouds' paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CallCounts {
    /// `IMDSv1` calls that got or would have got their data, by cause.
    pub(crate) plain: u64,
    pub(crate) despite_token: u64,
    pub(crate) header_in_arguments: u64,
    pub(crate) after_no_answer: u64,
    pub(crate) after_refusal: u64,
    pub(crate) after_server_error: u64,
    /// `IMDSv1` calls rejected with 401, without an earlier failure.
    pub(crate) rejected: u64,
    /// The same, with the token header named in an argument.
    pub(crate) rejected_header: u64,
    /// The same, after a failed token request.
    pub(crate) rejected_after_failure: u64,
    /// `IMDSv1` calls for what IMDS does not have: 404, 403, 405.
    pub(crate) missing: u64,
    /// `IMDSv1` calls without a response.
    pub(crate) no_response: u64,
    /// `IMDSv1` calls for a path that only another cloud has.
    pub(crate) other_cloud: u64,
    /// Calls of any kind with a response that is not from IMDS.
    pub(crate) not_imds: u64,
    /// Calls with an accepted token.
    pub(crate) with_token: u64,
    /// The same, for a path that was rejected without a token before.
    pub(crate) retried: u64,
    /// Calls with a rejected token.
    pub(crate) token_rejected: u64,
    /// Calls with a token header without a value.
    pub(crate) empty_header: u64,
    /// Token requests by result.
    pub(crate) put_ok: u64,
    pub(crate) put_no_response: u64,
    pub(crate) put_rejected: u64,
    pub(crate) put_server_error: u64,
    /// Calls of any kind with a response, from any server.
    pub(crate) with_response: u64,
    /// The most sensitive path class of an `IMDSv1` call.
    pub(crate) tokenless_class: PathClass,
}

impl CallCounts {
    pub(super) fn of(stats: &ClientStats) -> Self {
        let mut counts = Self::default();
        for (bucket, &count) in &stats.buckets {
            counts.add(bucket, u64::try_from(count).unwrap_or(0));
        }
        counts
    }

    /// `IMDSv1` calls that a failed token request explains.
    pub(super) fn after_failure(&self) -> u64 {
        self.after_no_answer + self.after_refusal + self.after_server_error
    }

    /// `IMDSv1` calls that nothing explains.
    pub(super) fn unexplained(&self) -> u64 {
        self.plain + self.despite_token
    }

    /// `IMDSv1` calls that IMDS served.
    pub(super) fn served_tokenless(&self) -> u64 {
        self.unexplained() + self.header_in_arguments + self.after_failure()
    }

    /// `IMDSv1` calls that IMDS rejected.
    pub(super) fn rejected_v1(&self) -> u64 {
        self.rejected + self.rejected_header + self.rejected_after_failure
    }

    /// Failed token requests.
    pub(super) fn put_failed(&self) -> u64 {
        self.put_no_response + self.put_rejected + self.put_server_error
    }

    /// Why most `IMDSv1` calls had no token, if a failed token request explains all of them.
    pub(super) fn failure(&self) -> Option<Cause> {
        if self.served_tokenless() > 0 {
            let explains_all = self.unexplained() == 0 && self.after_failure() > 0;
            explains_all.then(|| {
                most_frequent([
                    self.after_no_answer,
                    self.after_refusal,
                    self.after_server_error,
                ])
            })
        } else {
            let explains_all = self.rejected == 0 && self.rejected_after_failure > 0;
            explains_all.then(|| self.put_failure())
        }
    }

    /// How most token requests failed.
    pub(super) fn put_failure(&self) -> Cause {
        most_frequent([
            self.put_no_response,
            self.put_rejected,
            self.put_server_error,
        ])
    }

    fn add(&mut self, bucket: &BucketKey, count: u64) {
        if count == 0 {
            return;
        }
        if bucket.response != ResponseClass::None {
            self.with_response += count;
        }
        if bucket.auth == Auth::V1 && bucket.path == PathClass::OtherCloud {
            self.other_cloud += count;
        } else if bucket.response == ResponseClass::NotImds {
            self.not_imds += count;
        } else {
            match bucket.auth {
                Auth::V1 => self.add_tokenless(bucket, count),
                Auth::V2(token) => self.add_with_token(bucket, token, count),
                Auth::TokenRequest => self.add_put(bucket, count),
            }
        }
    }

    fn add_tokenless(&mut self, bucket: &BucketKey, count: u64) {
        if !matches!(
            bucket.response,
            ResponseClass::NotFound | ResponseClass::Other | ResponseClass::Forbidden
        ) {
            self.tokenless_class = self.tokenless_class.max(bucket.path);
        }
        let sum = match (bucket.response, bucket.cause) {
            (ResponseClass::None, _) => &mut self.no_response,
            (ResponseClass::Unauthorized, Cause::HeaderInArguments) => &mut self.rejected_header,
            (
                ResponseClass::Unauthorized,
                Cause::AfterNoResponse | Cause::AfterRejection | Cause::AfterServerError,
            ) => &mut self.rejected_after_failure,
            (ResponseClass::Unauthorized, _) => &mut self.rejected,
            (ResponseClass::NotFound | ResponseClass::Other | ResponseClass::Forbidden, _) => {
                &mut self.missing
            }
            // A throttled call (503) would have got its data, and so may one whose status is not
            // known.
            (_, Cause::AfterNoResponse) => &mut self.after_no_answer,
            (_, Cause::AfterRejection) => &mut self.after_refusal,
            (_, Cause::AfterServerError) => &mut self.after_server_error,
            (_, Cause::HeaderInArguments) => &mut self.header_in_arguments,
            (_, Cause::DespiteToken) => &mut self.despite_token,
            (_, Cause::Plain | Cause::RetryAfterUnauthorized) => &mut self.plain,
        };
        *sum += count;
    }

    fn add_with_token(&mut self, bucket: &BucketKey, token: TokenValue, count: u64) {
        let sum = match (token, bucket.response) {
            (TokenValue::Empty, _) => &mut self.empty_header,
            (_, ResponseClass::Unauthorized) => &mut self.token_rejected,
            _ => &mut self.with_token,
        };
        *sum += count;
        if bucket.cause == Cause::RetryAfterUnauthorized {
            self.retried += count;
        }
    }

    fn add_put(&mut self, bucket: &BucketKey, count: u64) {
        let sum = match bucket.response {
            ResponseClass::Ok | ResponseClass::Unknown => &mut self.put_ok,
            ResponseClass::None => &mut self.put_no_response,
            ResponseClass::ServerError => &mut self.put_server_error,
            _ => &mut self.put_rejected,
        };
        *sum += count;
    }
}

/// The failure with the highest count; the first of equals.
fn most_frequent(counts: [u64; 3]) -> Cause {
    let causes = [
        Cause::AfterNoResponse,
        Cause::AfterRejection,
        Cause::AfterServerError,
    ];
    let all = counts.into_iter().zip(causes).rev();
    let most = all.max_by_key(|(count, _)| *count);
    most.map_or(Cause::AfterNoResponse, |(_, cause)| cause)
}
