use super::*;
use crate::event::facts::PodFacts;

const ID: &str = "6a825448c5ef07ac0c3b99532b18bdec0e1d0bb1eb41b4672d570634a1409a85";

fn at(path: &str) -> WorkloadInputs<'_> {
    WorkloadInputs {
        cgroup: Some(path.as_bytes()),
        ..WorkloadInputs::default()
    }
}

fn in_docker(facts: ContainerFacts) -> Workload {
    let facts = ContainerFacts {
        id: ID.into(),
        ..facts
    };
    let path = format!("/system.slice/docker-{ID}.scope");
    Workload::of(&WorkloadInputs {
        container: Some(&facts),
        ..at(&path)
    })
}

#[test]
fn units_keep_their_name_and_lose_what_changes() {
    for (path, kind, name) in [
        (
            "/system.slice/nginx.service",
            WorkloadKind::Unit,
            "nginx.service",
        ),
        (
            "/system.slice/apt-daily.service",
            WorkloadKind::Unit,
            "apt-daily.service",
        ),
        (
            "/s.slice/getty@tty1.service",
            WorkloadKind::Unit,
            "getty@tty1.service",
        ),
        (
            "/s.slice/vpn@eu-1.service",
            WorkloadKind::Unit,
            "vpn@eu-1.service",
        ),
        (
            "/s.slice/pg@14-main.service",
            WorkloadKind::Unit,
            "pg@14-main.service",
        ),
        (
            "/s.slice/sshd@3-10.0.0.1:22-10.0.0.2:55.service",
            WorkloadKind::Unit,
            "sshd@*.service",
        ),
        (
            "/s.slice/varlink@7-4242-0.service",
            WorkloadKind::Unit,
            "varlink@*.service",
        ),
        (
            "/system.slice/run-u123.service",
            WorkloadKind::Unit,
            "run-*.service",
        ),
        (
            "/system.slice/run-p12-i34.service",
            WorkloadKind::Unit,
            "run-*.service",
        ),
        (
            "/system.slice/run-r0123456789abcdef0123456789abcdef.scope",
            WorkloadKind::Unit,
            "run-*.scope",
        ),
        (
            "/system.slice/run-parts.service",
            WorkloadKind::Unit,
            "run-parts.service",
        ),
        (
            "/system.slice/cron.service",
            WorkloadKind::Cron,
            "cron.service",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/sync@a.service",
            WorkloadKind::UserUnit,
            "sync@a.service",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-term-4242.scope",
            WorkloadKind::UserUnit,
            "app-gnome-term-*.scope",
        ),
        (
            "/user.slice/user-1000.slice/session-3.scope",
            WorkloadKind::Session,
            "1000",
        ),
        (
            "/yarn/container_1700000000001",
            WorkloadKind::Cgroup,
            "/yarn/container_*",
        ),
        ("/", WorkloadKind::Unknown, ""),
    ] {
        let found = Workload::of(&at(path));
        assert_eq!((found.kind, &*found.name), (kind, name), "{path}");
        assert_eq!((found.container, found.pod), (None, None));
    }
    assert_eq!(
        Workload::of(&WorkloadInputs::default()),
        Workload::default()
    );
}

#[test]
fn sessions_and_cron_jobs_are_told_apart() {
    let session = WorkloadInputs {
        slice_user: Some("alice"),
        ..at("/user.slice/user-1000.slice/session-c12.scope")
    };
    assert_eq!(Workload::of(&session).name, "alice");
    let job = WorkloadInputs {
        cron_job: Some("/etc/cron.daily/backup"),
        ..session
    };
    let some_job = |path| {
        let inputs = WorkloadInputs {
            cron_job: Some(""),
            ..at(path)
        };
        Workload::of(&inputs).name
    };
    assert_eq!(some_job("/system.slice/crond.service"), "crond.service");
    assert_eq!(
        some_job("/user.slice/user-0.slice/session-3.scope"),
        "unknown"
    );
    let found = Workload::of(&job);
    assert_eq!(
        (found.kind, &*found.name),
        (WorkloadKind::Cron, "/etc/cron.daily/backup")
    );
}

#[test]
fn containers_are_named_by_what_does_not_change() {
    let some = |text: &str| Some(text.to_owned());
    let image = some("registry.example.com/shop:1.4");
    for (facts, kind, name) in [
        (
            ContainerFacts::default(),
            WorkloadKind::Container,
            &ID[..12],
        ),
        (
            ContainerFacts {
                name: some("web"),
                image: image.clone(),
                ..Default::default()
            },
            WorkloadKind::Container,
            "web",
        ),
        (
            ContainerFacts {
                name: some("nifty_hopper"),
                image: image.clone(),
                ..Default::default()
            },
            WorkloadKind::Container,
            "registry.example.com/shop:1.4",
        ),
        (
            ContainerFacts {
                name: some("shop-web-1"),
                service: some("shop/web"),
                ..Default::default()
            },
            WorkloadKind::Container,
            "shop/web",
        ),
        (
            ContainerFacts {
                name: some("ecs-orders-7-app-a0b1"),
                ecs: some("orders/app"),
                ..Default::default()
            },
            WorkloadKind::EcsTask,
            "orders/app",
        ),
        (
            ContainerFacts {
                name: some("app"),
                pod: Some(PodFacts {
                    namespace: "shop".into(),
                    name: "web-64df67bd8b-xmzhv".into(),
                    container: some("app"),
                }),
                ..Default::default()
            },
            WorkloadKind::Pod,
            "shop/web-*/app",
        ),
    ] {
        let found = in_docker(facts.clone());
        assert_eq!((found.kind, &*found.name), (kind, name), "{facts:?}");
        let container = found.container.unwrap();
        assert_eq!(
            (&*container.id, container.runtime.as_deref()),
            (ID, Some("docker"))
        );
        assert_eq!((container.name, container.image), (facts.name, facts.image));
        assert_eq!(found.pod.map(|pod| pod.name), facts.pod.map(|pod| pod.name));
    }
}

#[test]
fn without_state_the_path_still_tells() {
    let found = Workload::of(&at(&format!("/ecs/0123456789abcdef0123456789abcdef/{ID}")));
    assert_eq!(
        (found.kind, &*found.name),
        (WorkloadKind::EcsTask, &ID[..12])
    );
    let uid = "3f2504e0-4f89-11d3-9a0c-0305e82c3301";
    let found = Workload::of(&at(&format!("/kubepods/burstable/pod{uid}/{ID}")));
    assert_eq!((found.kind, found.pod), (WorkloadKind::Pod, None));
    assert_eq!(found.name, format!("{uid}/{}", &ID[..12]));
    assert_eq!(found.container.unwrap().id, ID);
}
