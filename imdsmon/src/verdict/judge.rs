//! One client: the rule that fits, and what it means.

use super::{Confidence, Judgement, Verdict, case::Case, reason::reason, remedy, rule::Rule};
use crate::{
    knowledge::Knowledge,
    ledger::{Cause, ClientStats},
};

/// What IMDS does with a client's `IMDSv1` calls; the first that applies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Treatment {
    /// It serves some.
    Served,
    /// It rejects some (401) and serves none.
    Rejected,
    /// It gets none, or has no data for them.
    Neither,
}

type Fits = fn(&Case<'_>) -> bool;

/// The rules in the order in which they are tried; the first that fits decides.
#[rustfmt::skip]
const RULES: &[(Treatment, Rule, Fits)] = {
    use Treatment::{Neither, Rejected, Served};
    &[
        // All IMDSv1 calls have a cause: a failed token request or an empty token.
        (Served, Rule::TokenUnanswered, |c| c.counts.failure() == Some(Cause::AfterNoResponse)),
        (Served, Rule::TokenRequestRefused, |c| c.counts.failure() == Some(Cause::AfterRejection)),
        (Served, Rule::TokenServerError, |c| c.counts.failure() == Some(Cause::AfterServerError)),
        (Served, Rule::HeaderInArguments, |c| c.counts.unexplained() == 0),
        // Some have no cause.
        (Served, Rule::Retries, |c| c.counts.retried > 0),
        (Served, Rule::KnownToRetry, |c| c.facts.retries()),
        (Served, Rule::ListThenRead, |c| c.requests_tokens() && c.lists_then_reads()),
        (Served, Rule::FallsBackAndPlain, |c| c.counts.after_failure() > 0),
        (Served, Rule::BothWays, |c| c.requests_tokens()),
        (Served, Rule::OnlyTheRoot, |c| c.requests_only_root()),
        (Served, Rule::KnownTokenless, |c| c.facts.is_known_tokenless()),
        (Served, Rule::OldSdk, |c| c.facts.is_old_sdk()),
        (Served, Rule::CurrentSdk, |c| c.facts.sdk_facts.is_some()),
        (Served, Rule::KnownTokenless, |c| c.facts.program.is_some() && !c.facts.requests_first()),
        (Served, Rule::Tokenless, |_| true),

        (Rejected, Rule::Retries, |c| c.counts.retried > 0),
        (Rejected, Rule::TokenUnanswered, |c| c.counts.failure() == Some(Cause::AfterNoResponse)),
        (Rejected, Rule::TokenRequestRefused, |c| c.counts.failure() == Some(Cause::AfterRejection)),
        (Rejected, Rule::TokenServerError, |c| c.counts.failure() == Some(Cause::AfterServerError)),
        (Rejected, Rule::HeaderInArguments, |c| c.counts.rejected == 0),
        (Rejected, Rule::BothWays, |c| c.counts.with_token > 0),
        (Rejected, Rule::KnownToRetry, |c| c.facts.retries()),
        (Rejected, Rule::Refused, |_| true),

        (Neither, Rule::EmptyHeader, |c| c.counts.with_token == 0 && c.counts.empty_header > 0),
        (Neither, Rule::BadToken, |c| c.counts.with_token == 0 && c.counts.token_rejected > 0),
        (Neither, Rule::TokensOnly, |c| c.counts.with_token > 0),
        (Neither, Rule::OtherServer, |c| c.counts.not_imds > 0 && c.has_other_server()),
        (Neither, Rule::NamelessServer, |c| c.counts.not_imds > 0),
        (Neither, Rule::TokensOnly, |c| c.counts.put_ok > 0),
        (Neither, Rule::NoTokenToGet, |c| c.counts.put_failed() > 0),
        (Neither, Rule::NotFound, |c| c.counts.missing > 0),
        (Neither, Rule::Unanswered, |c| c.counts.no_response > 0),
        (Neither, Rule::OtherClouds, |c| c.counts.other_cloud > 0),
        (Neither, Rule::NoRequest, |_| true),
    ]
};

/// What requiring `IMDSv2` means for a client.
pub(super) fn judge(stats: &ClientStats, knowledge: &Knowledge) -> Judgement {
    let case = Case::new(stats, knowledge);
    let rule = rule(&case);
    Judgement {
        verdict: rule.verdict(),
        rule,
        // A client without a name cannot be fixed: it is a doubt about the instance.
        needs_action: !stats.client.is_unknown() && loses(rule, &case),
        confidence: confidence(rule, &case),
        access_after: rule.access_after(case.counts.put_failed() > 0),
        reason: reason(rule, &case),
        remedy: remedy::of(rule, &case),
    }
}

fn rule(case: &Case<'_>) -> Rule {
    let treatment = if case.counts.served_tokenless() > 0 {
        Treatment::Served
    } else if case.counts.rejected_v1() > 0 {
        Treatment::Rejected
    } else {
        Treatment::Neither
    };
    let fits = RULES
        .iter()
        .find(|(when, _, fits)| *when == treatment && fits(case));
    fits.map_or(Rule::NoRequest, |(_, rule, _)| *rule)
}

/// Whether requiring `IMDSv2` removes access that the client has now, or has already removed it.
/// Calls that fail in both cases need a fix, but not first.
fn loses(rule: Rule, case: &Case<'_>) -> bool {
    match rule.verdict() {
        Verdict::Breaks | Verdict::Rejected | Verdict::Mixed | Verdict::FallsBack => true,
        Verdict::EmptyToken => case.counts.served_tokenless() + case.counts.rejected_v1() > 0,
        Verdict::NotImds | Verdict::Survives | Verdict::Probe | Verdict::Ready => false,
    }
}

fn confidence(rule: Rule, case: &Case<'_>) -> Confidence {
    let facts = &case.facts;
    match rule {
        // The behavior depends on the program's version.
        Rule::KnownTokenless
            if facts.program_since().is_some() && facts.program_version.is_none() =>
        {
            Confidence::Likely
        }
        _ => rule.confidence(),
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::*;

    #[test]
    fn every_rule_stands_in_the_table() {
        for rule in Rule::VARIANTS {
            assert!(RULES.iter().any(|(_, row, _)| row == rule), "{rule:?}");
        }
    }
}
