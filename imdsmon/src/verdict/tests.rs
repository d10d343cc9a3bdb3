//! Stories: given these calls, this verdict.

use std::rc::Rc;

use super::{judge::judge, *};
use crate::{
    identity::Process,
    knowledge::Knowledge,
    ledger::{ClientStats, test_support::*},
};

const ROLE: &str = "/latest/meta-data/iam/security-credentials/role";
const LIST: &str = "/latest/meta-data/iam/security-credentials/";
const ID: &str = "/latest/meta-data/instance-id";
const OLD: &str = "Boto3/1.9.253 Python/2.7.18 Botocore/1.12.253";
const NEW: &str = "Boto3/1.44.5 Python/3.13.0 Botocore/1.44.5";

/// The one client of a story.
fn entry(steps: impl IntoIterator<Item = Step>) -> ClientStats {
    let entries = ledger(steps).take();
    assert_eq!(entries.len(), 1);
    entries.into_iter().next().unwrap()
}

fn judged(steps: impl IntoIterator<Item = Step>) -> Judgement {
    judge(&entry(steps), &Knowledge::builtin())
}

#[track_caller]
fn assert_is(judgement: &Judgement, rule: Rule, needs_action: bool, access_after: AccessAfter) {
    let Judgement {
        verdict,
        rule: name,
        needs_action: needs,
        access_after: found,
        ..
    } = judgement;
    assert_eq!((*name, *verdict), (rule, rule.verdict()));
    assert_eq!(
        (*needs, *found),
        (needs_action, access_after),
        "{judgement:?}"
    );
}

fn app() -> Rc<Process> {
    process(7, &["app"])
}

#[test]
fn a_bare_curl_breaks_and_gets_commands() {
    let curl = process(7, &["curl", "http://169.254.169.254"]);
    let judgement = judged([tokenless(ID).by(&curl).agent("curl/7.88.1")]);
    assert_is(&judgement, Rule::Tokenless, true, AccessAfter::Nothing);
    assert_eq!(judgement.confidence, Confidence::Seen);
    let commands = judgement.remedy.commands.join("\n");
    assert!(commands.contains("curl -sf -X PUT"), "{commands}");
    assert!(judgement.remedy.reference.is_some());
}

#[test]
fn an_old_sdk_gets_the_minimum_version() {
    let judgement = judged([tokenless(ROLE).by(&app()).agent(OLD)]);
    assert_is(&judgement, Rule::OldSdk, true, AccessAfter::Nothing);
    assert_eq!(judgement.confidence, Confidence::Known);
    assert!(judgement.remedy.short.contains("1.13.25"), "{judgement:?}");
    assert!(judgement.reason.contains("1.12.253"), "{judgement:?}");
}

#[test]
fn a_current_sdk_is_not_to_be_updated() {
    let judgement = judged([tokenless(ROLE).by(&app()).agent(NEW)]);
    assert_is(&judgement, Rule::CurrentSdk, true, AccessAfter::Nothing);
    assert_eq!(judgement.confidence, Confidence::Likely);
    assert!(
        judgement.reason.contains("supports IMDSv2"),
        "{judgement:?}"
    );
    assert!(judgement.remedy.commands.contains(&DRY_RUN.to_owned()));
    let js = judged([tokenless(ID)
        .by(&app())
        .agent("aws-sdk-nodejs/2.1693.0 linux/v20")]);
    assert!(js.reason.contains("MetadataService"), "{js:?}");
}

#[test]
fn an_unanswered_token_request_blames_the_hop_limit() {
    let story = || [put().by(&app()).silent(), tokenless(ROLE).by(&app()).at(1)];
    let judgement = judged(story());
    assert_is(
        &judgement,
        Rule::TokenUnanswered,
        true,
        AccessAfter::AllOnceFixed,
    );
    let command = "aws ec2 modify-instance-metadata-options --instance-id INSTANCE_ID \
                   --http-put-response-hop-limit 2";
    assert_eq!(judgement.remedy.commands, [command]);

    let mut entry = entry(story());
    entry.client.host_network = Some(true);
    let judgement = judge(&entry, &Knowledge::builtin());
    assert_is(
        &judgement,
        Rule::TokenUnanswered,
        true,
        AccessAfter::AllOnceFixed,
    );
    assert!(judgement.remedy.commands.is_empty(), "no hop is in between");
}

#[test]
fn each_failure_of_a_token_request_has_its_remedy() {
    for (status, rule, word) in [
        (403, Rule::TokenRequestRefused, "proxy"),
        (503, Rule::TokenServerError, "throttle"),
    ] {
        let judgement = judged([
            put().by(&app()).status(status),
            tokenless(ROLE).by(&app()).at(1),
        ]);
        assert_is(&judgement, rule, true, AccessAfter::AllOnceFixed);
        let steps = judgement.remedy.steps.join(" ");
        assert!(steps.contains(word), "{steps}");
        assert!(!steps.contains("hop limit"), "{steps}");
    }
    // Under `required` already: refused, for the same reason.
    let judgement = judged([
        put().by(&app()).silent(),
        tokenless(ROLE).by(&app()).at(1).status(401),
    ]);
    assert_is(
        &judgement,
        Rule::TokenUnanswered,
        true,
        AccessAfter::AllOnceFixed,
    );
}

#[test]
fn unexplained_calls_make_it_mixed() {
    let judgement = judged([
        tokenless(ID).by(&app()),
        put().by(&app()).at(1).silent(),
        tokenless(ROLE).by(&app()).at(2),
    ]);
    assert_is(&judgement, Rule::FallsBackAndPlain, true, AccessAfter::Part);
    assert_eq!(judgement.confidence, Confidence::Likely);
    let judgement = judged([
        tokenless(ID).by(&app()),
        put().by(&app()).at(1),
        with_token(ROLE).by(&app()).at(2),
    ]);
    assert_is(&judgement, Rule::BothWays, true, AccessAfter::Part);
    let judgement = judged([
        tokenless(ID).by(&app()).status(401),
        put().by(&app()).at(1),
        with_token(ROLE).by(&app()).at(2),
    ]);
    assert_is(&judgement, Rule::BothWays, true, AccessAfter::Part);
}

#[test]
fn a_list_over_v1_read_over_v2_breaks() {
    let read = [with_token(ROLE).by(&app()).at(2), put().by(&app()).at(1)];
    let mut story = vec![tokenless(LIST).by(&app())];
    story.extend(read.clone());
    assert_is(
        &judged(story),
        Rule::ListThenRead,
        true,
        AccessAfter::Nothing,
    );
    let story = [
        tokenless(LIST).by(&app()),
        put().by(&app()).at(1).silent(),
        tokenless(ROLE).by(&app()).at(2),
    ];
    assert_is(
        &judged(story),
        Rule::ListThenRead,
        true,
        AccessAfter::Nothing,
    );
    let mut story = vec![tokenless("/latest/").by(&app())];
    story.extend(read);
    assert_is(&judged(story), Rule::BothWays, true, AccessAfter::Part);
}

#[test]
fn an_empty_token_blames_the_script_or_its_token_request() {
    let curl = process(7, &["curl", "-H", "X-aws-ec2-metadata-token: "]);
    let judgement = judged([tokenless(ID).by(&curl)]);
    assert_is(
        &judgement,
        Rule::HeaderInArguments,
        true,
        AccessAfter::Nothing,
    );
    assert!(judgement.remedy.short.contains("token"), "{judgement:?}");
    let fetch = process(6, &["curl", "-X", "PUT"]);
    let judgement = judged([put().by(&fetch).silent(), tokenless(ID).by(&curl).at(1)]);
    assert_is(
        &judgement,
        Rule::HeaderInArguments,
        true,
        AccessAfter::AllOnceFixed,
    );
    assert!(
        judgement.remedy.commands[0].contains("hop-limit"),
        "{judgement:?}"
    );
    let judgement = judged([tokenless(ID).by(&curl).status(401)]);
    assert_is(
        &judgement,
        Rule::HeaderInArguments,
        true,
        AccessAfter::Nothing,
    );
}

#[test]
fn calls_that_fail_already_need_no_action() {
    let judgement = judged([empty_token(ID).by(&app())]);
    assert_is(&judgement, Rule::EmptyHeader, false, AccessAfter::Nothing);
    let judgement = judged([put().by(&app()).silent(), empty_token(ID).by(&app()).at(1)]);
    assert_is(
        &judgement,
        Rule::EmptyHeader,
        false,
        AccessAfter::AllOnceFixed,
    );
    let judgement = judged([with_token(ID).by(&app()).status(401)]);
    assert_is(&judgement, Rule::BadToken, false, AccessAfter::Nothing);
    let judgement = judged([put().by(&app()).silent()]);
    assert_is(
        &judgement,
        Rule::NoTokenToGet,
        false,
        AccessAfter::AllOnceFixed,
    );
    assert!(!judgement.remedy.steps.is_empty());
}

#[test]
fn a_client_behind_a_proxy_needs_no_action() {
    let other = tokenless(ROLE).by(&app()).server(Some("kube2iam"));
    let judgement = judged([put().by(&app()).status(403).server(Some("kube2iam")), other]);
    assert_is(&judgement, Rule::OtherServer, false, AccessAfter::All);
    let judgement = judged([tokenless(ROLE).by(&app()).server(None)]);
    assert_is(&judgement, Rule::NamelessServer, false, AccessAfter::All);
    assert_eq!(judgement.confidence, Confidence::Likely);
    let real = tokenless(ROLE).by(&app());
    let both = [tokenless(ID).by(&app()).server(Some("nginx")), real];
    assert_eq!(
        judged(both).verdict,
        Verdict::Breaks,
        "IMDS answers it as well"
    );
}

#[test]
fn a_client_that_retries_survives() {
    let judgement = judged([
        tokenless("/latest/").by(&app()).status(401),
        put().by(&app()).at(1),
        with_token("/latest/").by(&app()).at(2),
    ]);
    assert_is(&judgement, Rule::Retries, false, AccessAfter::All);
    let judgement = judged([tokenless(ID).by(&app()).status(401)]);
    assert_is(&judgement, Rule::Refused, true, AccessAfter::Nothing);
    assert_eq!(judgement.verdict, Verdict::Rejected);
}

#[test]
fn a_known_program_is_judged_by_its_version() {
    let salt = |version: &str| {
        let agent = format!("Salt/{version} http.query()");
        judged([tokenless("/latest/").by(&app()).agent(&agent)])
    };
    assert_is(&salt("3007.4"), Rule::KnownToRetry, false, AccessAfter::All);
    assert_is(
        &salt("3006.9"),
        Rule::KnownTokenless,
        true,
        AccessAfter::Nothing,
    );
    assert!(salt("3006.9").remedy.short.contains("3007.0"));
    assert_eq!(salt("3006.9").confidence, Confidence::Known);

    let agent = |package: Option<&str>| {
        let mut entry = entry([tokenless(ID).by(&process(7, &["amazon-ssm-agent"]))]);
        entry.client.package = package.map(str::to_owned);
        judge(&entry, &Knowledge::builtin())
    };
    let survives = agent(Some("amazon-ssm-agent 2.3.978.0-1"));
    assert_is(&survives, Rule::KnownToRetry, false, AccessAfter::All);
    let unknown = agent(None);
    assert_is(&unknown, Rule::KnownTokenless, true, AccessAfter::Nothing);
    assert_eq!(unknown.confidence, Confidence::Likely);
    let older = agent(Some("amazon-ssm-agent 2.2.0.0"));
    assert_is(&older, Rule::KnownTokenless, true, AccessAfter::Nothing);
    let newer = agent(Some("amazon-ssm-agent 3.3.0.0"));
    assert_is(&newer, Rule::Tokenless, true, AccessAfter::Nothing);
}

#[test]
fn a_library_that_is_known_does_not_speak_for_another() {
    let salt = tokenless("/latest/").by(&app()).agent("Salt/3007.4");
    let other = tokenless(ID).by(&app()).at(1).agent("Python-urllib/3.11");
    assert_is(
        &judged([salt, other]),
        Rule::Tokenless,
        true,
        AccessAfter::Nothing,
    );
}

#[test]
fn an_option_that_turns_tokens_off_is_named() {
    let with = |option: &str| {
        let s3fs = process(7, &["s3fs", "b", "/mnt", "-o", option]);
        judged([tokenless(ROLE).by(&s3fs).agent("s3fs/1.90")])
    };
    let judgement = with("iam_role=auto,imdsv1only,url=x");
    assert_is(&judgement, Rule::KnownTokenless, true, AccessAfter::Nothing);
    assert!(
        judgement.remedy.short.contains("imdsv1only"),
        "{judgement:?}"
    );
    assert_eq!(with("iam_role=auto").rule, Rule::Tokenless);
}

#[test]
fn a_probe_loses_nothing() {
    let gcp = tokenless("/computeMetadata/v1/").by(&app()).status(404);
    assert_is(
        &judged([gcp.clone()]),
        Rule::OtherClouds,
        false,
        AccessAfter::All,
    );
    let root = [tokenless("/").by(&app()), gcp.clone()];
    assert_is(&judged(root), Rule::OnlyTheRoot, false, AccessAfter::All);
    let more = [tokenless("/").by(&app()), tokenless("/latest/").by(&app())];
    assert_is(&judged(more), Rule::Tokenless, true, AccessAfter::Nothing);
    let nothing = tokenless("/latest/meta-data/spot").by(&app()).status(404);
    assert_is(&judged([nothing]), Rule::NotFound, false, AccessAfter::All);
    let silent = tokenless(ID).by(&app()).silent();
    assert_is(&judged([silent]), Rule::Unanswered, false, AccessAfter::All);
    let probing = [put().by(&app()), with_token(ID).by(&app()).at(1), gcp];
    assert_is(&judged(probing), Rule::TokensOnly, false, AccessAfter::All);
    assert_is(
        &judged([put().by(&app())]),
        Rule::TokensOnly,
        false,
        AccessAfter::All,
    );
}
