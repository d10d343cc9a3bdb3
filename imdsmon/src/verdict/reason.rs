//! Why a client is judged as it is, in a sentence.

use super::{judge::ClientFacts, rule::Rule};
use crate::identity::client::Client;
use crate::verdict::call_counts::CallCounts;

/// A client, and the rule that fits.
pub(super) struct Case<'a> {
    pub rule: Rule,
    pub tally: &'a CallCounts,
    pub client: &'a Client,
    pub made_with: &'a ClientFacts<'a>,
}

impl Case<'_> {
    /// Why, in a sentence.
    pub(super) fn reason(&self) -> String {
        let tally = self.tally;
        let calls = |n: u64| format!("{n} call{}", if n == 1 { "" } else { "s" });
        let requests = |n: u64| format!("{n} token request{}", if n == 1 { "" } else { "s" });
        match self.rule {
            Rule::Tokenless => format!(
                "{} without a token, and no sign of asking for one.",
                calls(tally.plain)
            ),
            Rule::OldSdk | Rule::CurrentSdk => self.sdk_reason(),
            Rule::KnownTokenless => self.program_reason(),
            Rule::Refused => format!(
                "{} without a token were refused (401): what flipping does has been done to it.",
                calls(tally.refused())
            ),
            Rule::BothWays => format!(
                "{} without a token and {} with one: two libraries, or two code paths.",
                calls(tally.unexplained() + tally.refused()),
                tally.with_token + tally.empty_header
            ),
            Rule::ListThenRead => {
                "It lists without a token what it then reads with one: without the list it does \
                 not know what to read."
                    .into()
            }
            Rule::FallsBackAndPlain => format!(
                "{} without a token follow a token request that failed, and {} do not: two code \
                 paths, or a token request that was not seen.",
                calls(tally.after_failure()),
                tally.unexplained()
            ),
            Rule::TokenUnanswered => format!(
                "It asks for a token, gets no answer ({}), and then calls without.",
                requests(tally.put_unanswered.max(1))
            ),
            Rule::TokenRequestRefused => format!(
                "It asks for a token, is refused ({}), and then calls without.",
                requests(tally.put_refused.max(1))
            ),
            Rule::TokenServerError => format!(
                "It asks for a token, is answered 5xx ({}), and then calls without.",
                requests(tally.put_server_error.max(1))
            ),
            Rule::HeaderInArguments => format!(
                "Its arguments name the token header, but {} had none: the token was empty.",
                calls(tally.header_in_arguments + tally.rejected_header)
            ),
            Rule::EmptyHeader => format!(
                "{} had a token header without a token in it: fetching the token failed.",
                calls(tally.empty_header)
            ),
            Rule::BadToken => format!(
                "{} had a token that IMDS did not accept, and none had another.",
                calls(tally.token_refused)
            ),
            Rule::OtherServer => {
                "Another server than IMDS answers its calls: a redirecting proxy.".into()
            }
            Rule::NamelessServer => {
                "What answers its calls does not say that it is IMDS: perhaps a proxy.".into()
            }
            Rule::Retries => {
                "When it is refused without a token, it asks again with one: this was seen.".into()
            }
            Rule::KnownToRetry => format!(
                "{} is known to ask again with a token when it is refused without.",
                self.program_name()
            ),
            Rule::OtherClouds => "It looks only for other clouds' metadata services.".into(),
            Rule::OnlyTheRoot => {
                "It asks only for `/`, which lists versions: it looks whether anything is there."
                    .into()
            }
            Rule::NotFound => "It asks only for what IMDS does not have.".into(),
            Rule::Unanswered => "It calls without a token, but was never answered.".into(),
            Rule::NoRequest => "It sent nothing that is a request.".into(),
            Rule::TokensOnly => "It calls with tokens only.".into(),
            Rule::NoTokenToGet => format!(
                "It gets no token ({} failed), and does not call without: it gets nothing now, \
                 and flipping changes nothing.",
                requests(tally.put_failed())
            ),
        }
    }

    fn sdk_reason(&self) -> String {
        let title = self.sdk_title();
        let Some(facts) = self.made_with.sdk_facts else {
            return format!("{title} calls without a token.");
        };
        let minimum = facts.minimum.as_ref().map(ToString::to_string);
        match (self.rule, minimum) {
            (Rule::OldSdk, Some(minimum)) => {
                format!("{title} is older than {minimum}, the first version that speaks IMDSv2.")
            }
            _ if self.made_with.sdk_version().is_none() => {
                format!("{title} calls without a token, and does not say its version.")
            }
            _ => {
                let why = facts.note.as_deref().map(|note| format!(": {note}"));
                let why = why.unwrap_or_else(|| {
                    ": a part of it that knows no tokens is used, or its token request failed \
                     before it was watched"
                        .into()
                });
                format!(
                    "{title} speaks IMDSv2 and still calls without a token. It is not too old{why}."
                )
            }
        }
    }

    fn program_reason(&self) -> String {
        let name = self.program_name();
        let Some(facts) = self.made_with.program else {
            return format!("{name} calls without a token.");
        };
        if let Some(option) = facts.option.as_deref() {
            return format!("{name} runs with `{option}`, which makes it call without tokens.");
        }
        match facts.tokens_since.as_ref().or(facts.retries_since.as_ref()) {
            Some(since) => format!("{name} needs no tokenless calls only since version {since}."),
            None => format!("{name} is known to have versions that call without a token."),
        }
    }

    fn sdk_title(&self) -> String {
        let ClientFacts { sdk, sdk_facts, .. } = self.made_with;
        let title = sdk_facts.map(|facts| &*facts.title);
        let name = sdk.as_ref().map(|sdk| sdk.name.as_str());
        let version = sdk.as_ref().and_then(|sdk| sdk.version.as_deref());
        let title = title.or(name).unwrap_or("The SDK");
        version.map_or_else(|| title.into(), |version| format!("{title} {version}"))
    }

    fn program_name(&self) -> String {
        let name = self.made_with.program.map_or("It", |facts| &*facts.name);
        match &self.made_with.program_version {
            Some(version) => format!("{name} {version}"),
            None => name.into(),
        }
    }

    pub(super) fn runs(&self, tool: &str) -> bool {
        let mut words = self.client.program.split_whitespace();
        words.any(|word| word.rsplit('/').next() == Some(tool))
    }
}
