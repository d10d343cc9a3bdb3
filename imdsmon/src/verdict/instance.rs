//! The whole instance: the answer, in a word and in a sentence, and what makes it doubtful.

use std::{cmp::Reverse, collections::BTreeMap, fmt::Write as _, time::Duration};

use crate::verdict::{
    AccessAfter, Assessed, Assessment, Confidence, HostVerdict, Policy, call_counts::CallCounts,
    judge::judge, rule::Rule,
};
use crate::{
    event::UnixNanos,
    knowledge::{Knowledge, PathClass},
    ledger::{
        ClientStats, Coverage,
        coverage::{Doubt, DoubtKind},
    },
};

/// Clients that the sentence names.
const NAMED: usize = 3;
/// Characters of a name in the sentence.
const NAME: usize = 80;
/// Share of the window that may be without watching, as one part of so many.
const GAPS: UnixNanos = 10;
/// How long ago watching may have ended.
const STALE: UnixNanos = 3600 * 1_000_000_000;

/// Judges every client, and the instance by them.
pub fn assess<'a>(
    entries: impl IntoIterator<Item = &'a ClientStats>,
    coverage: &Coverage,
    knowledge: &Knowledge,
    policy: &Policy,
) -> Assessment<'a> {
    let judged = |entry: &'a ClientStats| Assessed {
        entry,
        judgement: judge(entry, knowledge),
        tally: CallCounts::of(entry),
    };
    let mut clients: Vec<_> = entries.into_iter().map(judged).collect();
    clients.sort_by(|a, b| {
        // What is lost comes before how: the sentence names the first few.
        let rank = |judged: &Assessed<'_>| {
            let judgement = &judged.judgement;
            let lost = judgement
                .needs_action
                .then_some(judged.tally.tokenless_class);
            (Reverse(lost), judgement.verdict)
        };
        let size = |judged: &Assessed<'_>| {
            let tally = &judged.tally;
            (
                tally.tokenless_class,
                tally.served_tokenless() + tally.refused(),
            )
        };
        rank(a)
            .cmp(&rank(b))
            .then_with(|| size(b).cmp(&size(a)))
            .then_with(|| a.entry.client.cmp(&b.entry.client))
    });
    let doubts = doubts(&clients, coverage, policy);
    let verdict = if clients.iter().any(|client| client.judgement.needs_action) {
        HostVerdict::NotReady
    } else if doubts.is_empty() {
        HostVerdict::Ready
    } else {
        HostVerdict::Inconclusive
    };
    let sentence = match verdict {
        HostVerdict::NotReady => not_ready(&clients),
        HostVerdict::Ready => ready(&clients, coverage),
        HostVerdict::Inconclusive => inconclusive(&clients, &doubts),
    };
    Assessment {
        verdict,
        sentence,
        doubts,
        clients,
    }
}

fn doubts(clients: &[Assessed<'_>], coverage: &Coverage, policy: &Policy) -> Vec<String> {
    let mut doubts = Vec::new();
    watching(coverage, policy, &mut doubts);
    let calls = |count: u64| format!("{count} call{}", if count == 1 { "" } else { "s" });
    let unknown = clients.iter().filter(|c| c.entry.client.is_unknown());
    let unknown: u64 = unknown
        .map(|c| c.tally.served_tokenless() + c.tally.refused())
        .sum();
    if unknown > 0 {
        doubts.push(format!(
            "{} without a token came from processes that could not be found out.",
            calls(unknown)
        ));
    }
    let unparsed = clients.iter().map(|c| c.entry.evidence.unparsed_bytes);
    let unparsed = unparsed.fold(0, u64::saturating_add);
    if unparsed > 0 {
        doubts.push(format!(
            "{unparsed} bytes that were sent to IMDS are no request."
        ));
    }
    let nameless = clients
        .iter()
        .filter(|c| c.judgement.rule == Rule::NamelessServer.name());
    let nameless: u64 = nameless.map(|c| c.tally.not_imds).sum();
    if nameless > 0 {
        doubts.push(format!(
            "{} were answered by something that does not say that it is IMDS, or another cloud is \
             this.",
            calls(nameless)
        ));
    }
    let answered: u64 = clients.iter().map(|c| c.tally.answered).sum();
    let silent: u64 = clients.iter().map(|c| c.tally.silent).sum();
    if answered == 0 && silent > 0 {
        doubts.push(format!(
            "{} without a token, and no answer to any call was seen.",
            calls(silent)
        ));
    }
    if clients.is_empty() && coverage.self_test.is_none() {
        doubts.push("No call was seen, and no self-test showed that one would be.".into());
    }
    doubts
}

/// What limits what was watched.
fn watching(coverage: &Coverage, policy: &Policy, doubts: &mut Vec<String>) {
    let Some((from, to)) = coverage.window() else {
        doubts.push("Nobody has watched.".into());
        return;
    };
    let observed = coverage.observed();
    let wanted = UnixNanos::try_from(policy.min_window.as_nanos()).unwrap_or(UnixNanos::MAX);
    if observed < wanted {
        doubts.push(format!(
            "It was watched for {}, less than the {} that are wanted.",
            length(observed),
            length(wanted)
        ));
    }
    let gaps = to.saturating_sub(from).saturating_sub(observed);
    if gaps > to.saturating_sub(from) / GAPS {
        doubts.push(format!("For {} in between nobody watched.", length(gaps)));
    }
    if let Some(now) = policy.now {
        let since = now.saturating_sub(to);
        if since > STALE {
            doubts.push(format!("Watching ended {} ago.", length(since)));
        }
    }
    let spans = &coverage.spans;
    let lost = spans
        .iter()
        .map(|span| span.lost_records)
        .fold(0, u64::saturating_add);
    if lost > 0 {
        doubts.push(format!(
            "{lost} record{} lost: calls may be missing.",
            if lost == 1 { " was" } else { "s were" }
        ));
    }
    let broken = spans.iter().filter(|span| !span.is_complete).count();
    if broken > 0 {
        doubts.push(format!(
            "{broken} time{} of watching broke off: what came after is not known.",
            if broken == 1 { "" } else { "s" }
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
}

fn not_ready(clients: &[Assessed<'_>]) -> String {
    let losers: Vec<_> = clients
        .iter()
        .filter(|c| c.judgement.needs_action)
        .collect();
    let count = |n: usize| format!("{n} client{}", if n == 1 { "" } else { "s" });
    let refused = losers
        .iter()
        .filter(|c| c.tally.served_tokenless() == 0 && c.tally.refused() > 0)
        .count();
    let mut sentence = if refused == losers.len() {
        format!(
            "{} {} refused already",
            count(refused),
            if refused == 1 { "is" } else { "are" }
        )
    } else {
        let worst = losers.iter().map(|c| c.tally.tokenless_class).max();
        let worst = worst.unwrap_or_default();
        let worst_count = losers
            .iter()
            .filter(|c| c.tally.tokenless_class == worst)
            .count();
        if worst_count == losers.len() || worst <= PathClass::Description {
            format!(
                "{} would lose access to {}",
                count(losers.len()),
                thing(worst)
            )
        } else {
            format!(
                "{} would lose access, {worst_count} of them to {}",
                count(losers.len()),
                thing(worst)
            )
        }
    };
    let names = losers.iter().take(NAMED).map(|client| {
        let name = client.entry.client.name();
        name.chars().take(NAME).collect::<String>()
    });
    let _ = write!(sentence, ": {}", names.collect::<Vec<_>>().join(", ")); // cannot fail
    if losers.len() > NAMED {
        let _ = write!(sentence, " and {} more", losers.len() - NAMED);
    }
    sentence.push('.');
    sentence
}

fn ready(clients: &[Assessed<'_>], coverage: &Coverage) -> String {
    let watched = length(coverage.observed());
    if clients.is_empty() {
        return format!("Nobody called in {watched}, and a self-test showed that calls are heard.");
    }
    let one = clients.len() == 1;
    let who = if one {
        "The one client that was".to_owned()
    } else {
        format!("All {} clients that were", clients.len())
    };
    let needs = if one { "needs" } else { "need" };
    let mut sentence = format!("{who} seen in {watched} {needs} no call without a token");
    let failing = clients
        .iter()
        .filter(|c| c.judgement.outlook != AccessAfter::All);
    match failing.count() {
        0 => {}
        1 => sentence.push_str("; one of them gets no data, with or without the flip"),
        n => {
            let _ = write!(
                sentence,
                "; {n} of them get no data, with or without the flip"
            );
        }
    }
    sentence.push('.');
    sentence
}

fn inconclusive(clients: &[Assessed<'_>], doubts: &[String]) -> String {
    let so_far = if clients.is_empty() {
        "No call was seen"
    } else {
        "Nobody who was seen needs a change"
    };
    let doubt = doubts
        .first()
        .map_or("", |doubt| doubt.trim_end_matches('.'));
    format!(
        "{so_far}, but that is not enough to call it ready: {}.",
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

/// A time in the largest units that matter.
fn length(nanos: UnixNanos) -> String {
    let seconds = nanos.max(0) / 1_000_000_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..172_800 if minutes == 0 => format!("{} h", seconds / 3600),
        3600..172_800 => format!("{} h {minutes} min", seconds / 3600),
        _ => format!("{days} d {hours} h"),
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
    /// The most sensitive thing that the client asked for without a token.
    pub fn tokenless_class(&self) -> PathClass {
        self.tally.tokenless_class
    }

    /// Whether another reading of the same calls is possible.
    pub fn is_guess(&self) -> bool {
        self.judgement.confidence == Confidence::Likely
    }
}
