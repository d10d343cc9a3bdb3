//! How to fix a client: steps, commands and a link.

use super::{Remedy, case::Case, rule::Rule};
use crate::ledger::Cause;

/// Placeholder in commands for the instance ID, which the report fills in.
pub(crate) use crate::host::PLACEHOLDER as INSTANCE_ID;
/// Disables `IMDSv1` in the SDKs of one process, as requiring `IMDSv2` would.
pub(crate) const DRY_RUN: &str = "AWS_EC2_METADATA_V1_DISABLED=true";

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
const DRY_RUN_STEP: &str = "Test it in advance: with this environment variable, the SDK makes no \
                            IMDSv1 calls, as if IMDSv2 were required.";

pub(super) fn of(rule: Rule, case: &Case<'_>) -> Remedy {
    match rule {
        Rule::OldSdk => old_sdk(case),
        Rule::CurrentSdk => current_sdk(case),
        Rule::KnownTokenless => known_program(case),
        Rule::Refused if case.facts.is_known_tokenless() => known_program(case),
        Rule::Refused if case.facts.sdk_facts.is_some() => sdk(case),
        Rule::Tokenless | Rule::Refused => request_token(case),
        Rule::BothWays | Rule::ListThenRead => both_ways(case),
        Rule::FallsBackAndPlain => {
            let mut remedy = token_request(case.counts.put_failure(), case);
            remedy.short = format!("{}; then fix the other IMDSv1 calls", remedy.short);
            remedy.steps.push(
                "Observe again: IMDSv1 calls that remain come from another code path. Update it."
                    .into(),
            );
            remedy
        }
        Rule::TokenUnanswered => token_request(Cause::AfterNoResponse, case),
        Rule::TokenRequestRefused => token_request(Cause::AfterRejection, case),
        Rule::TokenServerError => token_request(Cause::AfterServerError, case),
        Rule::NoTokenToGet => token_request(case.counts.put_failure(), case),
        Rule::HeaderInArguments | Rule::EmptyHeader | Rule::BadToken => script(case),
        Rule::OtherServer | Rule::NamelessServer => proxy(),
        Rule::KnownToRetry | Rule::Retries => nothing(
            "No change needed: once IMDSv2 is required, the IMDSv1 attempt fails and the IMDSv2 \
             retry succeeds.",
        ),
        Rule::Unanswered => nothing("No change needed: the client gets no response now."),
        Rule::OtherClouds | Rule::NotFound | Rule::OnlyTheRoot | Rule::NoRequest => {
            nothing("No change needed: the client reads nothing from IMDS.")
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

fn sdk(case: &Case<'_>) -> Remedy {
    if case.facts.is_old_sdk() {
        old_sdk(case)
    } else {
        current_sdk(case)
    }
}

fn old_sdk(case: &Case<'_>) -> Remedy {
    let title = case.facts.sdk_title();
    let minimum = case.facts.sdk_minimum();
    let minimum = minimum.map(ToString::to_string).unwrap_or_default();
    Remedy {
        short: format!("update {title} to {minimum} or later"),
        steps: vec![
            format!("Update {title} to {minimum} or later, preferably to the latest version."),
            DRY_RUN_STEP.into(),
        ],
        commands: vec![DRY_RUN.into()],
        reference: Some(SDK_PAGE.into()),
    }
}

fn current_sdk(case: &Case<'_>) -> Remedy {
    let title = case.facts.sdk_title();
    let mut steps = Vec::new();
    if let (None, Some(minimum)) = (case.facts.sdk_version(), case.facts.sdk_minimum()) {
        steps.push(format!("Check that {title} is {minimum} or later."));
    }
    steps.extend([
        "Restart the program while imdsmon runs. If it now requests a token first, an earlier \
         token request had failed; fix that."
            .into(),
        "Otherwise it uses a part of the SDK without IMDSv2 support: use another API of the SDK, \
         or request a token in the program."
            .into(),
        DRY_RUN_STEP.into(),
    ]);
    Remedy {
        short: "find the code that requests no token; updating does not help".into(),
        steps,
        commands: vec![DRY_RUN.into()],
        reference: Some(DRY_RUN_PAGE.into()),
    }
}

fn known_program(case: &Case<'_>) -> Remedy {
    let Some(facts) = case.facts.program else {
        return request_token(case);
    };
    let name = &*facts.name;
    let advice = facts.advice.as_deref();
    let (short, step) = match (case.facts.program_since(), advice) {
        (Some(since), advice) => {
            let or = advice.map(|advice| format!(", {advice}"));
            (
                format!("update {name} to {since} or later"),
                format!(
                    "Update {name} to {since} or later{}.",
                    or.unwrap_or_default()
                ),
            )
        }
        (None, Some(advice)) => (advice.to_owned(), format!("{name}: {advice}.")),
        (None, None) => (
            format!("update {name}"),
            format!("Update {name} to a version that supports IMDSv2."),
        ),
    };
    Remedy {
        short,
        steps: vec![step, format!("Source: {}", &*facts.source)],
        commands: Vec::new(),
        reference: Some(SDK_PAGE.into()),
    }
}

fn request_token(case: &Case<'_>) -> Remedy {
    let commands: &[&str] = if case.runs("curl") {
        &CURL
    } else if case.runs("wget") {
        &WGET
    } else {
        &[]
    };
    Remedy {
        short: "request a token first".into(),
        steps: vec![
            "Change the program to request a token (PUT /latest/api/token) and to send it with \
             every call, or update the program to a version that does."
                .into(),
        ],
        commands: commands.iter().map(|&command| command.into()).collect(),
        reference: Some(REQUEST_PAGE.into()),
    }
}

fn both_ways(case: &Case<'_>) -> Remedy {
    let Remedy {
        steps, commands, ..
    } = request_token(case);
    let more = if case.facts.sdk_facts.is_some() {
        sdk(case).steps
    } else {
        steps
    };
    let mut steps = vec![
        "Find the code that makes the IMDSv1 calls: the report shows their User-Agent, paths and \
         arguments beside those of the IMDSv2 calls."
            .to_owned(),
    ];
    steps.extend(more);
    Remedy {
        short: "change the code path that makes IMDSv1 calls".into(),
        steps,
        commands,
        reference: Some(REQUEST_PAGE.into()),
    }
}

/// The token request fails; the client is correct.
fn token_request(failure: Cause, case: &Case<'_>) -> Remedy {
    let mut remedy = match failure {
        Cause::AfterRejection => Remedy {
            short: "find the proxy or firewall that rejects its token requests".into(),
            steps: vec![
                "Look for a proxy between the client and IMDS: IMDS rejects token requests that \
                 have an X-Forwarded-For header (403), and proxies such as kube2iam reject them \
                 as well. Exempt 169.254.169.254 from the proxy (NO_PROXY), or update the proxy."
                    .into(),
                "If there is no proxy, check the request and fix the program: IMDS responds with \
                 400 if the TTL header is missing, and with 403 to a path other than \
                 /latest/api/token."
                    .into(),
            ],
            commands: vec!["NO_PROXY=169.254.169.254,fd00:ec2::254".into()],
            reference: Some(REQUEST_PAGE.into()),
        },
        Cause::AfterServerError => Remedy {
            short: "call IMDS less often: it throttles".into(),
            steps: vec![
                "IMDS throttles frequent calls (503). Find the busiest clients and make them \
                 cache tokens and credentials until they expire."
                    .into(),
            ],
            commands: Vec::new(),
            reference: Some(DATA_PAGE.into()),
        },
        _ => unanswered(case),
    };
    remedy.steps.push(
        "Restart the client, which may keep using IMDSv1 until then, and observe again. It needs \
         no update."
            .into(),
    );
    remedy
}

fn unanswered(case: &Case<'_>) -> Remedy {
    if case.stats.client.host_network == Some(true) {
        return Remedy {
            short: "find the hop that drops the responses to its token requests".into(),
            steps: vec![
                "The client runs in the host's network namespace, so the hop limit is not the \
                 cause. Look for a firewall or a proxy that drops PUT requests to 169.254.169.254."
                    .into(),
            ],
            commands: Vec::new(),
            reference: Some(OPTIONS_PAGE.into()),
        };
    }
    Remedy {
        short: "raise the hop limit to 2".into(),
        steps: vec![
            "The instance's hop limit bounds how far the response to a token request travels, and \
             a container behind a bridge is one hop further away. Raise the limit to 2; the \
             change takes effect immediately."
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
    if case.counts.put_failed() > 0 {
        let mut remedy = token_request(case.counts.put_failure(), case);
        remedy.steps.insert(
            0,
            "The client ignores failed token requests. Make it exit if the token request fails, then fix \
             the cause:"
                .into(),
        );
        return remedy;
    }
    let commands: &[&str] = if case.runs("wget") { &WGET } else { &CURL };
    Remedy {
        short: "request a token and check the result".into(),
        steps: vec![
            "No failed token request of this client was captured, so the bug is in the client. Make \
             it send PUT /latest/api/token with the header X-aws-ec2-metadata-token-ttl-seconds, \
             and pass the response in X-aws-ec2-metadata-token."
                .into(),
        ],
        commands: commands.iter().map(|&command| command.into()).collect(),
        reference: Some(REQUEST_PAGE.into()),
    }
}

fn proxy() -> Remedy {
    Remedy {
        short: "check the proxy instead".into(),
        steps: vec![
            "Requiring IMDSv2 affects the proxy's own calls to IMDS. A proxy on this instance is \
             listed as a client."
                .into(),
        ],
        commands: Vec::new(),
        reference: Some(REQUEST_PAGE.into()),
    }
}
