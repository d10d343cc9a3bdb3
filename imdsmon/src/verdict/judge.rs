//! One client: which rule fits.

use super::{Confidence, Judgement, Verdict, reason::Case, remedy, rule::Rule};
use crate::verdict::call_counts::CallCounts;
use crate::{
    knowledge::{Knowledge, PathClass, ProgramFacts, Sdk, SdkFacts, version::Version},
    ledger::{
        Cause, ClientStats, Sample,
        client_stats::{PathSeen, is_ec2},
    },
};

/// What flipping the instance means for a client.
pub fn judge(entry: &ClientStats, knowledge: &Knowledge) -> Judgement {
    let tally = CallCounts::of(entry);
    let made_with = ClientFacts::of(entry, knowledge);
    let (rule, confidence) = rule(entry, &tally, &made_with);
    let case = Case {
        rule,
        tally: &tally,
        client: &entry.client,
        made_with: &made_with,
    };
    Judgement {
        verdict: rule.verdict(),
        rule: rule.name(),
        // Who cannot be named cannot be told to do something: that is a doubt about the host.
        needs_action: !entry.client.is_unknown() && loses(rule, &tally),
        confidence,
        outlook: rule.outlook(tally.put_failed() > 0),
        reason: case.reason(),
        remedy: remedy::of(&case),
    }
}

/// Whether the flip takes something from the client that it gets now, or has taken it already.
/// What fails with or without the flip needs mending, but not before the flip.
fn loses(rule: Rule, tally: &CallCounts) -> bool {
    match rule.verdict() {
        Verdict::Breaks | Verdict::Rejected | Verdict::Mixed | Verdict::FallsBack => true,
        Verdict::EmptyToken => tally.served_tokenless() + tally.refused() > 0,
        Verdict::NotImds | Verdict::Survives | Verdict::Probe | Verdict::Ready => false,
    }
}

/// What a client's tokenless calls are made with.
pub(super) struct ClientFacts<'a> {
    /// The SDK or tool that they name.
    pub sdk: Option<Sdk>,
    /// What is known of it.
    pub sdk_facts: Option<&'a SdkFacts>,
    /// What is known of the program.
    pub program: Option<&'a ProgramFacts>,
    /// The program's version.
    pub program_version: Option<Version>,
}

impl<'a> ClientFacts<'a> {
    fn of(entry: &ClientStats, knowledge: &'a Knowledge) -> Self {
        let tokenless = entry.evidence.samples.iter().filter(|s| s.version == "v1");
        let said = tokenless.map(|sample| sample.user_agent.as_deref());
        let mut agents: Vec<_> = said.clone().flatten().collect();
        agents.sort_unstable();
        agents.dedup();
        let sdks = agents.iter().filter_map(|agent| knowledge.sdk(agent));
        // Of several the one that is known; of these the one that stands first by name.
        let sdk = sdks.min_by_key(|sdk| (knowledge.sdk_facts(sdk).is_none(), sdk.clone()));
        let program = knowledge
            .program(&agents, &entry.client.program)
            .filter(|facts| match &facts.option {
                Some(option) => has_argument(&entry.evidence.samples, option),
                None => true,
            })
            // One library that names itself does not speak for another in the program.
            .filter(|facts| {
                let is_its = |agent: Option<&str>| agent.is_some_and(|a| facts.is_said_by(a));
                facts.is_run_by(&entry.client.program) || said.clone().all(is_its)
            });
        let by_agent = program.and_then(|facts| Knowledge::program_version(facts, &agents));
        let by_package = || {
            let package = entry.client.package.as_deref()?;
            Version::parse(package.split_whitespace().last()?)
        };
        Self {
            sdk_facts: sdk.as_ref().and_then(|sdk| knowledge.sdk_facts(sdk)),
            sdk,
            program,
            program_version: by_agent.or_else(|| program.and_then(|_| by_package())),
        }
    }

    /// The version of the SDK, if it says one that can be read.
    pub(super) fn sdk_version(&self) -> Option<Version> {
        Version::parse(self.sdk.as_ref()?.version.as_deref()?)
    }

    fn is_old_sdk(&self) -> bool {
        let minimum = self.sdk_facts.and_then(|facts| facts.minimum.as_ref());
        let version = self.sdk_version();
        minimum
            .zip(version)
            .is_some_and(|(minimum, version)| version < *minimum)
    }

    /// Whether it is known what makes the program call without tokens, or since when it does not.
    pub(super) fn is_known_tokenless(&self) -> bool {
        let says_when = |facts: &ProgramFacts| {
            let since = facts.tokens_since.as_ref().or(facts.retries_since.as_ref());
            since.is_some() || facts.option.is_some()
        };
        self.program.is_some_and(says_when) && !self.asks_first()
    }

    /// Whether the program asks again with a token when it is refused.
    fn retries(&self) -> bool {
        let Some((facts, version)) = self.program.zip(self.program_version.as_ref()) else {
            return false;
        };
        let since = facts.retries_since.as_ref();
        since.is_some_and(|since| version >= since) && !self.asks_first()
    }

    /// Whether the program is known to ask for a token first.
    fn asks_first(&self) -> bool {
        let since = self.program.and_then(|facts| facts.tokens_since.as_ref());
        let version = self.program_version.as_ref();
        since
            .zip(version)
            .is_some_and(|(since, version)| version >= since)
    }
}

fn has_argument(samples: &[Sample], option: &str) -> bool {
    let mut args = samples.iter().flat_map(|sample| &sample.args);
    args.any(|arg| arg.split([',', '=', ' ']).any(|word| word == option))
}

fn rule(
    entry: &ClientStats,
    tally: &CallCounts,
    made_with: &ClientFacts<'_>,
) -> (Rule, Confidence) {
    let rule = if tally.served_tokenless() > 0 {
        served(entry, tally, made_with)
    } else if tally.refused() > 0 {
        refused(tally, made_with)
    } else {
        harmless(entry, tally)
    };
    let is_guess = match rule {
        // Not knowing the version, one cannot know what the program does.
        Rule::KnownTokenless => made_with.program_version.is_none() && has_since(made_with),
        _ => false,
    };
    let confidence = if is_guess {
        Confidence::Likely
    } else {
        rule.confidence()
    };
    (rule, confidence)
}

fn has_since(made_with: &ClientFacts<'_>) -> bool {
    made_with
        .program
        .is_some_and(|facts| facts.tokens_since.is_some() || facts.retries_since.is_some())
}

/// IMDS answers it without a token.
fn served(entry: &ClientStats, tally: &CallCounts, made_with: &ClientFacts<'_>) -> Rule {
    if tally.unexplained() == 0 {
        if tally.after_failure() > 0 {
            return failure(tally);
        }
        return Rule::HeaderInArguments;
    }
    if tally.retried > 0 {
        return Rule::Retries;
    }
    if made_with.retries() {
        return Rule::KnownToRetry;
    }
    let speaks_v2 = tally.with_token + tally.empty_header + tally.put_ok + tally.put_failed() > 0;
    if tally.after_failure() > 0 || speaks_v2 {
        return if lists_then_reads(entry) {
            Rule::ListThenRead
        } else if tally.after_failure() > 0 {
            Rule::FallsBackAndPlain
        } else {
            Rule::BothWays
        };
    }
    if asks_only_for_root(entry) {
        Rule::OnlyTheRoot
    } else if made_with.is_known_tokenless() {
        Rule::KnownTokenless
    } else if made_with.is_old_sdk() {
        Rule::OldSdk
    } else if made_with.sdk_facts.is_some() {
        Rule::CurrentSdk
    } else if made_with.program.is_some() && !made_with.asks_first() {
        Rule::KnownTokenless
    } else {
        Rule::Tokenless
    }
}

/// `/` lists the versions, which nobody needs: libraries of other clouds look there for a header
/// that IMDS does not send (google-auth's `ping`).
fn asks_only_for_root(entry: &ClientStats) -> bool {
    let evidence = &entry.evidence;
    let mut tokenless = evidence.paths.iter().filter(|(_, seen)| seen.tokenless > 0);
    let is_harmless = |(path, seen): (&String, &PathSeen)| {
        path.trim_matches('/').is_empty() || seen.class == PathClass::OtherCloud
    };
    evidence.more_paths == 0 && tokenless.all(is_harmless)
}

/// The failure that explains most tokenless calls.
fn failure(tally: &CallCounts) -> Rule {
    let failures = [
        (tally.after_no_answer, Rule::TokenUnanswered),
        (tally.after_refusal, Rule::TokenRequestRefused),
        (tally.after_server_error, Rule::TokenServerError),
    ];
    let most = failures.into_iter().rev().max_by_key(|(count, _)| *count);
    most.map_or(Rule::TokenUnanswered, |(_, rule)| rule)
}

/// IMDS refuses it without a token, and never answered it.
fn refused(tally: &CallCounts, made_with: &ClientFacts<'_>) -> Rule {
    if tally.retried > 0 {
        Rule::Retries
    } else if tally.rejected == 0 && tally.rejected_after_failure > 0 {
        // The reason is the one of most failed token requests.
        let failures = CallCounts {
            after_no_answer: tally.put_unanswered,
            after_refusal: tally.put_refused,
            after_server_error: tally.put_server_error,
            ..CallCounts::default()
        };
        failure(&failures)
    } else if tally.rejected == 0 {
        Rule::HeaderInArguments
    } else if tally.with_token > 0 {
        Rule::BothWays
    } else if made_with.retries() {
        Rule::KnownToRetry
    } else {
        Rule::Refused
    }
}

/// IMDS gives it nothing without a token.
fn harmless(entry: &ClientStats, tally: &CallCounts) -> Rule {
    let is_without_token = tally.empty_header + tally.token_refused > 0 && tally.with_token == 0;
    if is_without_token && tally.empty_header > 0 {
        Rule::EmptyHeader
    } else if is_without_token {
        Rule::BadToken
    } else if tally.with_token > 0 {
        Rule::TokensOnly
    } else if tally.not_imds > 0 {
        let names = entry
            .evidence
            .samples
            .iter()
            .filter_map(|s| s.server.as_deref());
        if names.filter(|name| !is_ec2(name)).count() > 0 {
            Rule::OtherServer
        } else {
            Rule::NamelessServer
        }
    } else if tally.put_ok > 0 {
        Rule::TokensOnly
    } else if tally.put_failed() > 0 {
        Rule::NoTokenToGet
    } else if tally.missing > 0 {
        Rule::NotFound
    } else if tally.silent > 0 {
        Rule::Unanswered
    } else if tally.other_cloud > 0 {
        Rule::OtherClouds
    } else {
        Rule::NoRequest
    }
}

/// Whether it reads something with a token, or would if it could get one, whose name it learned
/// without: then the one needs the other.
fn lists_then_reads(entry: &ClientStats) -> bool {
    let samples = &entry.evidence.samples;
    let path = |sample: &Sample| {
        sample
            .target
            .split('?')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let is_unexplained =
        |s: &&Sample| s.version == "v1" && matches!(s.how, Cause::Plain | Cause::DespiteToken);
    let lists: Vec<String> = samples.iter().filter(is_unexplained).map(path).collect();
    let is_explained = |s: &&Sample| s.version == "v1" && !is_unexplained(s);
    let with_token = entry
        .evidence
        .paths
        .iter()
        .filter(|(_, seen)| seen.with_token > 0);
    let mut reads = with_token
        .map(|(path, _)| path.clone())
        .chain(samples.iter().filter(is_explained).map(path));
    reads.any(|read| lists.iter().any(|list| is_listing_of(list, &read)))
}

/// `/latest/meta-data/iam/security-credentials/` of `.../role`. What is higher up lists too much
/// to be asked for only to find one name.
fn is_listing_of(list: &str, read: &str) -> bool {
    let list = list.trim_end_matches('/');
    let depth = list.split('/').filter(|part| !part.is_empty()).count();
    let below = read
        .strip_prefix(list)
        .and_then(|rest| rest.strip_prefix('/'));
    depth >= 3 && below.is_some_and(|below| !below.trim_matches('/').is_empty())
}
