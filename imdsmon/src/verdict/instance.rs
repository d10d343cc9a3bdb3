//! The verdict on the instance, in a sentence, and what makes it uncertain.

use std::{cmp::Reverse, collections::BTreeMap, fmt::Write as _, time::Duration};

use crate::time::Human;
use crate::verdict::{
    AccessAfter, Assessed, Assessment, HostVerdict, Policy,
    call_counts::CallCounts,
    judge::judge,
    reason::{plural, was},
    rule::Rule,
};
use crate::{
    knowledge::{Knowledge, PathClass},
    ledger::{
        ClientStats, Coverage,
        coverage::{Doubt, DoubtKind},
    },
};

/// Clients that the sentence names.
const MAX_NAMES: usize = 3;
/// Characters of a name in the sentence.
const MAX_NAME_CHARS: usize = 80;
/// Gaps may take at most one part in this many of the observation period.
const MAX_GAP_SHARE: u32 = 10;
/// How long ago monitoring may have ended.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// Assesses the instance from the verdict on each client.
pub fn assess<'a>(
    all: impl IntoIterator<Item = &'a ClientStats>,
    coverage: &Coverage,
    knowledge: &Knowledge,
    policy: &Policy,
) -> Assessment<'a> {
    let assessed = |stats: &'a ClientStats| Assessed {
        stats,
        judgement: judge(stats, knowledge),
        counts: CallCounts::of(stats),
    };
    let mut clients: Vec<_> = all.into_iter().map(assessed).collect();
    clients.sort_by(|a, b| {
        // By the class that breaks, then by verdict: the sentence names the first few.
        let rank = |client: &Assessed<'_>| {
            let judgement = &client.judgement;
            let lost = judgement
                .needs_action
                .then_some(client.counts.tokenless_class);
            (Reverse(lost), judgement.verdict)
        };
        let size = |client: &Assessed<'_>| (client.counts.tokenless_class, client.v1_calls());
        rank(a)
            .cmp(&rank(b))
            .then_with(|| size(b).cmp(&size(a)))
            .then_with(|| a.stats.client.cmp(&b.stats.client))
    });
    let mut doubts = coverage_doubts(coverage, policy);
    doubts.extend(call_doubts(&clients, coverage));
    let affected: Vec<_> = clients
        .iter()
        .filter(|client| client.judgement.needs_action)
        .collect();
    let (verdict, sentence) = if !affected.is_empty() {
        (HostVerdict::NotReady, not_ready(&affected))
    } else if let Some(doubt) = doubts.first() {
        (HostVerdict::Inconclusive, inconclusive(&clients, doubt))
    } else {
        (HostVerdict::Ready, ready(&clients, coverage))
    };
    Assessment {
        verdict,
        sentence,
        doubts,
        clients,
    }
}

fn coverage_doubts(coverage: &Coverage, policy: &Policy) -> Vec<String> {
    let Some((from, to)) = coverage.window() else {
        return vec!["No capture data.".into()];
    };
    let mut doubts = Vec::new();
    let observed = coverage.observed();
    let wanted = policy.min_window;
    if observed < wanted {
        doubts.push(format!(
            "Observed for {}; at least {} is required.",
            Human(observed),
            Human(wanted)
        ));
    }
    let gaps = to.since(from).saturating_sub(observed);
    if gaps > to.since(from) / MAX_GAP_SHARE {
        doubts.push(format!(
            "Capture was interrupted for {} in total.",
            Human(gaps)
        ));
    }
    if let Some(now) = policy.now {
        let since = now.since(to);
        if since > MAX_AGE {
            doubts.push(format!("Capture ended {} ago.", Human(since)));
        }
    }
    let spans = &coverage.spans;
    let lost = spans.iter().map(|span| span.lost_records);
    let lost = lost.fold(0, u64::saturating_add);
    if lost > 0 {
        doubts.push(format!(
            "{} {} dropped; calls may be missing.",
            plural(lost, "ring buffer record"),
            was(lost)
        ));
    }
    let broken = spans.iter().filter(|span| !span.is_complete).count() as u64;
    if broken > 0 {
        doubts.push(format!(
            "{} ended unexpectedly; later calls may be missing.",
            plural(broken, "capture run")
        ));
    }
    let mut counts: BTreeMap<&DoubtKind, u64> = BTreeMap::new();
    for doubt in spans.iter().flat_map(|span| &span.doubts) {
        let count = counts.entry(&doubt.kind).or_default();
        *count = count.saturating_add(doubt.count);
    }
    for (kind, count) in counts {
        let kind = kind.clone();
        doubts.push(format!("{}.", Doubt { count, kind }));
    }
    if let Some(Err(why)) = coverage.self_test.as_ref().map(|test| &test.result) {
        doubts.push(format!("The self-test failed: {why}."));
    }
    doubts
}

fn call_doubts(clients: &[Assessed<'_>], coverage: &Coverage) -> Vec<String> {
    let sum = |count: fn(&Assessed<'_>) -> u64| clients.iter().map(count).sum::<u64>();
    let mut doubts = Vec::new();
    let unknown = sum(|c| {
        if c.stats.client.is_unknown() {
            c.v1_calls()
        } else {
            0
        }
    });
    if unknown > 0 {
        doubts.push(format!(
            "{} came from processes that could not be identified.",
            plural(unknown, "IMDSv1 call")
        ));
    }
    let unparsed = clients.iter().map(|c| c.stats.evidence.unparsed_bytes);
    let unparsed = unparsed.fold(0, u64::saturating_add);
    if unparsed > 0 {
        doubts.push(format!(
            "{} sent to IMDS {} not part of a valid HTTP request.",
            plural(unparsed, "byte"),
            was(unparsed)
        ));
    }
    let nameless = sum(|c| {
        let is_nameless = c.judgement.rule == Rule::NamelessServer;
        if is_nameless { c.counts.not_imds } else { 0 }
    });
    if nameless > 0 {
        doubts.push(format!(
            "{} {} answered without `Server: EC2ws`: a proxy is in the path, or this is not an \
             EC2 instance.",
            plural(nameless, "call"),
            was(nameless)
        ));
    }
    let answered = sum(|c| c.counts.with_response);
    let silent = sum(|c| c.counts.no_response);
    if answered == 0 && silent > 0 {
        doubts.push(format!(
            "{} and no response to any call.",
            plural(silent, "IMDSv1 call")
        ));
    }
    if clients.is_empty() && coverage.self_test.is_none() {
        doubts.push("No calls were captured, and no self-test was run.".into());
    }
    doubts
}

fn not_ready(affected: &[&Assessed<'_>]) -> String {
    let total = affected.len();
    let clients = plural(total as u64, "client");
    let is_rejected =
        |c: &&&Assessed<'_>| c.counts.served_tokenless() == 0 && c.counts.rejected_v1() > 0;
    let mut sentence = if affected.iter().filter(is_rejected).count() == total {
        let are = if total == 1 { "is" } else { "are" };
        format!("{clients} {are} already rejected")
    } else {
        let worst = affected.iter().map(|c| c.counts.tokenless_class).max();
        let worst = worst.unwrap_or_default();
        let is_worst = |c: &&&Assessed<'_>| c.counts.tokenless_class == worst;
        let worst_count = affected.iter().filter(is_worst).count();
        let thing = thing(worst);
        if worst_count == total || worst <= PathClass::Description {
            format!("{clients} would lose access to {thing}")
        } else {
            format!("{clients} would lose access, {worst_count} of them to {thing}")
        }
    };
    let names = affected.iter().take(MAX_NAMES).map(|client| {
        let name = client.stats.client.name();
        name.chars().take(MAX_NAME_CHARS).collect::<String>()
    });
    let _ = write!(sentence, ": {}", names.collect::<Vec<_>>().join(", ")); // cannot fail
    if total > MAX_NAMES {
        let _ = write!(sentence, " and {} more", total - MAX_NAMES);
    }
    sentence.push('.');
    sentence
}

fn ready(clients: &[Assessed<'_>], coverage: &Coverage) -> String {
    let observed = Human(coverage.observed());
    let needs = match clients.len() {
        0 => return format!("No calls in {observed}, and the self-test passed."),
        1 => format!("The only client observed in {observed} does not need IMDSv1"),
        count => format!("None of the {count} clients observed in {observed} needs IMDSv1"),
    };
    let failing = clients
        .iter()
        .filter(|c| c.judgement.access_after != AccessAfter::All);
    match failing.count() {
        0 => format!("{needs}."),
        1 => format!("{needs}; 1 of them gets no data even now."),
        count => format!("{needs}; {count} of them get no data even now."),
    }
}

fn inconclusive(clients: &[Assessed<'_>], doubt: &str) -> String {
    let so_far = if clients.is_empty() {
        "No calls were captured"
    } else {
        "No observed client needs a change"
    };
    format!(
        "{so_far}, but the data is not sufficient: {}",
        lower_first(doubt)
    )
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

fn thing(class: PathClass) -> &'static str {
    match class {
        PathClass::Credentials => "credentials",
        PathClass::UserData => "user data",
        PathClass::Identity => "the instance's identity",
        PathClass::Description | PathClass::OtherCloud | PathClass::Token => "metadata",
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_window: Duration::from_secs(24 * 3600),
            now: None,
        }
    }
}

impl Assessed<'_> {
    /// `IMDSv1` calls that IMDS served or rejected.
    fn v1_calls(&self) -> u64 {
        self.counts.served_tokenless() + self.counts.rejected_v1()
    }
}
