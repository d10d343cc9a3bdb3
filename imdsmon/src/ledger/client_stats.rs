//! Counts and evidence of one client.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    http::call::{Auth, Call, ImdsVersion, Response},
    identity::client::Client,
    knowledge::{PathClass, Sdk},
    time::{Hour, Timestamp},
    words::with_words,
};

/// Counts and evidence of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    pub client: Client,
    pub first: Timestamp,
    pub last: Timestamp,
    /// Calls by bucket. A delta may be negative: it corrects calls that later evidence
    /// reclassified.
    pub buckets: BTreeMap<BucketKey, i64>,
    pub evidence: Evidence,
}

/// Buckets of one client. A year with ten kinds of call in each hour takes 88,000.
const MAX_BUCKETS: usize = 1 << 16;

impl ClientStats {
    pub(crate) fn new(client: Client, time: Timestamp) -> Self {
        Self {
            client,
            first: time,
            last: time,
            ..Self::default()
        }
    }

    /// Calls of every kind.
    pub fn calls(&self) -> i64 {
        self.buckets.values().sum()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        let Self {
            client: _,
            first,
            last,
            buckets,
            evidence,
        } = other;
        self.first = self.first.min(first);
        self.last = self.last.max(last);
        for (bucket, count) in buckets {
            self.count(bucket, count);
        }
        self.evidence.merge(evidence);
    }

    /// Extends the time of the first or last call.
    pub(super) fn touch(&mut self, time: Timestamp) {
        self.first = self.first.min(time);
        self.last = self.last.max(time);
    }

    pub(super) fn count(&mut self, bucket: BucketKey, count: i64) {
        let sum = self.buckets.entry(bucket).or_default();
        *sum = sum.saturating_add(count);
        if *sum == 0 {
            self.buckets.remove(&bucket);
        }
        if self.buckets.len() > MAX_BUCKETS {
            self.fold();
        }
    }

    /// Merges the oldest hour into the next one: the sums stay, the oldest times become coarser.
    fn fold(&mut self) {
        let Some(oldest) = self.buckets.keys().next().map(|bucket| bucket.hour) else {
            return;
        };
        let of_oldest = |bucket: &&BucketKey| bucket.hour == oldest;
        let old: Vec<BucketKey> = self.buckets.keys().take_while(of_oldest).copied().collect();
        let next = self
            .buckets
            .keys()
            .map(|bucket| bucket.hour)
            .find(|&h| h > oldest);
        let Some(hour) = next else {
            return;
        };
        for bucket in old {
            if let Some(count) = self.buckets.remove(&bucket) {
                self.count(BucketKey { hour, ..bucket }, count);
            }
        }
    }
}

/// Key of a bucket of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketKey {
    /// Hours since 1970-01-01 UTC.
    pub hour: Hour,
    /// `IMDSv1`, `IMDSv2` with or without a valid token, or token request.
    pub auth: Auth,
    pub response: ResponseClass,
    pub path: PathClass,
    /// Why a call has no token, or that it is a retry.
    pub cause: Cause,
}

with_words! {
    /// Class of a response, as far as verdicts depend on it.
    pub enum ResponseClass {
        /// 200 to 399.
        Ok,
        Unauthorized,
        Forbidden,
        NotFound,
        /// 500 to 599: IMDS throttles with 503.
        ServerError,
        /// Another status.
        Other,
        /// A response whose status was not captured.
        Unknown,
        /// No response.
        #[serde(rename = "no-answer")]
        #[strum(serialize = "no-answer")]
        None,
        /// A response without `Server: EC2ws`, whatever its status.
        NotImds,
    }
}

impl ResponseClass {
    pub(crate) fn of(call: &Call) -> Self {
        match &call.response {
            Response::None => Self::None,
            Response::Unseen | Response::Seen { status: None, .. } => Self::Unknown,
            Response::Seen {
                status: Some(status),
                server,
                latency: _,
            } => match server.as_deref() {
                Some(server) if is_ec2(server) => Self::of_status(*status),
                _ => Self::NotImds,
            },
        }
    }

    fn of_status(status: u16) -> Self {
        match status {
            200..=399 => Self::Ok,
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            500..=599 => Self::ServerError,
            _ => Self::Other,
        }
    }
}

/// Whether a `Server` header is that of the EC2 metadata service.
pub(crate) fn is_ec2(server: &str) -> bool {
    server.trim().eq_ignore_ascii_case("EC2ws")
}

with_words! {
    /// What led to a call, from the order of calls in one process.
    pub enum Cause {
        /// No earlier call explains it.
        Plain,
        /// `IMDSv1` after a token request without a response.
        #[serde(rename = "after-no-answer")]
        #[strum(serialize = "after-no-answer")]
        AfterNoResponse,
        /// `IMDSv1` after a rejected token request (4xx).
        #[serde(rename = "after-refusal")]
        #[strum(serialize = "after-refusal")]
        AfterRejection,
        /// `IMDSv1` after a token request with a 5xx response.
        AfterServerError,
        /// `IMDSv1`, although an argument of the program sets the token header.
        HeaderInArguments,
        /// `IMDSv1`, although the process had a token.
        DespiteToken,
        /// A token request after a rejected `IMDSv1` call (401) of the same process, or a
        /// successful `IMDSv2` call for a path that was rejected before.
        RetryAfterUnauthorized,
    }
}

/// Samples and names, each list bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// SDKs and tools that its User-Agents name.
    pub sdks: Vec<Sdk>,
    pub user_agents: Vec<String>,
    /// Paths with their class and number of `IMDSv1` and `IMDSv2` calls.
    pub paths: BTreeMap<String, PathSeen>,
    /// Calls of paths that did not fit.
    pub more_paths: u64,
    /// Calls with User-Agents and SDKs that did not fit.
    #[serde(default)]
    pub more_agents: u64,
    /// Sample calls, a few of each [`Cause`], token values blanked.
    pub samples: Vec<Sample>,
    /// Bytes that are not part of a request.
    pub unparsed_bytes: u64,
}

/// Calls of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathSeen {
    pub class: PathClass,
    /// Without a token.
    pub tokenless: u64,
    pub with_token: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    #[serde(with = "crate::time::as_rfc3339")]
    pub time: Timestamp,
    pub version: ImdsVersion,
    #[serde(rename = "how")]
    pub cause: Cause,
    #[serde(rename = "answer")]
    pub response: ResponseClass,
    pub status: Option<u16>,
    /// `Server` header of the response.
    pub server: Option<String>,
    pub method: String,
    /// Path, and query if there is one.
    pub target: String,
    pub user_agent: Option<String>,
    /// Address that was called.
    pub address: String,
    /// Process id at that time.
    pub pid: Option<u32>,
    /// Path or name of the executable.
    pub executable: Option<String>,
    pub args: Vec<String>,
    /// Ancestors, nearest first: process ID and name.
    #[serde(with = "as_ancestors")]
    pub ancestors: Vec<(u32, String)>,
    /// Arguments of the process that opened the connection, if it is another one.
    pub connector: Option<Vec<String>>,
}

/// Ancestors as in a call's JSON: `[{"pid": 7, "name": "sh"}]`.
mod as_ancestors {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Ancestor<T> {
        pid: u32,
        name: T,
    }

    pub(crate) fn serialize<S: Serializer>(
        ancestors: &[(u32, String)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ancestors.iter().map(|(pid, name)| Ancestor {
            pid: *pid,
            name: name.as_str(),
        }))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(u32, String)>, D::Error> {
        let ancestors = Vec::<Ancestor<String>>::deserialize(deserializer)?;
        Ok(ancestors.into_iter().map(|a| (a.pid, a.name)).collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::ledger::client_stats::*;

    #[test]
    fn a_sample_survives_its_json_form() {
        let sample = Sample {
            time: Timestamp::from_nanos(7000),
            version: ImdsVersion::V1,
            cause: Cause::AfterNoResponse,
            response: ResponseClass::None,
            status: None,
            server: None,
            method: "GET".into(),
            target: "/latest/user-data".into(),
            user_agent: None,
            address: "fd00:ec2::254".into(),
            pid: Some(7),
            executable: None,
            args: vec!["sh".into()],
            ancestors: vec![(1, "init".into())],
            connector: None,
        };
        let json = serde_json::to_string(&sample).unwrap();
        assert!(
            json.contains(r#""ancestors":[{"pid":1,"name":"init"}]"#),
            "{json}"
        );
        assert!(json.contains(r#""answer":"no-answer""#), "{json}");
        assert_eq!(serde_json::from_str::<Sample>(&json).unwrap(), sample);
    }
}
