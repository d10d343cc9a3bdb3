//! What is told of each client: data.

use imdsmon::{
    identity::workload::{Container, Pod, Workload, WorkloadKind},
    knowledge::PathClass,
    ledger::{Answer, Cause},
    verdict::Verdict,
};

use super::clients::Story;

pub(super) fn outdated() -> Vec<Story<'static>> {
    vec![
        Story {
            program: "/opt/orders/worker.py",
            workload: unit("orders-worker.service"),
            user: "orders",
            package: Some("python3-botocore 1.12.103+repack-1"),
            verdict: Verdict::Breaks,
            rule: "sdk-below-minimum",
            reason: "botocore 1.12.103 knows no tokens; IMDSv2 needs 1.13.25 or later.",
            fix: "botocore 1.13.25 or later",
            steps: &[
                "Update botocore to 1.13.25 or later, and boto3 to 1.12.6 or later, in the environment that runs /opt/orders/worker.py.",
                "Restart orders-worker.service.",
                "Try it before the flip: with this setting the SDK refuses to call without a token.",
            ],
            commands: &[
                "/opt/orders/venv/bin/pip install --upgrade 'boto3>=1.12.6' 'botocore>=1.13.25'",
                "systemctl restart orders-worker.service",
                "AWS_EC2_METADATA_V1_DISABLED=true /opt/orders/worker.py --queue orders-prod",
            ],
            calls: [12, 0, 0],
            agent: Some("Boto3/1.9.84 Python/3.7.3 Linux/5.10.0 Botocore/1.12.103"),
            sdk: Some(("botocore", "1.12.103")),
            args: &["python3", "/opt/orders/worker.py", "--queue", "orders-prod"],
            ..Story::default()
        },
        Story {
            program: "/etc/cron.d/tag-backup",
            workload: Workload {
                kind: WorkloadKind::Cron,
                name: "tag-backup".into(),
                ..Workload::default()
            },
            verdict: Verdict::EmptyToken,
            rule: "header-in-arguments",
            reason: "Its arguments name the token header, and the request has none: curl drops a header that has no value, so the token was empty.",
            fix: "make the script stop when it gets no token",
            steps: &[
                "Find out why TOKEN is empty, and let the script end there: `set -eu`, `curl -f`.",
            ],
            commands: &[
                "TOKEN=$(curl -fsS -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token) || exit 1",
            ],
            calls: [1, 0, 1],
            every: 24,
            agent: Some("curl/7.88.1"),
            path: ("/latest/meta-data/instance-id", PathClass::Description),
            how: Cause::HeaderInArguments,
            args: &[
                "curl",
                "-s",
                "-H",
                "X-aws-ec2-metadata-token: ",
                "http://169.254.169.254/latest/meta-data/instance-id",
            ],
            ..Story::default()
        },
        Story {
            program: "/app/cart",
            workload: pod(),
            user: "65532",
            verdict: Verdict::FallsBack,
            rule: "token-request-unanswered",
            reason: "Its token requests got no answer, and a second later it called without a token: the answer did not reach the pod, which is what a hop limit of 1 does.",
            fix: "hop limit 2; the software is fine",
            steps: &[
                "Raise the hop limit of this instance, or give the pod its credentials by IRSA or EKS Pod Identity.",
            ],
            commands: &[
                "aws ec2 modify-instance-metadata-options --instance-id i-0f3c9a7e51d2b8460 --http-put-response-hop-limit 2 --http-endpoint enabled",
            ],
            calls: [2, 0, 2],
            agent: Some("aws-sdk-go-v2/1.30.3 os/linux lang/go#1.22.5 md/GOOS#linux ft/ec2-imds"),
            sdk: Some(("aws-sdk-go-v2", "1.30.3")),
            how: Cause::AfterNoAnswer,
            args: &["/app/cart"],
            ..Story::default()
        },
        Story {
            program: "/usr/bin/s3fs",
            workload: unit("mnt-archive.mount"),
            package: Some("s3fs 1.90-1"),
            verdict: Verdict::Mixed,
            rule: "both-versions",
            reason: "It reads the list of roles without a token and the credentials with one: iam_role=auto of s3fs before 1.91.",
            fix: "s3fs 1.91 or later, or name the role",
            steps: &["Update s3fs, or mount with iam_role=orders-prod in place of iam_role=auto."],
            calls: [1, 1, 1],
            every: 6,
            agent: Some("s3fs/1.90 (commit hash unknown; OpenSSL)"),
            args: &["s3fs", "archive", "/mnt/archive", "-o", "iam_role=auto"],
            ..Story::default()
        },
    ]
}

pub(super) fn odd() -> Vec<Story<'static>> {
    vec![
        Story {
            program: "/opt/legacy/report.jar",
            workload: container("reports", "registry.example.com/reports:2019.4"),
            user: "1000",
            verdict: Verdict::NotImds,
            rule: "answered-by-another",
            reason: "What answered calls itself kube2iam, not EC2ws: the flip does not reach it, its own way to the metadata service does.",
            fix: "update kube2iam to 0.11 or later",
            calls: [3, 0, 1],
            every: 3,
            agent: Some("aws-sdk-java/1.11.600 Linux/5.10.0 OpenJDK_64-Bit_Server_VM/11.0.16"),
            sdk: Some(("aws-sdk-java", "1.11.600")),
            answer: (Answer::NotImds, Some(200)),
            args: &["java", "-Xmx512m", "-jar", "/opt/legacy/report.jar"],
            ..Story::default()
        },
        Story {
            verdict: Verdict::Breaks,
            rule: "tokenless-unknown-caller",
            reason: "It was gone before anyone could look, and it called without a token. The User-Agent is all that is known.",
            fix: "find out who it is",
            steps: &[
                "Look at what runs at the times below; let `imdsmon watch --v1-only` run until it comes back.",
            ],
            commands: &["imdsmon watch --v1-only"],
            user: "",
            calls: [1, 0, 0],
            every: 112,
            agent: Some("Wget/1.21.3"),
            path: ("/latest/user-data", PathClass::UserData),
            ..Story::default()
        },
        Story {
            program: "/home/ana/bin/whereami",
            workload: Workload {
                kind: WorkloadKind::Session,
                name: "session-3.scope".into(),
                ..Workload::default()
            },
            user: "ana",
            verdict: Verdict::Rejected,
            rule: "refused",
            reason: "Its calls without a token were answered 401 from 2026-11-26 on: it does not work now.",
            fix: "get a token first",
            calls: [1, 0, 0],
            every: 48,
            agent: Some("Python-urllib/3.11"),
            path: (
                "/2016-09-02/dynamic/instance-identity/document",
                PathClass::Identity,
            ),
            answer: (Answer::Unauthorized, Some(401)),
            args: &["python3", "/home/ana/bin/whereami"],
            ..Story::default()
        },
    ]
}

pub(super) fn harmless() -> Vec<Story<'static>> {
    vec![
        Story {
            program: "/usr/bin/amazon-ssm-agent",
            workload: unit("amazon-ssm-agent.service"),
            package: Some("amazon-ssm-agent 3.0.161.0-1"),
            verdict: Verdict::Survives,
            rule: "retries-with-token",
            reason: "Versions before 3.0.431.0 call without a token first, and with one when refused.",
            fix: "none; stops by itself",
            calls: [1, 0, 0],
            every: 4,
            agent: Some("aws-sdk-go/1.29.24 (go1.14; linux; amd64)"),
            sdk: Some(("aws-sdk-go", "1.29.24")),
            args: &["/usr/bin/amazon-ssm-agent"],
            ..Story::default()
        },
        Story {
            program: "/usr/bin/google_osconfig_agent",
            workload: unit("google-osconfig-agent.service"),
            verdict: Verdict::Probe,
            rule: "other-cloud-only",
            reason: "It only looks for Google's cloud, and finds none.",
            calls: [1, 0, 0],
            every: 24,
            agent: Some("Go-http-client/1.1"),
            path: ("/computeMetadata/v1/instance/zone", PathClass::OtherCloud),
            answer: (Answer::NotFound, Some(404)),
            ..Story::default()
        },
        Story {
            program: "/usr/bin/cloud-init",
            workload: unit("cloud-init.service"),
            package: Some("cloud-init 22.4.2-1+deb12u3"),
            every: 168,
            agent: Some("Cloud-Init/22.4.2"),
            path: ("/2021-03-23/user-data", PathClass::UserData),
            ..Story::default()
        },
        Story {
            program: "/usr/bin/ecs-agent",
            workload: Workload {
                kind: WorkloadKind::EcsTask,
                ..container("ecs-agent", "amazon/amazon-ecs-agent:latest")
            },
            agent: Some("aws-sdk-go/1.51.3 (go1.22.7; linux; arm64) amazon-ecs-agent"),
            sdk: Some(("aws-sdk-go", "1.51.3")),
            ..Story::default()
        },
    ]
}

fn unit(name: &str) -> Workload {
    Workload {
        kind: WorkloadKind::Unit,
        name: name.into(),
        ..Workload::default()
    }
}

fn container(name: &str, image: &str) -> Workload {
    Workload {
        kind: WorkloadKind::Container,
        name: name.into(),
        container: Some(Container {
            id: "4c01db0b339c8f1c6f2f8b5d1f1d9d9a2a53a5d2b7cf2fbb1e2a7a4fbd30c7a1".into(),
            runtime: Some("docker".into()),
            name: Some(name.into()),
            image: Some(image.into()),
        }),
        pod: None,
    }
}

fn pod() -> Workload {
    let mut workload = container("cart", "registry.example.com/shop/cart:1.14.2");
    workload.kind = WorkloadKind::Pod;
    workload.name = "shop/cart-5d9c7b8f6b-x2x7q".into();
    if let Some(container) = &mut workload.container {
        container.runtime = Some("containerd".into());
    }
    workload.pod = Some(Pod {
        namespace: "shop".into(),
        name: "cart-5d9c7b8f6b-x2x7q".into(),
        container: Some("cart".into()),
    });
    workload
}
