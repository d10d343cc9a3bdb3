//! Samples and names of one client, bounded: a client can neither fill the memory nor displace the
//! most severe evidence.

use std::{fmt::Write as _, time::Duration};

use crate::ledger::client_stats::{BucketKey, Cause, Evidence, PathSeen, ResponseClass, Sample};
use crate::time::Timestamp;
use crate::{
    event::bytes::ByteString,
    http::call::{Call, ImdsVersion},
    identity::{Caller, Process},
    knowledge::{PathClass, Sdk},
};

/// User-Agents of one client, and SDKs.
const MAX_AGENTS: usize = 16;
/// Paths of one client.
const MAX_PATHS: usize = 64;
/// Characters of a User-Agent, a path or a name.
const MAX_TEXT_CHARS: usize = 256;
/// Characters of a sample's path with its query.
const MAX_TARGET_CHARS: usize = 512;
/// Bytes of a sample's arguments in total.
const MAX_ARGS_BYTES: usize = 1024;
/// Time between two samples of one kind.
const MIN_SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Ancestors of a sample.
const MAX_ANCESTORS: usize = 8;

impl Evidence {
    /// Adds the names and the path of a call.
    pub(super) fn note(&mut self, call: &Call, sdk: Option<&Sdk>, class: PathClass) {
        if let Some(agent) = &call.request.user_agent {
            let agent = cut(agent, MAX_TEXT_CHARS);
            self.more_agents += u64::from(!include(&mut self.user_agents, agent));
        }
        if let Some(sdk) = sdk {
            self.more_agents += u64::from(!include(&mut self.sdks, sdk.clone()));
        }
        let version = call.request.auth.version();
        let seen = PathSeen {
            class,
            tokenless: u64::from(version == ImdsVersion::V1),
            with_token: u64::from(version == ImdsVersion::V2),
        };
        if version != ImdsVersion::Token {
            self.note_path(cut(&call.request.path, MAX_TEXT_CHARS), seen);
        }
    }

    /// Whether to keep a call of this kind as a sample: few kinds, the most severe, and the latest.
    pub(super) fn needs_sample(&self, kind: &BucketKey, time: Timestamp) -> bool {
        let same = |s: &&Sample| (s.version, s.cause) == (kind.auth.version(), kind.cause);
        let kept = self.samples.iter().filter(same);
        let weight = (kind.response == ResponseClass::Ok, kind.path);
        kept.clone().count() < 2
            || kept.clone().all(|sample| self.weight(sample) < weight)
            || kept
                .clone()
                .all(|sample| time.since(sample.time) >= MIN_SAMPLE_INTERVAL)
    }

    /// Adds a sample; of each kind the most severe and the latest stay.
    pub(super) fn note_sample(&mut self, sample: Sample) {
        let is_same = |other: &Sample| {
            (other.time, other.pid, &other.target) == (sample.time, sample.pid, &sample.target)
                && other.version == sample.version
        };
        self.samples.retain(|other| !is_same(other));
        let is_kind =
            |other: &Sample| (other.version, other.cause) == (sample.version, sample.cause);
        let (mut kind, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.samples)
            .into_iter()
            .partition(is_kind);
        self.samples = rest;
        kind.push(sample);
        kind.sort_by_key(|sample| (sample.time, sample.pid));
        let latest = kind.pop();
        let weight = |sample: &Sample| self.weight(sample);
        // Of equals, the earlier: the result does not depend on the order of merges.
        let best = kind.into_iter().rev().max_by_key(weight);
        self.samples.extend(best.into_iter().chain(latest));
        self.samples
            .sort_by(|a, b| (a.time, a.pid, &a.target).cmp(&(b.time, b.pid, &b.target)));
    }

    /// Corrects the cause of a sample after later evidence.
    pub(super) fn correct(&mut self, time: Timestamp, pid: u32, from: Cause, cause: Cause) {
        let is_match = |s: &Sample| {
            s.version == ImdsVersion::V1 && (s.time, s.pid, s.cause) == (time, Some(pid), from)
        };
        let meant: Vec<Sample> = self.samples.extract_if(.., |s| is_match(s)).collect();
        for sample in meant {
            self.note_sample(Sample { cause, ..sample });
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        let Self {
            sdks,
            user_agents,
            paths,
            more_paths,
            more_agents,
            samples,
            unparsed_bytes,
        } = other;
        for sdk in sdks {
            self.more_agents += u64::from(!include(&mut self.sdks, sdk));
        }
        for agent in user_agents {
            self.more_agents += u64::from(!include(&mut self.user_agents, agent));
        }
        for (path, seen) in paths {
            self.note_path(path, seen);
        }
        self.more_paths = self.more_paths.saturating_add(more_paths);
        self.more_agents = self.more_agents.saturating_add(more_agents);
        self.unparsed_bytes = self.unparsed_bytes.saturating_add(unparsed_bytes);
        for sample in samples {
            self.note_sample(sample);
        }
    }

    fn note_path(&mut self, path: String, seen: PathSeen) {
        let calls = |seen: &PathSeen| seen.tokenless.saturating_add(seen.with_token);
        if !self.paths.contains_key(&path) && self.paths.len() >= MAX_PATHS {
            // A process can request any number of harmless paths: these are evicted first.
            let least = self
                .paths
                .iter()
                .min_by_key(|(_, seen)| (seen.class, calls(seen)));
            let Some((least, _)) = least.filter(|(_, least)| least.class < seen.class) else {
                self.more_paths = self.more_paths.saturating_add(calls(&seen));
                return;
            };
            let least = least.clone();
            let gone = self.paths.remove(&least).unwrap_or_default();
            self.more_paths = self.more_paths.saturating_add(calls(&gone));
        }
        let sum = self.paths.entry(path).or_default();
        sum.class = seen.class;
        sum.tokenless = sum.tokenless.saturating_add(seen.tokenless);
        sum.with_token = sum.with_token.saturating_add(seen.with_token);
    }

    fn weight(&self, sample: &Sample) -> (bool, PathClass) {
        let path = sample.target.split('?').next().unwrap_or_default();
        let class = self
            .paths
            .get(&cut(path, MAX_TEXT_CHARS))
            .map(|seen| seen.class);
        (
            sample.response == ResponseClass::Ok,
            class.unwrap_or_default(),
        )
    }
}

impl Sample {
    pub(super) fn of(call: &Call, caller: &Caller, cause: Cause, response: ResponseClass) -> Self {
        let mut target = cut(&call.request.path, MAX_TARGET_CHARS);
        if let Some(query) = &call.request.query {
            let room = MAX_TARGET_CHARS.saturating_sub(target.chars().count());
            let _ = write!(target, "?{}", cut(query, room)); // to a string: cannot fail
        }
        let process = caller.process.as_deref();
        let connector = caller.connector.as_deref();
        Self {
            time: call.time,
            version: call.request.auth.version(),
            cause,
            response,
            status: call.response.status(),
            server: call
                .response
                .server()
                .map(|server| cut(server, MAX_TEXT_CHARS)),
            method: cut(&call.request.method, MAX_TEXT_CHARS),
            target,
            user_agent: call
                .request
                .user_agent
                .as_deref()
                .map(|agent| cut(agent, MAX_TEXT_CHARS)),
            address: call.server.address().to_string(),
            pid: process.map(|process| process.pid),
            executable: process.map(|p| {
                let name = p.exe.as_ref().unwrap_or(&p.name);
                cut(&name.to_text(), MAX_TEXT_CHARS)
            }),
            args: process.map(arguments).unwrap_or_default(),
            ancestors: process.map(ancestors).unwrap_or_default(),
            connector: connector.map(arguments),
        }
    }
}

fn arguments(process: &Process) -> Vec<String> {
    let mut room = MAX_ARGS_BYTES;
    let mut args = Vec::new();
    for arg in &process.args {
        if room == 0 {
            break;
        }
        let arg = ByteString::from(&arg[..arg.len().min(room)]).to_text();
        room = room.saturating_sub(arg.len() + 1);
        args.push(arg);
    }
    args
}

fn ancestors(process: &Process) -> Vec<(u32, String)> {
    let ancestors = process.ancestors.iter().take(MAX_ANCESTORS);
    ancestors
        .map(|(pid, name)| (*pid, cut(&name.to_text(), MAX_TEXT_CHARS)))
        .collect()
}

fn cut(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}

/// Adds an item unless it is there; `false` if there is no room for it.
fn include<T: PartialEq>(list: &mut Vec<T>, item: T) -> bool {
    if list.contains(&item) {
        return true;
    }
    let has_room = list.len() < MAX_AGENTS;
    if has_room {
        list.push(item);
    }
    has_room
}
