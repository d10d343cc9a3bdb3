//! Clients as they are found on real instances, one of each verdict and more.

use imdsmon::{
    http::call::{Auth, TokenValue},
    identity::{
        client::Client,
        workload::{Container, Pod, Workload, WorkloadKind},
    },
    ledger::Cause,
};

use super::ledger::{Request, Story};

const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
const ROLE: &str = "/latest/meta-data/iam/security-credentials/orders-prod";
const TOKEN: &str = "/latest/api/token";

pub(super) fn all() -> Vec<Story<'static>> {
    let stories = outdated().into_iter().chain(odd()).chain(harmless());
    stories.collect()
}

fn outdated() -> [Story<'static>; 4] {
    let cart = "fd00:ec2::254";
    [
        Story {
            client: client(
                "/opt/orders/worker.py",
                unit("orders-worker.service"),
                "orders",
                "python3-botocore 1.12.103+repack-1",
            ),
            agent: Some("Boto3/1.9.84 Python/3.7.3 Linux/5.10.0 Botocore/1.12.103"),
            args: &["python3", "/opt/orders/worker.py", "--queue", "orders-prod"],
            every: 1,
            requests: vec![requests(6, Auth::V1, ROLES), requests(6, Auth::V1, ROLE)],
        },
        Story {
            client: client(
                "/etc/cron.d/tag-backup",
                named(WorkloadKind::Cron, "tag-backup"),
                "root",
                "",
            ),
            agent: Some("curl/7.88.1"),
            args: &[
                "curl",
                "-s",
                "-H",
                "X-aws-ec2-metadata-token: ",
                "http://169.254.169.254/latest/meta-data/instance-id",
            ],
            every: 24,
            requests: vec![Request {
                cause: Cause::HeaderInArguments,
                ..Request::default()
            }],
        },
        Story {
            client: Client {
                host_network: Some(false),
                ..client("/app/cart", pod(), "65532", "")
            },
            agent: Some("aws-sdk-go-v2/1.30.3 os/linux lang/go#1.22.5 md/GOOS#linux ft/ec2-imds"),
            args: &["/app/cart"],
            every: 1,
            requests: vec![
                Request {
                    status: None,
                    address: cart,
                    ..requests(2, Auth::TokenRequest, TOKEN)
                },
                Request {
                    cause: Cause::AfterNoResponse,
                    address: cart,
                    ..requests(2, Auth::V1, ROLE)
                },
            ],
        },
        Story {
            client: client(
                "/usr/bin/s3fs",
                unit("mnt-archive.mount"),
                "root",
                "s3fs 1.90-1",
            ),
            agent: Some("s3fs/1.90 (commit hash unknown; OpenSSL)"),
            args: &["s3fs", "archive", "/mnt/archive", "-o", "iam_role=auto"],
            every: 6,
            requests: vec![
                requests(1, Auth::V1, ROLES),
                requests(1, Auth::TokenRequest, TOKEN),
                requests(1, Auth::V2(TokenValue::Present), ROLE),
            ],
        },
    ]
}

fn odd() -> [Story<'static>; 3] {
    [
        Story {
            client: client(
                "/opt/legacy/report.jar",
                container("reports", "registry.example.com/reports:2019.4"),
                "1000",
                "",
            ),
            agent: Some("aws-sdk-java/1.11.600 Linux/5.10.0 OpenJDK_64-Bit_Server_VM/11.0.16"),
            args: &["java", "-Xmx512m", "-jar", "/opt/legacy/report.jar"],
            every: 3,
            requests: vec![Request {
                server: "kube2iam",
                ..requests(3, Auth::V1, ROLE)
            }],
        },
        Story {
            client: Client::unknown(),
            agent: Some("Wget/1.21.3"),
            args: &[],
            every: 112,
            requests: vec![requests(1, Auth::V1, "/latest/user-data")],
        },
        Story {
            client: client(
                "/home/ana/bin/whereami",
                named(WorkloadKind::Session, "session-3.scope"),
                "ana",
                "",
            ),
            agent: Some("Python-urllib/3.11"),
            args: &["python3", "/home/ana/bin/whereami"],
            every: 48,
            requests: vec![Request {
                status: Some(401),
                ..requests(
                    1,
                    Auth::V1,
                    "/2016-09-02/dynamic/instance-identity/document",
                )
            }],
        },
    ]
}

fn harmless() -> [Story<'static>; 4] {
    [
        Story {
            client: client(
                "/usr/bin/amazon-ssm-agent",
                unit("amazon-ssm-agent.service"),
                "root",
                "amazon-ssm-agent 3.0.161.0-1",
            ),
            agent: Some("aws-sdk-go/1.29.24 (go1.14; linux; amd64)"),
            args: &["/usr/bin/amazon-ssm-agent"],
            every: 4,
            requests: vec![
                requests(1, Auth::V1, ROLE),
                Request {
                    cause: Cause::RetryAfterUnauthorized,
                    ..requests(1, Auth::V2(TokenValue::Present), ROLE)
                },
            ],
        },
        Story {
            client: client(
                "/usr/bin/google_osconfig_agent",
                unit("google-osconfig-agent.service"),
                "root",
                "",
            ),
            agent: Some("Go-http-client/1.1"),
            args: &[],
            every: 24,
            requests: vec![Request {
                status: Some(404),
                ..requests(1, Auth::V1, "/computeMetadata/v1/instance/zone")
            }],
        },
        Story {
            client: client(
                "/usr/bin/cloud-init",
                unit("cloud-init.service"),
                "root",
                "cloud-init 22.4.2-1+deb12u3",
            ),
            agent: Some("Cloud-Init/22.4.2"),
            args: &[],
            every: 168,
            requests: vec![
                requests(1, Auth::TokenRequest, TOKEN),
                requests(2, Auth::V2(TokenValue::Present), "/2021-03-23/user-data"),
            ],
        },
        Story {
            client: client(
                "/usr/bin/ecs-agent",
                Workload {
                    kind: WorkloadKind::EcsTask,
                    ..container("ecs-agent", "amazon/amazon-ecs-agent:latest")
                },
                "root",
                "",
            ),
            agent: Some("aws-sdk-go/1.51.3 (go1.22.7; linux; arm64) amazon-ecs-agent"),
            args: &[],
            every: 1,
            requests: vec![
                requests(1, Auth::TokenRequest, TOKEN),
                requests(2, Auth::V2(TokenValue::Present), ROLE),
            ],
        },
    ]
}

fn requests(count: i64, auth: Auth, path: &str) -> Request<'_> {
    Request {
        count,
        auth,
        path,
        ..Request::default()
    }
}

fn client(program: &str, workload: Workload, user: &str, package: &str) -> Client {
    Client {
        program: program.into(),
        workload,
        user: user.into(),
        package: (!package.is_empty()).then(|| package.into()),
        host_network: Some(true),
    }
}

fn unit(name: &str) -> Workload {
    named(WorkloadKind::Unit, name)
}

fn named(kind: WorkloadKind, name: &str) -> Workload {
    Workload {
        kind,
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
