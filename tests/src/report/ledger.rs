//! A ledger as two weeks on an instance fill it: the counts and evidence of each client.

use std::{collections::BTreeMap, time::Duration};

use imdsmon::{
    http::call::{Auth, ImdsVersion},
    identity::client::Client,
    knowledge::Knowledge,
    ledger::{
        BucketKey, Cause, ClientStats, ResponseClass, Sample,
        client_stats::{Evidence, PathSeen},
    },
    time::{Hour, Timestamp},
};

use super::{BEGIN, NOW};

/// A client and what it does each time it runs.
pub(super) struct Story<'a> {
    pub(super) client: Client,
    pub(super) agent: Option<&'a str>,
    pub(super) args: &'a [&'a str],
    /// Hours between two runs.
    pub(super) every: usize,
    pub(super) requests: Vec<Request<'a>>,
}

/// Requests that are alike, and the response to each.
pub(super) struct Request<'a> {
    pub(super) count: i64,
    pub(super) auth: Auth,
    pub(super) path: &'a str,
    pub(super) cause: Cause,
    pub(super) status: Option<u16>,
    pub(super) server: &'a str,
    pub(super) address: &'a str,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Self {
            count: 1,
            auth: Auth::V1,
            path: "/latest/meta-data/instance-id",
            cause: Cause::Plain,
            status: Some(200),
            server: "EC2ws",
            address: "169.254.169.254",
        }
    }
}

impl Request<'_> {
    fn method(&self) -> &'static str {
        match self.auth {
            Auth::TokenRequest => "PUT",
            Auth::V1 | Auth::V2(_) => "GET",
        }
    }

    fn response(&self) -> ResponseClass {
        match self.status {
            None => ResponseClass::None,
            Some(_) if self.server != "EC2ws" => ResponseClass::NotImds,
            Some(401) => ResponseClass::Unauthorized,
            Some(404) => ResponseClass::NotFound,
            Some(_) => ResponseClass::Ok,
        }
    }
}

impl Story<'_> {
    pub(super) fn stats(&self, knowledge: &Knowledge) -> ClientStats {
        let mut buckets = BTreeMap::new();
        let mut evidence = Evidence {
            sdks: self
                .agent
                .and_then(|a| knowledge.sdk(a))
                .into_iter()
                .collect(),
            user_agents: self.agent.map(str::to_owned).into_iter().collect(),
            ..Evidence::default()
        };
        let hours = BEGIN.hour().get() + 1..NOW.hour().get();
        let runs: Vec<_> = hours.step_by(self.every).map(Hour::new).collect();
        for request in &self.requests {
            for &run in &runs {
                count(request, run, knowledge, &mut buckets, &mut evidence.paths);
            }
            // As the ledger does: the first and the latest of each kind.
            let last = runs[runs.len() - 1];
            let is_new = |sample: &Sample| sample.cause != request.cause;
            if request.auth == Auth::V1 && evidence.samples.iter().all(is_new) {
                let kept = if last == runs[0] { 1 } else { 2 };
                let times = [runs[0], last].into_iter().take(kept);
                evidence
                    .samples
                    .extend(times.map(|run| self.sample(request, run)));
            }
        }
        ClientStats {
            client: self.client.clone(),
            first: moment(runs[0]),
            last: moment(runs[runs.len() - 1]),
            buckets,
            evidence,
        }
    }

    fn sample(&self, request: &Request<'_>, run: Hour) -> Sample {
        let is_known = !self.args.is_empty();
        let parents = [(812, "sh".to_owned()), (1, "systemd".to_owned())];
        Sample {
            time: moment(run),
            version: ImdsVersion::V1,
            cause: request.cause,
            response: request.response(),
            status: request.status,
            server: request.status.map(|_| request.server.to_owned()),
            method: request.method().into(),
            target: request.path.into(),
            user_agent: self.agent.map(str::to_owned),
            address: request.address.into(),
            pid: is_known.then_some(4711),
            executable: self.args.first().map(|&arg| arg.into()),
            args: self.args.iter().map(|&arg| arg.into()).collect(),
            ancestors: parents.into_iter().filter(|_| is_known).collect(),
            connector: None,
        }
    }
}

/// When a run calls: not at the full hour.
fn moment(run: Hour) -> Timestamp {
    run.begin() + Duration::from_micros(1_712_345_678)
}

fn count(
    request: &Request<'_>,
    run: Hour,
    knowledge: &Knowledge,
    buckets: &mut BTreeMap<BucketKey, i64>,
    paths: &mut BTreeMap<String, PathSeen>,
) {
    // Busy clients call more often by day.
    let hour = run.get();
    let more = match request.count {
        3.. if (7..19).contains(&(hour % 24)) => request.count + hour % 7,
        _ => 0,
    };
    let count = request.count + more;
    let class = knowledge.path_class(request.method(), request.path);
    let bucket = BucketKey {
        hour: run,
        auth: request.auth,
        response: request.response(),
        path: class,
        cause: request.cause,
    };
    *buckets.entry(bucket).or_default() += count;
    if request.auth == Auth::TokenRequest {
        return;
    }
    let seen = paths.entry(request.path.to_owned()).or_default();
    seen.class = class;
    match request.auth {
        Auth::V1 => seen.tokenless += count.unsigned_abs(),
        _ => seen.with_token += count.unsigned_abs(),
    }
}
