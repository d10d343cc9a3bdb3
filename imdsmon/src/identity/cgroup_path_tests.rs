use crate::identity::cgroup_path::*;

const A: &str = "6a825448c5ef07ac0c3b99532b18bdec0e1d0bb1eb41b4672d570634a1409a85";
const B: &str = "30e96ba907d6bcc209c1b0d173f0ab3aaf3c452c375639b0cf409342682df9ba";
const POD: &str = "3f2504e0-4f89-11d3-9a0c-0305e82c3301";

/// The path, with `A`, `B` and `POD` written out.
fn read(path: &str) -> CgroupPath {
    let flat = POD.replace('-', "_");
    let path = path.replace("{A}", A).replace("{B}", B);
    CgroupPath::of(
        path.replace("{POD}", POD)
            .replace("{FLAT}", &flat)
            .as_bytes(),
    )
}

#[test]
fn containers_of_every_runtime_and_driver_are_found() {
    for (path, runtime) in [
        ("/docker/{A}", Some("docker")),
        ("/system.slice/docker-{A}.scope", Some("docker")),
        ("/system.slice/docker-{A}.scope/init.scope", Some("docker")),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{A}.scope",
            Some("docker"),
        ),
        ("/actions_job/{A}", None),
        ("/system.slice/nerdctl-{A}.scope", Some("containerd")),
        ("/k8s.io/{A}", None),
        ("/machine.slice/libpod-{A}.scope", Some("podman")),
        ("/machine.slice/libpod-{A}.scope/container", Some("podman")),
        ("/libpod_parent/libpod-{A}", Some("podman")),
        ("/libpod_parent/libpod-{A}/container", Some("podman")),
        (
            "/system.slice/shop.service/libpod-payload-{A}",
            Some("podman"),
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope/container",
            Some("podman"),
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/user-libpod_pod_{B}.slice/libpod-{A}.scope",
            Some("podman"),
        ),
        ("/kubepods/burstable/pod{POD}/{A}", None),
        ("/kubepods/pod{POD}/{A}", None),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{FLAT}.slice/cri-containerd-{A}.scope",
            Some("containerd"),
        ),
        (
            "/kubepods.slice/kubepods-pod{FLAT}.slice/crio-{A}.scope",
            Some("cri-o"),
        ),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{FLAT}.slice/docker-{A}.scope",
            Some("docker"),
        ),
        (
            "/system.slice/containerd.service/kubepods-burstable-pod{FLAT}.slice:cri-containerd:{A}",
            Some("containerd"),
        ),
        ("/ecs/0123456789abcdef0123456789abcdef/{A}", Some("docker")),
        (
            "/ecs/prod/0123456789abcdef0123456789abcdef/{A}",
            Some("docker"),
        ),
        (
            "/ecstasks.slice/ecstasks-0123456789abcdef0123456789abcdef.slice/docker-{A}.scope",
            Some("docker"),
        ),
        ("/garden/thing-{A}", None),
        ("/docker/{B}/docker/{A}", Some("docker")),
        (
            "/docker/{B}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{FLAT}.slice/cri-containerd-{A}.scope",
            Some("containerd"),
        ),
    ] {
        let found = read(path);
        let container = found
            .container()
            .unwrap_or_else(|| panic!("{path}: {found:?}"));
        assert_eq!((&*container.id, container.runtime), (A, runtime), "{path}");
        assert_eq!(
            found.pod_uid.is_some(),
            path.contains("{POD}") || path.contains("{FLAT}"),
            "{path}"
        );
        assert!(found.pod_uid.is_none_or(|uid| uid == POD), "{path}");
        assert_eq!(found.is_ecs, path.contains("/ecs"), "{path}");
    }
    let lxc = read("/lxc.payload.web-1/system.slice/nginx.service");
    assert_eq!(lxc.container().unwrap().id, "web-1");
    assert_eq!(read("/lxc/web-1").container().unwrap().runtime, Some("lxc"));
    let static_pod = format!(
        "/kubepods/burstable/pod{}/{A}",
        "0123456789abcdef".repeat(2)
    );
    assert_eq!(read(&static_pod).pod_uid.unwrap().len(), 32);
}

#[test]
fn names_that_resemble_a_container_are_not_one() {
    for path in [
        "/machine.slice/libpod-conmon-{A}.scope",
        "/kubepods.slice/crio-conmon-{A}.scope",
        "/docker",
        "/docker/short",
        "/system.slice/docker.service",
        "/system.slice/docker-.scope",
        "/x{A}",
        "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope",
        "/ä{A}",
        "/äööö6a825448c5ef07ac0c3b99532b18bdec0e1d0bb1eb41b4672d570634a1409a8",
    ] {
        let found = read(path);
        assert_eq!(found.container(), None, "{path}");
        assert_eq!(found.pod_uid, None, "{path}");
    }
}

#[test]
fn units_and_users_are_found() {
    let user = "/user.slice/user-1000.slice";
    for (path, unit, user_unit, uid, is_session) in [
        (
            "/system.slice/nginx.service",
            Some("nginx.service"),
            None,
            None,
            false,
        ),
        (
            "/system.slice/nginx.service/worker/1",
            Some("nginx.service"),
            None,
            None,
            false,
        ),
        (
            "/system.slice/system-getty.slice/getty@tty1.service",
            Some("getty@tty1.service"),
            None,
            None,
            false,
        ),
        (
            "/system.slice/sshd@3-10.0.0.1:22-10.0.0.2:55.service",
            Some("sshd@3-10.0.0.1:22-10.0.0.2:55.service"),
            None,
            None,
            false,
        ),
        (
            &format!("{user}/session-3.scope"),
            Some("session-3.scope"),
            None,
            Some(1000),
            true,
        ),
        (
            &format!("{user}/user@1000.service/app.slice/sync.service"),
            Some("user@1000.service"),
            Some("sync.service"),
            Some(1000),
            false,
        ),
        (
            &format!("{user}/user@1000.service/init.scope"),
            Some("user@1000.service"),
            Some("init.scope"),
            Some(1000),
            false,
        ),
        ("/init.scope", Some("init.scope"), None, None, false),
        (
            "/system.slice/x.service/y.service",
            Some("x.service"),
            None,
            None,
            false,
        ),
        ("/.service", None, None, None, false),
        (
            "/session-3.scope",
            Some("session-3.scope"),
            None,
            None,
            false,
        ),
        ("/", None, None, None, false),
        ("", None, None, None, false),
    ] {
        let found = read(path);
        assert_eq!(found.unit.as_deref(), unit, "{path}");
        assert_eq!(found.user_unit.as_deref(), user_unit, "{path}");
        assert_eq!(
            (found.slice_uid, found.is_session),
            (uid, is_session),
            "{path}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_path_is_too_strange(path: Vec<u8>) {
        let _ = CgroupPath::of(&path);
    }
}
