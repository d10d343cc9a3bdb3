//! What mends a client: what to do, the commands as they are typed, and the page that says so.

use super::{Remedy, reason::Case, rule::Rule};

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

/// What mends it.
pub(super) fn of(case: &Case<'_>) -> Remedy {
    match case.rule {
        Rule::OldSdk => old_sdk(case),
        Rule::CurrentSdk => current_sdk(case),
        Rule::KnownTokenless => known_program(case),
        Rule::Refused if case.made_with.is_known_tokenless() => known_program(case),
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
        Rule::OtherClouds | Rule::NotFound | Rule::OnlyTheRoot | Rule::NoRequest => {
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
                "If no proxy is there, look at the request: IMDS answers 400 to one without a TTL, \
                 and 403 to one for another path than /latest/api/token. Then the program needs a \
                 fix."
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
