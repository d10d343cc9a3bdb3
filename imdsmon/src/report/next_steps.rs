//! Next steps, in order, with the commands for this instance.
//!
//! IMDSv2 is never required before the verdict is READY.

use super::model::NextStep;
use crate::host::{PLACEHOLDER, id_or_placeholder};
use crate::verdict::{HostVerdict, Judgement};

const USER_GUIDE: &str = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/";

/// `instance`: its ID, if known; `judgements`: those of all clients.
pub(crate) fn next_steps<'a>(
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
        if to_do.iter().any(|judgement| needs_hop_limit(judgement)) {
            steps.push(raise_hop_limit(id));
        }
        steps.push(dry_run());
        steps.push(observe_again(verdict));
    }
    steps.extend([
        require_imdsv2(verdict, id),
        observe_rejected(id),
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

/// Whether a higher hop limit fixes a client.
fn needs_hop_limit(judgement: &Judgement) -> bool {
    let mut commands = judgement.remedy.commands.iter();
    commands.any(|command| command.contains(HOP_LIMIT))
}

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
        1 => "Fix the client that needs action".to_owned(),
        n => format!("Fix the {n} clients that need action"),
    };
    step(
        &title,
        "This report lists a fix for each, worst client first. Clients that fetch credentials over \
         IMDSv1 stop working once IMDSv2 is required.",
        Vec::new(),
        "instance-metadata-transition-to-version-2.html",
    )
}

fn raise_hop_limit(id: &str) -> NextStep {
    step(
        "Let tokens reach containers",
        "With a hop limit of 1, the response to a token request does not cross a container bridge. \
         With 2, these clients get their tokens. The change takes effect immediately, without a \
         restart.",
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
            "Test one client in advance",
            "With this environment variable, an AWS SDK makes no IMDSv1 calls, as if IMDSv2 were \
             required. Older SDK versions, and programs without an AWS SDK, ignore this setting.",
            vec!["AWS_EC2_METADATA_V1_DISABLED=true".to_owned()],
            "",
        )
    }
}

fn observe_again(verdict: HostVerdict) -> NextStep {
    let text = match verdict {
        HostVerdict::Inconclusive => {
            "The observation is not sufficient to rule out IMDSv1 calls. Observe at least until the \
             rarest job has run, such as a weekly one; `imdsmon doctor` lists what limits capture \
             on this host."
        }
        _ => {
            "A fix shows only once the client calls again. Observe at least until the rarest job \
             has run, such as a weekly one, and create a new report."
        }
    };
    step(
        "Observe again",
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
        "Find the instance ID",
        "DMI does not expose the instance ID on this host. Replace INSTANCE_ID below. The first \
         command reads it from cloud-init, the second from the EC2 API.",
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

fn require_imdsv2(verdict: HostVerdict, id: &str) -> NextStep {
    let (title, text) = match verdict {
        HostVerdict::Ready => (
            "Require IMDSv2",
            "The change takes effect immediately, without a restart. The second command shows \
             `applied` when it is complete.",
        ),
        _ => (
            "Require IMDSv2 once the report says READY",
            "The change takes effect immediately, without a restart. The second command shows \
             `applied` when it is complete.",
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

fn observe_rejected(id: &str) -> NextStep {
    step(
        "Monitor rejected calls",
        "IMDS then rejects IMDSv1 calls with 401, and CloudWatch counts them in \
         MetadataNoTokenRejected instead of MetadataNoToken. The first command shows which client \
         makes them, the second creates an alarm.",
        vec![
            "imdsmon watch --v1-only".to_owned(),
            format!(
                "aws cloudwatch put-metric-alarm --alarm-name imds-rejected-{id} \
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
        "Roll back if a client breaks",
        "The rollback also takes effect immediately. It fails if the account enforces IMDSv2; the \
         second command shows whether it does.",
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
        "Make IMDSv2 the default for new instances",
        "The first command sets the default of the region for instances launched without this \
         setting; running instances keep theirs. The second command removes the default. The third \
         sets it for an AMI, which cannot be undone for that AMI. The launch setting takes \
         precedence over the region's default, and that over the AMI's.",
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
        "Update launch templates and infrastructure code",
        "Otherwise they launch instances with the old setting. Launch template: first command. \
         CloudFormation: second line, in AWS::EC2::Instance and in the LaunchTemplateData of \
         AWS::EC2::LaunchTemplate. Terraform: last two lines, in the metadata_options block of \
         aws_instance and aws_launch_template, or in aws_ec2_instance_metadata_defaults for a \
         region.",
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
        "Enforce IMDSv2 once all instances require it",
        "Use these statements in a service control policy or an IAM policy. The first denies \
         launching an instance that does not require IMDSv2. The second denies all API calls with \
         credentials that were fetched over IMDSv1, on every instance: it enforces IMDSv2 on all \
         of them at once.",
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
