//! What to do next, in order, with the commands for this very instance.
//!
//! The order is the message: nothing is flipped before the report says that it may be.

use super::model::NextStep;
use crate::host::{PLACEHOLDER, id_or_placeholder};
use crate::verdict::{HostVerdict, Judgement};

const USER_GUIDE: &str = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/";

/// What to do after this answer. `instance` is its id, if it is known; `judgements` are those of
/// all clients.
pub fn next_steps<'a>(
    verdict: HostVerdict,
    instance: Option<&str>,
    judgements: impl IntoIterator<Item = &'a Judgement>,
) -> Vec<NextStep> {
    let id = id_or_placeholder(instance);
    let to_do: Vec<_> = judgements
        .into_iter()
        .filter(|judgement| judgement.needs_action)
        .collect();
    let mut steps = Vec::new();
    if !to_do.is_empty() {
        steps.push(change(&to_do));
    }
    if verdict != HostVerdict::Ready {
        if to_do.iter().any(|judgement| names_hop_limit(judgement)) {
            steps.push(raise_hop_limit(id));
        }
        steps.push(dry_run());
        steps.push(watch_again(verdict));
    }
    steps.extend([
        flip(verdict, id),
        watch_after(id),
        roll_back(id),
        new_instances(),
        templates(),
        enforce(),
    ]);
    if id == PLACEHOLDER {
        let first = steps.iter().position(|step| {
            let mut commands = step.commands.iter();
            commands.any(|command| command.contains(PLACEHOLDER))
        });
        steps.insert(first.unwrap_or(0), find_id());
    }
    steps
}

/// Whether the hop limit is what mends a client.
fn names_hop_limit(judgement: &Judgement) -> bool {
    let mut commands = judgement.remedy.commands.iter();
    commands.any(|command| command.contains(HOP_LIMIT))
}

/// The option that sets the hop limit.
const HOP_LIMIT: &str = "--http-put-response-hop-limit";

fn step(title: &str, text: &str, commands: Vec<String>, page: &str) -> NextStep {
    NextStep {
        title: title.to_owned(),
        text: text.to_owned(),
        commands,
        reference: (!page.is_empty()).then(|| format!("{USER_GUIDE}{page}")),
    }
}

fn change(to_do: &[&Judgement]) -> NextStep {
    let title = match to_do.len() {
        1 => "Change the client that needs it".to_owned(),
        n => format!("Change the {n} clients that need it"),
    };
    step(
        &title,
        "Each has its remedy in this report, worst first. Who fetches credentials without a token \
         stops working when the instance is flipped.",
        Vec::new(),
        "instance-metadata-transition-to-version-2.html",
    )
}

fn raise_hop_limit(id: &str) -> NextStep {
    step(
        "Let tokens reach containers",
        "The answer to a token request may take one hop only, so that none gets across a bridge. \
         With two hops these clients get their tokens at once; it changes nothing else, and needs \
         no restart.",
        vec![format!(
            "aws ec2 modify-instance-metadata-options --instance-id {id} {HOP_LIMIT} 2"
        )],
        "configuring-IMDS-existing-instances.html",
    )
}

fn dry_run() -> NextStep {
    NextStep {
        reference: Some(
            "https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html"
                .to_owned(),
        ),
        ..step(
            "Try it with one client",
            "With this in its environment an AWS SDK does as if the instance were flipped: it \
             never calls without a token. SDKs from before this setting, and programs that use \
             none, do not heed it.",
            vec!["AWS_EC2_METADATA_V1_DISABLED=true".to_owned()],
            "",
        )
    }
}

fn watch_again(verdict: HostVerdict) -> NextStep {
    let text = match verdict {
        HostVerdict::Inconclusive => {
            "Too little was seen to say that nobody calls without a token. Watch for as long as \
             the rarest job needs to come round, such as a weekly one; `imdsmon doctor` says what \
             keeps this host from being seen whole."
        }
        _ => {
            "What was changed shows only when it calls again. Watch for as long as the rarest job \
             needs to come round, such as a weekly one, and make the report anew."
        }
    };
    step(
        "Watch again",
        text,
        vec![
            "imdsmon doctor".to_owned(),
            "imdsmon watch --duration 24h --record calls.imdsmon".to_owned(),
            "imdsmon report --from calls.imdsmon".to_owned(),
        ],
        "",
    )
}

fn find_id() -> NextStep {
    step(
        "Find this instance's id",
        "The firmware does not tell it here. Put it where INSTANCE_ID stands. The first command \
         asks what cloud-init has noted, the second AWS.",
        vec![
            "cloud-init query instance_id".to_owned(),
            "aws ec2 describe-instances --filters \
             Name=private-ip-address,Values=\"$(hostname -I | cut -d' ' -f1)\" \
             --query 'Reservations[].Instances[].InstanceId' --output text"
                .to_owned(),
        ],
        "identify_ec2_instances.html",
    )
}

fn flip(verdict: HostVerdict, id: &str) -> NextStep {
    let (title, text) = match verdict {
        HostVerdict::Ready => (
            "Require tokens",
            "It acts at once and restarts nothing. The second command shows `applied` when it is \
             done.",
        ),
        _ => (
            "Require tokens, once the report says READY",
            "Not before. It acts at once and restarts nothing. The second command shows `applied` \
             when it is done.",
        ),
    };
    step(
        title,
        text,
        vec![
            format!(
                "aws ec2 modify-instance-metadata-options --instance-id {id} \
                 --http-tokens required --http-endpoint enabled"
            ),
            format!(
                "aws ec2 describe-instances --instance-ids {id} \
                 --query 'Reservations[].Instances[].MetadataOptions'"
            ),
        ],
        "configuring-IMDS-existing-instances.html",
    )
}

fn watch_after(id: &str) -> NextStep {
    step(
        "Watch who is refused after that",
        "A call without a token is then answered 401, and CloudWatch counts it in \
         MetadataNoTokenRejected instead of MetadataNoToken. imdsmon shows who made it; the alarm \
         tells when it was not looked at.",
        vec![
            "imdsmon watch --v1-only".to_owned(),
            format!(
                "aws cloudwatch put-metric-alarm --alarm-name imds-refused-{id} \
                 --namespace AWS/EC2 --metric-name MetadataNoTokenRejected \
                 --dimensions Name=InstanceId,Value={id} --statistic Sum --period 300 \
                 --evaluation-periods 1 --threshold 0 \
                 --comparison-operator GreaterThanThreshold --treat-missing-data notBreaching"
            ),
        ],
        "viewing_metrics_with_cloudwatch.html",
    )
}

fn roll_back(id: &str) -> NextStep {
    step(
        "Take it back if somebody breaks",
        "It acts at once as well. It is refused where the account enforces tokens, which the \
         second command shows.",
        vec![
            format!(
                "aws ec2 modify-instance-metadata-options --instance-id {id} \
                 --http-tokens optional --http-endpoint enabled"
            ),
            "aws ec2 get-instance-metadata-defaults".to_owned(),
        ],
        "configuring-IMDS-existing-instances.html",
    )
}

fn new_instances() -> NextStep {
    step(
        "Have new instances begin so",
        "The default of a region holds for what is launched without a setting of its own; it \
         leaves running instances alone, and the second command takes it back. An AMI can ask for \
         tokens too, which cannot be undone for that AMI. What the launch says comes first, then \
         the region's default, then the AMI's.",
        vec![
            format!(
                "aws ec2 modify-instance-metadata-defaults --http-tokens required {HOP_LIMIT} 2"
            ),
            format!(
                "aws ec2 modify-instance-metadata-defaults --http-tokens no-preference \
                 {HOP_LIMIT} -1"
            ),
            "aws ec2 modify-image-attribute --image-id IMAGE_ID --imds-support v2.0".to_owned(),
        ],
        "configuring-IMDS-new-instances.html",
    )
}

fn templates() -> NextStep {
    step(
        "Write it down where instances come from",
        "What launches the next instance must say the same, or it brings the old setting back: the \
         launch template with the first command; CloudFormation with the second line, in \
         AWS::EC2::Instance and in the LaunchTemplateData of AWS::EC2::LaunchTemplate; Terraform \
         with the other two, in the block metadata_options of aws_instance and \
         aws_launch_template, or in aws_ec2_instance_metadata_defaults for a region.",
        vec![
            "aws ec2 create-launch-template-version --launch-template-id LAUNCH_TEMPLATE_ID \
             --source-version '$Latest' --launch-template-data \
             '{\"MetadataOptions\":{\"HttpTokens\":\"required\",\"HttpPutResponseHopLimit\":2}}'"
                .to_owned(),
            "MetadataOptions: {HttpTokens: required, HttpPutResponseHopLimit: 2}".to_owned(),
            "http_tokens = \"required\"".to_owned(),
            "http_put_response_hop_limit = 2".to_owned(),
        ],
        "configuring-IMDS-new-instances.html",
    )
}

fn enforce() -> NextStep {
    step(
        "Keep it so, when all instances are flipped",
        "As a service control policy or an IAM policy. The first statement refuses to launch an \
         instance that does not require tokens. The second refuses whatever is asked with \
         credentials that were fetched without one, on every instance: it is a flip of all of \
         them.",
        vec![
            "{\"Effect\":\"Deny\",\"Action\":\"ec2:RunInstances\",\
             \"Resource\":\"arn:aws:ec2:*:*:instance/*\",\"Condition\":\
             {\"StringNotEquals\":{\"ec2:MetadataHttpTokens\":\"required\"}}}"
                .to_owned(),
            "{\"Effect\":\"Deny\",\"Action\":\"*\",\"Resource\":\"*\",\"Condition\":\
             {\"NumericLessThan\":{\"ec2:RoleDelivery\":\"2.0\"}}}"
                .to_owned(),
        ],
        "ExamplePolicies_EC2.html#iam-example-instance-metadata",
    )
}

#[cfg(test)]
#[path = "next_steps_tests.rs"]
mod tests;
