//! What to say of a client: why, and what mends it.

use super::{Remedy, judge::MadeWith, rule::Rule, tally::Tally};
use crate::identity::client::Client;

/// Stands in commands for the instance's id, which the report knows.
pub const INSTANCE_ID: &str = "INSTANCE_ID";
/// Makes an SDK behave in one process as if the instance were flipped.
pub const DRY_RUN: &str = "AWS_EC2_METADATA_V1_DISABLED=true";

const SDK_PAGE: &str = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-transition-to-version-2.html";
const REQUEST_PAGE: &str =
    "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-v2-how-it-works.html";
const OPTIONS_PAGE: &str =
    "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-IMDS-existing-instances.html";
const DATA_PAGE: &str =
    "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html";
const DRY_RUN_PAGE: &str =
    "https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html";

const CURL: [&str; 2] = [
    "TOKEN=$(curl -sf -X PUT http://169.254.169.254/latest/api/token -H 'X-aws-ec2-metadata-token-ttl-seconds: 21600') || exit 1",
    "curl -sf -H \"X-aws-ec2-metadata-token: $TOKEN\" http://169.254.169.254/latest/meta-data/",
];
const WGET: [&str; 2] = [
    "TOKEN=$(wget -qO- --method PUT --header 'X-aws-ec2-metadata-token-ttl-seconds: 21600' http://169.254.169.254/latest/api/token) || exit 1",
    "wget -qO- --header \"X-aws-ec2-metadata-token: $TOKEN\" http://169.254.169.254/latest/meta-data/",
];

/// A client, and the rule that fits.
pub(super) struct Case<'a> {
    pub rule: Rule,
    pub tally: &'a Tally,
    pub client: &'a Client,
    pub made_with: &'a MadeWith<'a>,
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
        let MadeWith { sdk, sdk_facts, .. } = self.made_with;
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

    fn runs(&self, tool: &str) -> bool {
        let mut words = self.client.program.split_whitespace();
        words.any(|word| word.rsplit('/').next() == Some(tool))
    }
}

/// What mends it.
pub(super) fn of(case: &Case<'_>) -> Remedy {
    match case.rule {
        Rule::OldSdk => old_sdk(case),
        Rule::CurrentSdk => current_sdk(case),
        Rule::KnownTokenless => known_program(case),
        Rule::Tokenless | Rule::Refused => ask_first(case),
        Rule::BothWays | Rule::ListThenRead => both_ways(case),
        Rule::FallsBackAndPlain => {
            let mut remedy = token_request(case);
            remedy.short = format!("{}; then look at the rest", remedy.short);
            remedy.steps.push(
                "Watch again: what still calls without a token then is a code path of its own, \
                 and needs an update."
                    .into(),
            );
            remedy
        }
        Rule::TokenUnanswered | Rule::TokenRequestRefused | Rule::TokenServerError => {
            token_request(case)
        }
        Rule::NoTokenToGet => token_request(case),
        Rule::HeaderInArguments | Rule::EmptyHeader | Rule::BadToken => script(case),
        Rule::OtherServer | Rule::NamelessServer => proxy(),
        Rule::KnownToRetry | Rule::Retries => nothing(
            "It needs no change: once tokens are required, its calls without one stop to succeed, \
             and the ones with a token go on.",
        ),
        Rule::Unanswered => nothing("It gets nothing now, so that it has nothing to lose."),
        Rule::OtherClouds | Rule::NotFound | Rule::NoRequest => {
            nothing("It needs nothing from IMDS.")
        }
        Rule::TokensOnly => Remedy::default(),
    }
}

fn nothing(why: &str) -> Remedy {
    Remedy {
        short: "none needed".into(),
        steps: vec![why.into()],
        ..Remedy::default()
    }
}

fn old_sdk(case: &Case<'_>) -> Remedy {
    let facts = case.made_with.sdk_facts;
    let title = facts.map_or("the SDK", |facts| &*facts.title);
    let minimum = facts.and_then(|facts| facts.minimum.as_ref());
    let minimum = minimum.map(ToString::to_string).unwrap_or_default();
    Remedy {
        short: format!("update {title} to {minimum} or later"),
        steps: vec![
            format!("Update {title} to {minimum} or later; best to the newest."),
            dry_run_step(),
        ],
        commands: vec![DRY_RUN.into()],
        reference: Some(SDK_PAGE.into()),
    }
}

fn current_sdk(case: &Case<'_>) -> Remedy {
    let title = case
        .made_with
        .sdk_facts
        .map_or("the SDK", |facts| &*facts.title);
    let mut steps = Vec::new();
    if case.made_with.sdk_version().is_none() {
        let minimum = case
            .made_with
            .sdk_facts
            .and_then(|facts| facts.minimum.as_ref());
        if let Some(minimum) = minimum {
            steps.push(format!("See that {title} is {minimum} or later."));
        }
    }
    steps.extend([
        "Restart it while it is watched: if it then asks for a token first, an earlier token \
         request had failed, and that is what to mend."
            .into(),
        "If it does not, the code that calls uses a part of the SDK that knows no tokens: have it \
         use another one, or ask for a token itself."
            .into(),
        dry_run_step(),
    ]);
    Remedy {
        short: "find the code that asks for no token; updating does not help".into(),
        steps,
        commands: vec![DRY_RUN.into()],
        reference: Some(DRY_RUN_PAGE.into()),
    }
}

fn known_program(case: &Case<'_>) -> Remedy {
    let Some(facts) = case.made_with.program else {
        return ask_first(case);
    };
    let name = &*facts.name;
    let since = facts.tokens_since.as_ref().or(facts.retries_since.as_ref());
    let advice = facts.advice.as_deref();
    let short = match (since, advice) {
        (Some(since), _) => format!("update {name} to {since} or later"),
        (None, Some(advice)) => advice.to_owned(),
        (None, None) => format!("update {name}"),
    };
    let step = match (since, advice) {
        (Some(since), Some(advice)) => format!("Update {name} to {since} or later, {advice}."),
        (Some(since), None) => format!("Update {name} to {since} or later."),
        (None, Some(advice)) => format!("{name}: {advice}."),
        (None, None) => format!("Update {name} to a version that speaks IMDSv2."),
    };
    Remedy {
        short,
        steps: vec![step, format!("Known from: {}", &*facts.source)],
        commands: Vec::new(),
        reference: Some(SDK_PAGE.into()),
    }
}

fn ask_first(case: &Case<'_>) -> Remedy {
    let commands: &[&str] = match () {
        () if case.runs("curl") => &CURL,
        () if case.runs("wget") => &WGET,
        () => &[],
    };
    if case.rule == Rule::Refused && case.made_with.sdk_facts.is_some() {
        return current_or_old_sdk(case);
    }
    Remedy {
        short: "ask for a token first".into(),
        steps: vec![
            "Change the program so that it asks for a token (PUT /latest/api/token) and sends it \
             with every request, or update it to a version that does."
                .into(),
        ],
        commands: commands.iter().map(|&command| command.into()).collect(),
        reference: Some(REQUEST_PAGE.into()),
    }
}

fn current_or_old_sdk(case: &Case<'_>) -> Remedy {
    let minimum = case
        .made_with
        .sdk_facts
        .and_then(|facts| facts.minimum.as_ref());
    let version = case.made_with.sdk_version();
    match minimum.zip(version) {
        Some((minimum, version)) if version < *minimum => old_sdk(case),
        _ => current_sdk(case),
    }
}

fn both_ways(case: &Case<'_>) -> Remedy {
    let mut steps = vec![
        "Find what calls without a token: its User-Agent, paths and arguments are shown beside \
         those of the calls with one."
            .to_owned(),
    ];
    if case.made_with.sdk_facts.is_some() {
        let Remedy { steps: sdk, .. } = current_or_old_sdk(case);
        steps.extend(sdk);
    } else {
        steps.extend(ask_first(case).steps);
    }
    Remedy {
        short: "change the part that asks for no token".into(),
        steps,
        commands: ask_first(case).commands,
        reference: Some(REQUEST_PAGE.into()),
    }
}

/// Getting the token is what fails, not the client.
fn token_request(case: &Case<'_>) -> Remedy {
    let tally = case.tally;
    let most = [
        (tally.put_unanswered, Rule::TokenUnanswered),
        (tally.put_refused, Rule::TokenRequestRefused),
        (tally.put_server_error, Rule::TokenServerError),
    ];
    let most = most.into_iter().rev().max_by_key(|(count, _)| *count);
    let failure = match case.rule {
        Rule::TokenUnanswered | Rule::TokenRequestRefused | Rule::TokenServerError => case.rule,
        _ => most.map_or(Rule::TokenUnanswered, |(_, rule)| rule),
    };
    let mut remedy = match failure {
        Rule::TokenRequestRefused => Remedy {
            short: "find who refuses its token requests".into(),
            steps: vec![
                "Look for a proxy between it and IMDS: IMDS refuses a token request with an \
                 X-Forwarded-For header (403), and proxies like kube2iam refuse it themselves. \
                 Exempt 169.254.169.254 from the proxy (NO_PROXY), or update the proxy."
                    .into(),
            ],
            commands: vec!["NO_PROXY=169.254.169.254,fd00:ec2::254".into()],
            reference: Some(REQUEST_PAGE.into()),
        },
        Rule::TokenServerError => Remedy {
            short: "call IMDS less often: it is throttled".into(),
            steps: vec![
                "IMDS throttles who calls too often (503). Find the busiest clients, and have \
                 them keep their tokens and credentials until these expire."
                    .into(),
            ],
            commands: Vec::new(),
            reference: Some(DATA_PAGE.into()),
        },
        _ => unanswered(case),
    };
    remedy.steps.push(
        "Restart it, for it may go on without tokens until then, and watch again: it needs no \
         update."
            .into(),
    );
    remedy
}

fn unanswered(case: &Case<'_>) -> Remedy {
    if case.client.host_network == Some(true) {
        return Remedy {
            short: "find what swallows the answer to its token requests".into(),
            steps: vec![
                "It runs in the host's own network, so that the hop limit is not the cause: look \
                 for a firewall or a proxy that drops PUT requests to 169.254.169.254."
                    .into(),
            ],
            commands: Vec::new(),
            reference: Some(OPTIONS_PAGE.into()),
        };
    }
    Remedy {
        short: "raise the hop limit to 2".into(),
        steps: vec![
            "The answer to a token request may travel as many hops as the instance's hop limit \
             says, and a container behind a bridge is one further away. Raise the limit to 2; this \
             acts at once."
                .into(),
        ],
        commands: vec![format!(
            "aws ec2 modify-instance-metadata-options --instance-id {INSTANCE_ID} \
             --http-put-response-hop-limit 2"
        )],
        reference: Some(OPTIONS_PAGE.into()),
    }
}

fn script(case: &Case<'_>) -> Remedy {
    if case.tally.put_failed() > 0 {
        let mut remedy = token_request(case);
        remedy.steps.insert(
            0,
            "Its token requests fail, and it does not notice. Have it stop when it gets no token, \
             and mend what keeps it from getting one:"
                .into(),
        );
        return remedy;
    }
    let commands: &[&str] = if case.runs("wget") { &WGET } else { &CURL };
    Remedy {
        short: "mend how it fetches its token".into(),
        steps: vec![
            "Look at how it fetches its token: a PUT to /latest/api/token with the header \
             X-aws-ec2-metadata-token-ttl-seconds, kept for the next request. No token request of \
             it failed, so that the fault is its own."
                .into(),
        ],
        commands: commands.iter().map(|&command| command.into()).collect(),
        reference: Some(REQUEST_PAGE.into()),
    }
}

fn proxy() -> Remedy {
    Remedy {
        short: "look at the proxy instead".into(),
        steps: vec![
            "The proxy's own calls to IMDS are what the flip concerns: they are shown as a client \
             of their own if it runs on this instance."
                .into(),
        ],
        commands: Vec::new(),
        reference: Some(REQUEST_PAGE.into()),
    }
}

fn dry_run_step() -> String {
    "Try it in advance: with this in its environment, the SDK makes no tokenless call, as if the \
     instance were flipped."
        .into()
}
