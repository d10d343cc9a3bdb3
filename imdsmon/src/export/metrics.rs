//! Metrics for Prometheus, with bounded cardinality.
//!
//! Prometheus requests `OpenMetrics`; the textfile collector and `promtool check metrics` read the
//! older text format.

use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::AtomicU64,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use strum::VariantArray as _;

use crate::{
    http::call::ImdsVersion,
    identity::client::Client,
    ledger::{ClientStats, Coverage, OTHERS},
    text::escape::is_unsafe,
    time::Timestamp,
    verdict::{HostVerdict, Verdict},
};

/// Clients with their own series; later ones are counted together.
const MAX_IMDSV1_CLIENTS: usize = 100;
/// A separate limit for clients without IMDSv1 calls, which must not displace the others.
const MAX_IMDSV2_CLIENTS: usize = 50;
const MAX_LABEL_CHARS: usize = 128;

/// Counters start at 0 with the process.
pub(crate) struct Metrics {
    registry: Registry,
    named: [HashSet<ClientLabels>; 2],
    calls: Family<CallLabels, Counter>,
    unparsed_bytes: Counter,
    clients: Family<VerdictLabel, Gauge>,
    client_verdict: Family<ClientVerdictLabels, Gauge>,
    verdict: Family<VerdictLabel, Gauge>,
    ready: Gauge,
    segments: Counter,
    lost_records: Counter,
    watched: Gauge<f64, AtomicU64>,
    canary: Family<NoLabels, Gauge>,
    canary_time: Family<NoLabels, Gauge<f64, AtomicU64>>,
    stored: Family<NoLabels, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    version: &'static str,
    outcome: &'static str,
    #[prometheus(flatten)]
    who: ClientLabels,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClientLabels {
    workload_kind: &'static str,
    workload: String,
    client: String,
    user: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClientVerdictLabels {
    verdict: &'static str,
    #[prometheus(flatten)]
    who: ClientLabels,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VerdictLabel {
    verdict: &'static str,
}

/// Unlike a plain gauge, a family without labels is exported only once it is set.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct NoLabels {}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("imdsmon"),
            named: [HashSet::new(), HashSet::new()],
            calls: Family::default(),
            unparsed_bytes: Counter::default(),
            clients: Family::default(),
            client_verdict: Family::default(),
            verdict: Family::default(),
            ready: Gauge::default(),
            segments: Counter::default(),
            lost_records: Counter::default(),
            watched: Gauge::default(),
            canary: Family::default(),
            canary_time: Family::default(),
            stored: Family::default(),
        };
        metrics.register();
        metrics
    }

    pub(crate) fn count(&mut self, delta: &[ClientStats]) {
        for entry in delta {
            self.unparsed_bytes.inc_by(entry.evidence.unparsed_bytes);
            // A reclassified call is subtracted and added again in one entry: it is not a new call.
            let mut sums: BTreeMap<_, i64> = BTreeMap::new();
            for (bucket, count) in &entry.buckets {
                let sum = sums
                    .entry((bucket.auth.version(), bucket.response))
                    .or_default();
                *sum = sum.saturating_add(*count);
            }
            for ((version, response), sum) in sums {
                if let Ok(calls @ 1..) = u64::try_from(sum) {
                    let labels = self.labels(&entry.client, version, response.into());
                    self.calls.get_or_create(&labels).inc_by(calls);
                }
            }
        }
    }

    /// Clients are in order of severity, worst first.
    pub(crate) fn set_verdicts<'c>(
        &mut self,
        host: HostVerdict,
        clients: impl IntoIterator<Item = (&'c Client, Verdict)>,
    ) {
        let clients: Vec<(&Client, Verdict)> = clients.into_iter().collect();
        self.name_verdicts(&clients);
        for &verdict in Verdict::VARIANTS {
            let count = clients.iter().filter(|(_, of)| *of == verdict).count();
            set(
                &self.clients,
                verdict.into(),
                i64::try_from(count).unwrap_or(i64::MAX),
            );
        }
        for &verdict in HostVerdict::VARIANTS {
            set(&self.verdict, verdict.into(), i64::from(verdict == host));
        }
        self.ready.set(i64::from(host == HostVerdict::Ready));
    }

    pub(crate) fn set_coverage(&mut self, coverage: &Coverage) {
        let Coverage { spans, self_test } = coverage;
        let (mut segments, mut lost) = (0_u64, 0_u64);
        for span in spans {
            segments = segments.saturating_add(span.segments);
            lost = lost.saturating_add(span.lost_records);
        }
        self.watched.set(coverage.observed().as_secs_f64());
        // Retention in the store must not decrease a counter.
        let more = |counter: &Counter, now: u64| counter.inc_by(now.saturating_sub(counter.get()));
        more(&self.segments, segments);
        more(&self.lost_records, lost);
        if let Some(test) = self_test {
            let has_passed = i64::from(test.result.is_ok());
            self.canary.get_or_create(&NoLabels {}).set(has_passed);
            let time = self.canary_time.get_or_create(&NoLabels {});
            time.set(test.time.since(Timestamp::default()).as_secs_f64());
        }
    }

    pub(crate) fn set_store_success(&mut self, works: bool) {
        self.stored
            .get_or_create(&NoLabels {})
            .set(i64::from(works));
    }

    /// The metrics in `OpenMetrics` 1.0.
    pub(crate) fn page(&self) -> String {
        let mut page = String::new();
        if let Err(error) = encode(&mut page, &self.registry) {
            tracing::error!(%error, "cannot encode the metrics");
        }
        page
    }

    /// Exports the verdicts of the worst clients, without READY.
    fn name_verdicts(&self, worst_first: &[(&Client, Verdict)]) {
        // Series of outdated verdicts must not remain.
        self.client_verdict.clear();
        let mut named = HashSet::new();
        for (client, verdict) in worst_first {
            if *verdict == Verdict::Ready || named.len() >= MAX_IMDSV1_CLIENTS {
                continue;
            }
            let who = ClientLabels::of(client);
            // Of clients with equal labels, the worst counts.
            if named.insert(who.clone()) {
                let labels = ClientVerdictLabels {
                    verdict: verdict.into(),
                    who,
                };
                self.client_verdict.get_or_create(&labels).set(1);
            }
        }
    }

    fn labels(
        &mut self,
        client: &Client,
        version: ImdsVersion,
        outcome: &'static str,
    ) -> CallLabels {
        let mut who = ClientLabels::of(client);
        let is_tokenless = version == ImdsVersion::V1;
        let room = if is_tokenless {
            MAX_IMDSV1_CLIENTS
        } else {
            MAX_IMDSV2_CLIENTS
        };
        let named = &mut self.named[usize::from(is_tokenless)];
        if named.len() < room {
            named.insert(who.clone());
        } else if !named.contains(&who) {
            let others = || OTHERS.to_owned();
            who = ClientLabels {
                workload_kind: OTHERS,
                workload: others(),
                client: others(),
                user: others(),
            };
        }
        CallLabels {
            version: version.into(),
            outcome,
            who,
        }
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        let build = Family::<BuildLabels, Gauge>::default();
        let version = env!("CARGO_PKG_VERSION");
        build.get_or_create(&BuildLabels { version }).set(1);
        r.register(
            "build_info",
            "Version of imdsmon as a label; always 1",
            build,
        );
        r.register(
            "calls",
            "Requests to IMDS: IMDSv1 calls (v1), IMDSv2 calls (v2) and token requests (token)",
            self.calls.clone(),
        );
        r.register(
            "unparsed_bytes",
            "Bytes sent to IMDS that are not an HTTP request",
            self.unparsed_bytes.clone(),
        );
        r.register(
            "clients",
            "Clients by verdict: the effect of HttpTokens=required on them",
            self.clients.clone(),
        );
        r.register(
            "client_verdict",
            "Always 1, with the verdict of a client as a label; clients that are ready are left out",
            self.client_verdict.clone(),
        );
        r.register(
            "verdict",
            "1 for the verdict on this instance, 0 for the others",
            self.verdict.clone(),
        );
        r.register(
            "ready",
            "Whether this instance can require IMDSv2; 0 if not, or not known",
            self.ready.clone(),
        );
        r.register(
            "segments",
            "TCP segments with payload to or from IMDS",
            self.segments.clone(),
        );
        r.register(
            "lost_records",
            "Records dropped because the ring buffer was full; calls may be missing",
            self.lost_records.clone(),
        );
        r.register(
            "watched_seconds",
            "Observation period of this instance, over all runs in the store",
            self.watched.clone(),
        );
        r.register(
            "canary_success",
            "Whether the last canary check succeeded",
            self.canary.clone(),
        );
        r.register(
            "canary_last_run_timestamp_seconds",
            "Unix time of the last canary check",
            self.canary_time.clone(),
        );
        r.register(
            "store_success",
            "Whether the last commit to the store succeeded; if not, counts stay in memory",
            self.stored.clone(),
        );
    }
}

impl ClientLabels {
    fn of(client: &Client) -> Self {
        Self {
            workload_kind: client.workload.kind.into(),
            workload: label(&client.workload.name),
            client: label(&client.program),
            user: label(&client.user),
        }
    }
}

fn set(family: &Family<VerdictLabel, Gauge>, verdict: &'static str, value: i64) {
    family.get_or_create(&VerdictLabel { verdict }).set(value);
}

/// Untrusted text as a label: bounded, without terminal control characters. Prometheus accepts any
/// UTF-8.
fn label(text: &str) -> String {
    let visible = |c: char| if is_unsafe(c) { '\u{fffd}' } else { c };
    text.chars().take(MAX_LABEL_CHARS).map(visible).collect()
}

/// Converts a page to the older text format, version 0.0.4.
pub(crate) fn to_text_format(page: &str) -> String {
    let mut text = String::new();
    let mut help = None;
    for line in page.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
            continue;
        }
        if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|described| described.split_once(' '))
        {
            // The older format names a counter like its samples.
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take_if(|(of, _)| *of == name) {
                text.push_str(&["# HELP ", name, suffix, " ", help, "\n"].concat());
            }
            text.push_str(&["# TYPE ", name, suffix, " ", kind, "\n"].concat());
        } else if line != "# EOF" {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests;
