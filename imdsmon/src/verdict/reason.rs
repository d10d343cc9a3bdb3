//! Why a rule fits a client, in a sentence.

use super::{case::Case, rule::Rule};

pub(super) fn reason(rule: Rule, case: &Case<'_>) -> String {
    let counts = &case.counts;
    match rule {
        Rule::Tokenless => format!("{} and no token request.", v1_calls(counts.plain)),
        Rule::OldSdk | Rule::CurrentSdk => sdk_reason(rule, case),
        Rule::KnownTokenless => program_reason(case),
        Rule::Refused => {
            let rejected = counts.rejected_v1();
            format!(
                "{} {} rejected (401): this instance already requires IMDSv2.",
                v1_calls(rejected),
                was(rejected)
            )
        }
        Rule::BothWays => format!(
            "{} and {}: two libraries or two code paths.",
            v1_calls(counts.unexplained() + counts.rejected_v1()),
            plural(counts.with_token + counts.empty_header, "IMDSv2 call")
        ),
        Rule::ListThenRead => "The client lists over IMDSv1 what it then reads over IMDSv2; \
                               without the list it does not know what to read."
            .into(),
        Rule::FallsBackAndPlain => format!(
            "{} made after a failed token request, and {} made without one: two code paths, or a \
             token request that was not captured.",
            v1_calls(counts.after_failure()),
            counts.unexplained()
        ),
        Rule::TokenUnanswered => fallback_reason(counts.put_no_response, "got no response"),
        Rule::TokenRequestRefused => {
            let rejected = counts.put_rejected.max(1);
            fallback_reason(rejected, &format!("{} rejected", was(rejected)))
        }
        Rule::TokenServerError => {
            fallback_reason(counts.put_server_error, "failed with a 5xx status")
        }
        Rule::HeaderInArguments => format!(
            "The command line sets the token header, but {} had no token: the shell variable was empty.",
            calls(counts.header_in_arguments + counts.rejected_header)
        ),
        Rule::EmptyHeader => format!(
            "{} had a token header without a value: fetching the token failed.",
            calls(counts.empty_header)
        ),
        Rule::BadToken => format!(
            "{} had a token that IMDS rejected, and none had a valid one.",
            calls(counts.token_rejected)
        ),
        Rule::OtherServer => {
            "A server other than IMDS responds to the calls: a redirecting proxy.".into()
        }
        Rule::NamelessServer => {
            "The responses have no `Server` header: possibly a proxy, not IMDS.".into()
        }
        Rule::Retries => "The client retried a rejected IMDSv1 call with a token.".into(),
        Rule::KnownToRetry => format!(
            "{} is known to retry rejected IMDSv1 calls with a token.",
            program_name(case)
        ),
        Rule::OtherClouds => "All calls are for the metadata services of other clouds.".into(),
        Rule::OnlyTheRoot => {
            "All calls are for `/`, the list of versions: a check for a metadata service.".into()
        }
        Rule::NotFound => "All calls are for paths that IMDS does not have.".into(),
        Rule::Unanswered => format!("{} without a response.", v1_calls(counts.no_response)),
        Rule::NoRequest => "The client sent no valid HTTP request.".into(),
        Rule::TokensOnly => "The client uses IMDSv2 only.".into(),
        Rule::NoTokenToGet => format!(
            "All token requests fail ({} so far) and the client does not fall back to IMDSv1, so \
             enforcing IMDSv2 changes nothing for it.",
            counts.put_failed()
        ),
    }
}

/// `failed`: none if the token request was made by another process.
fn fallback_reason(failed: u64, how: &str) -> String {
    let requests = plural(failed.max(1), "token request");
    format!("{requests} {how}; the client then fell back to IMDSv1.")
}

fn sdk_reason(rule: Rule, case: &Case<'_>) -> String {
    let facts = &case.facts;
    let version = facts.sdk.as_ref().and_then(|sdk| sdk.version.as_deref());
    let title = facts.sdk_title();
    let title = version.map_or_else(|| title.into(), |version| format!("{title} {version}"));
    match (rule, facts.sdk_minimum()) {
        (Rule::OldSdk, Some(minimum)) => {
            format!("{title} is older than {minimum}, the first version that supports IMDSv2.")
        }
        _ if facts.sdk_version().is_none() => {
            format!("{title} makes IMDSv1 calls and does not report its version.")
        }
        _ => {
            let note = facts.sdk_facts.and_then(|facts| facts.note.as_deref());
            let note = note.unwrap_or(
                "the program uses a part of the SDK without IMDSv2 support, or its token request \
                 failed before capture began",
            );
            format!("{title} supports IMDSv2 but makes IMDSv1 calls: {note}.")
        }
    }
}

fn program_reason(case: &Case<'_>) -> String {
    let name = program_name(case);
    let option = case.facts.program.and_then(|facts| facts.option.as_deref());
    match (option, case.facts.program_since()) {
        (Some(option), _) => format!("{name} runs with `{option}`, which disables IMDSv2."),
        (None, Some(since)) => {
            format!("{name} makes IMDSv1 calls; it supports IMDSv2 since version {since}.")
        }
        (None, None) => format!("{name} is known to make IMDSv1 calls in some versions."),
    }
}

fn program_name(case: &Case<'_>) -> String {
    let name = case
        .facts
        .program
        .map_or("The client", |facts| &*facts.name);
    match &case.facts.program_version {
        Some(version) => format!("{name} {version}"),
        None => name.into(),
    }
}

fn calls(count: u64) -> String {
    plural(count, "call")
}

fn v1_calls(count: u64) -> String {
    plural(count, "IMDSv1 call")
}

pub(super) fn plural(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

pub(super) fn was(count: u64) -> &'static str {
    if count == 1 { "was" } else { "were" }
}
