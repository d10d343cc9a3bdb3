//! Holds what the monitor said against what was done: every request once, as what it was.

use crate::client::Kind;
use anyhow::{Context as _, Result, bail};
use imdsmon::sandbox::RequestCounts;
use serde_json::Value;
use std::{
    fmt,
    io::{BufRead, BufReader, Read},
};

/// What came of the requests of one plan.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests without a token that came out as such.
    pub v1: u32,
    /// With a token.
    pub v2: u32,
    /// For a token.
    pub token: u32,
    /// Requests that did not come out.
    pub lost: u32,
    /// Requests that came out again.
    pub duplicate: u32,
    /// Requests that came out as something else, or without their answer.
    pub wrong: u32,
    /// The first that was wrong.
    pub example: Option<String>,
}

impl Tally {
    /// Reads the monitor's lines. Those of processes other than `pid` do not count.
    pub fn read(lines: impl Read, pid: u32, count: u32) -> Result<Self> {
        let mut tally = Self::default();
        let mut seen = vec![false; usize::try_from(count).context("count")?];
        for line in BufReader::with_capacity(1 << 20, lines).lines() {
            let line = line.context("read the monitor's lines")?;
            let call: Value = serde_json::from_str(&line)
                .with_context(|| format!("the monitor wrote {line:?}"))?;
            if call["process.pid"] != pid {
                continue;
            }
            let number = number(&call).filter(|number| *number < count);
            let place = number.and_then(|number| seen.get_mut(usize::try_from(number).ok()?));
            match (number, place) {
                (Some(_), Some(true)) => tally.duplicate += 1,
                (Some(number), Some(seen)) if is_right(&call, Kind::of(number)) => {
                    *seen = true;
                    match Kind::of(number) {
                        Kind::V1 => tally.v1 += 1,
                        Kind::V2 => tally.v2 += 1,
                        Kind::Token => tally.token += 1,
                    }
                }
                (_, seen) => {
                    if let Some(seen) = seen {
                        *seen = true;
                    }
                    tally.wrong += 1;
                    tally.example.get_or_insert(line);
                }
            }
        }
        let lost = seen.iter().filter(|seen| !**seen).count();
        tally.lost = u32::try_from(lost).context("count")?;
        Ok(tally)
    }

    /// Fails unless all came out, and as the server itself has seen them.
    pub fn check(
        &self,
        server: &RequestCounts,
        before: &RequestCounts,
        summary: &str,
    ) -> Result<()> {
        if self.lost + self.duplicate + self.wrong > 0 {
            bail!("{self}; {}", summary.trim());
        }
        let seen = [
            server.v1 - before.v1,
            server.v2 - before.v2,
            server.token_requests - before.token_requests,
        ];
        if seen != [self.v1, self.v2, self.token].map(u64::from) {
            bail!("the server has seen {seen:?}; {self}");
        }
        if ::tests::watch::lost(summary) > 0 {
            bail!("the kernel lost records: {}", summary.trim());
        }
        Ok(())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            v1,
            v2,
            token,
            lost,
            duplicate,
            wrong,
            example,
        } = self;
        write!(
            f,
            "v1={v1} v2={v2} token={token} lost={lost} duplicate={duplicate} wrong={wrong}"
        )?;
        example
            .iter()
            .try_for_each(|example| write!(f, " as in {example}"))
    }
}

/// The number that the request carried in its query.
fn number(call: &Value) -> Option<u32> {
    call["url.query"].as_str()?.strip_prefix("n=")?.parse().ok()
}

fn is_right(call: &Value, kind: Kind) -> bool {
    let (version, method, path, token) = match kind {
        Kind::V1 => ("v1", "GET", "/latest/meta-data/instance-id", Value::Null),
        Kind::V2 => (
            "v2",
            "GET",
            "/latest/meta-data/instance-id",
            "present".into(),
        ),
        Kind::Token => ("token", "PUT", "/latest/api/token", Value::Null),
    };
    call["event.name"] == "imds.call"
        && call["imds.version"] == version
        && call["imds.token"] == token
        && call["imds.outcome"] == "answered"
        && call["http.request.method"] == method
        && call["http.response.status_code"] == 200
        && call["url.path"] == path
        && call["server.address"] == "169.254.169.254"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u32, version: &str, method: &str, path: &str, token: &str) -> String {
        format!(
            r#"{{"event.name":"imds.call","process.pid":7,"url.query":"n={number:08}","imds.version":"{version}","imds.token":{token},"imds.outcome":"answered","http.request.method":"{method}","http.response.status_code":200,"url.path":"{path}","server.address":"169.254.169.254"}}"#
        )
    }

    #[test]
    fn each_request_is_wanted_once_and_as_what_it_was() {
        let (get, put) = ("/latest/meta-data/instance-id", "/latest/api/token");
        let v1 = line(0, "v1", "GET", get, "null");
        let token = line(1, "token", "PUT", put, "null");
        let wrong = line(2, "v1", "GET", get, "null");
        let lines = [&v1, &token, &token, &wrong].map(String::as_str).join("\n");
        let tally = Tally::read(lines.as_bytes(), 7, 4).unwrap();
        let expected = Tally {
            v1: 1,
            token: 1,
            duplicate: 1,
            wrong: 1,
            lost: 1,
            example: Some(wrong),
            v2: 0,
        };
        assert_eq!(tally, expected);
        assert!(
            tally
                .check(&RequestCounts::default(), &RequestCounts::default(), "")
                .is_err()
        );
    }

    #[test]
    fn what_others_do_is_not_counted() {
        let tally = Tally::read(line(0, "v1", "GET", "/", "null").as_bytes(), 8, 1).unwrap();
        assert_eq!((tally.lost, tally.wrong), (1, 0));
    }
}
