//! What a client runs as: in real cgroups of each shape, beside the state that each runtime
//! leaves on disk.

#![expect(
    clippy::unwrap_used,
    reason = "a test may fail, outside of its test functions as well"
)]

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use tests::{Cgroup, Scene, contract, optional, program, skipped};

/// The root directory of a host with containers; its README says which runtime made what.
const STATE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../imdsmon/tests/fixtures/state"
);
const DOCKER: &str = "6fe714283b7f512415786a33b7c33280cb03f70cc30a27d8b79738045221b8e5";
const NAMELESS: &str = "fb3705ad6e7bb67489c8c0565c1e78aed2994a5c7da425137f66545bff2970ed";
const CONTAINERD: &str = "6a825448c5ef07ac0c3b99532b18bdec0e1d0bb1eb41b4672d570634a1409a85";
const CRIO: &str = "e72fce5766ead840d848faae8843678ff84e779443c6776e941421a6617acdbd";
const PODMAN: &str = "3232bcac6132231f48c0b14ff1460d2aaa54e80c1970f4f95ba6d52bd066d3bc";
const POD: &str = "3f2504e0-4f89-11d3-9a0c-0305e82c3301";

/// A stage whose monitor takes `root` for the host's root directory.
fn stage(root: &Path) -> Scene {
    let mut scene = Scene::without_monitor(optional());
    scene.start_monitor(&["--buffer", "16M", "--host-root", root.to_str().unwrap()]);
    scene
}

/// Plays `wire-client` in a cgroup, once seen and once gone before the monitor looks, and gives
/// both calls.
fn calls_in(root: &Path, cgroup: &Cgroup, more: &[&str]) -> [Value; 2] {
    let mut scene = stage(root);
    let mut command = scene.command(program("wire-client"));
    cgroup.enter(command.args(["send", "--request", "v1"]).args(more));
    let _ = scene.client(&mut command);
    let _ = scene.unseen(|| scene.client(&mut command));
    let seen = scene.finish();
    seen.iter().for_each(contract::check);
    seen.try_into().unwrap()
}

/// A host's root directory of its own, with the state of all runtimes and these files.
fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let copied = Command::new("cp")
        .arg("-rT")
        .arg(STATE)
        .arg(root.path())
        .status();
    assert!(copied.unwrap().success());
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// What a container's call says.
fn container(call: &Value) -> Value {
    json!({
        "id": call["container.id"],
        "name": call["container.name"],
        "image": call["container.image.name"],
        "namespace": call["k8s.namespace.name"],
        "pod": call["k8s.pod.name"],
        "container": call["k8s.container.name"],
        "kind": call["imds.workload.kind"],
        "workload": call["imds.workload.name"],
        "client": call["imds.client"],
    })
}

#[test]
fn containers_of_every_runtime_are_known_by_name() {
    if skipped() {
        return;
    }
    let flat = POD.replace('-', "_");
    let orders = json!({
        "id": DOCKER, "name": "orders", "image": "registry.example.com/orders:2.0",
        "namespace": null, "pod": null, "container": null,
        "kind": "ecs-task", "workload": "orders/app",
        "client": "ECS task orders/app: wire-client (root)",
    });
    let shop = json!({
        "id": CONTAINERD, "name": "app", "image": "registry.example.com/shop:1.4",
        "namespace": "shop", "pod": "web-64df67bd8b-xmzhv", "container": "app",
        "kind": "pod", "workload": "shop/web-*/app",
        "client": "pod shop/web-*/app: wire-client (root)",
    });
    let ingest = json!({
        "id": CRIO, "name": "serve", "image": "quay.io/example/ingest:3",
        "namespace": "data", "pod": "ingest-x7k2p", "container": "serve",
        "kind": "pod", "workload": "data/ingest-*/serve",
        "client": "pod data/ingest-*/serve: wire-client (root)",
    });
    let plain = |id: &str, name: &str, image: Value, workload: &str| {
        json!({
            "id": id, "name": name, "image": image,
            "namespace": null, "pod": null, "container": null,
            "kind": "container", "workload": workload,
            "client": format!("container {workload}: wire-client (root)"),
        })
    };
    let web = plain(
        PODMAN,
        "web-shop",
        json!("docker.io/library/shop:1.4"),
        "web-shop",
    );
    let image = "registry.example.com/orders:2.0";
    let nameless = plain(NAMELESS, "funny_carson", json!(image), image);
    let batch = plain("batch-1", "batch-1", Value::Null, "batch-1");
    for (path, expected) in [
        (format!("/docker/{DOCKER}"), &orders),
        (
            format!("/ecs/0123456789abcdef0123456789abcdef/{DOCKER}"),
            &orders,
        ),
        (
            format!(
                "/ecstasks.slice/ecstasks-0123456789abcdef0123456789abcdef.slice/docker-{DOCKER}.scope"
            ),
            &orders,
        ),
        (format!("/system.slice/docker-{NAMELESS}.scope"), &nameless),
        (format!("/kubepods/burstable/pod{POD}/{CONTAINERD}"), &shop),
        (
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{flat}.slice/cri-containerd-{CONTAINERD}.scope"
            ),
            &shop,
        ),
        (
            format!(
                "/system.slice/containerd.service/kubepods-pod{flat}.slice:cri-containerd:{CONTAINERD}"
            ),
            &shop,
        ),
        (
            format!("/kubepods.slice/kubepods-pod{flat}.slice/crio-{CRIO}.scope/container"),
            &ingest,
        ),
        (
            format!("/machine.slice/libpod-{PODMAN}.scope/container"),
            &web,
        ),
        (format!("/libpod_parent/libpod-{PODMAN}"), &web),
        (
            format!("/system.slice/shop.service/libpod-payload-{PODMAN}"),
            &web,
        ),
        ("/default/batch-1".into(), &batch),
    ] {
        let Some(cgroup) = Cgroup::at(&path) else {
            return;
        };
        for call in calls_in(Path::new(STATE), &cgroup, &[]) {
            assert_eq!(call["process.linux.cgroup"], path);
            assert_eq!(&container(&call), expected, "{path}");
        }
    }
}

#[test]
fn a_container_of_an_unknown_runtime_still_has_its_id() {
    if skipped() {
        return;
    }
    let id = "0123456789abcdef".repeat(4);
    let Some(cgroup) = Cgroup::below(&format!("/actions_job/{id}")) else {
        return;
    };
    for call in calls_in(Path::new(STATE), &cgroup, &[]) {
        assert_eq!(call["container.id"], id);
        assert_eq!(call["container.name"], Value::Null);
        assert_eq!(
            call["imds.client"],
            "container 0123456789ab: wire-client (root)"
        );
    }
}

#[test]
fn a_users_podman_keeps_its_state_at_home() {
    if skipped() {
        return;
    }
    let index = "var/lib/containers/storage/overlay-containers/containers.json";
    let index = fs::read_to_string(Path::new(STATE).join(index)).unwrap();
    let home = "home/alice/.local/share/containers/storage/overlay-containers/containers.json";
    let root = host(&[
        (home, &index),
        ("etc/passwd", "alice:x:54321:54321::/home/alice:/bin/sh\n"),
    ]);
    fs::remove_dir_all(root.path().join("var/lib/containers")).unwrap();
    let slice = "/user.slice/user-54321.slice/user@54321.service/user.slice";
    let Some(cgroup) = Cgroup::below(&format!("{slice}/libpod-{PODMAN}.scope/container")) else {
        return;
    };
    for call in calls_in(root.path(), &cgroup, &[]) {
        assert_eq!(
            call["container.name"],
            Value::Null,
            "root's file at alice's home is not hers"
        );
    }
    std::os::unix::fs::chown(root.path().join(home), Some(54321), None).unwrap();
    for call in calls_in(root.path(), &cgroup, &[]) {
        assert_eq!(call["container.name"], "web-shop");
        assert_eq!(call["imds.workload.name"], "web-shop");
    }
}

#[test]
fn units_sessions_and_users_are_told_apart() {
    if skipped() {
        return;
    }
    let root = host(&[(
        "etc/passwd",
        "root:x:0:0::/root:/bin/sh\nalice:x:54321:54321::/home/alice:/bin/sh\n",
    )]);
    let alice = "/user.slice/user-54321.slice";
    for (path, kind, name, client) in [
        (
            "/system.slice/imdsmon-test.service",
            "unit",
            "imdsmon-test.service",
            "imdsmon-test.service",
        ),
        (
            "/system.slice/imdsmon-test@a.service",
            "unit",
            "imdsmon-test@a.service",
            "imdsmon-test@a.service",
        ),
        (
            "/system.slice/imdsmon@5-10.0.0.1:22-10.0.0.2:9.service",
            "unit",
            "imdsmon@*.service",
            "imdsmon@*.service",
        ),
        (
            &format!("{alice}/session-987654.scope"),
            "session",
            "alice",
            "session of alice",
        ),
        (
            &format!("{alice}/user@54321.service/app.slice/sync.service"),
            "user-unit",
            "sync.service",
            "user unit sync.service",
        ),
    ] {
        let Some(cgroup) = Cgroup::below(path) else {
            return;
        };
        for call in calls_in(root.path(), &cgroup, &[]) {
            assert_eq!(call["imds.workload.kind"], kind, "{path}");
            assert_eq!(call["imds.workload.name"], name, "{path}");
            assert_eq!(call["imds.client"], format!("{client}: wire-client (root)"));
            assert_eq!(call["container.id"], Value::Null);
        }
    }
}

#[test]
fn a_hostile_container_cannot_leave_its_place() {
    if skipped() {
        return;
    }
    let id = "f".repeat(64);
    let hostile = json!({
        "Name": format!("/\u{1b}[2J\n{}: curl (root)\u{202e}", "<script>".repeat(10_000)),
        "Config": {"Image": "\u{0}\"},{", "Labels": {"io.kubernetes.pod.name": "../../x\r\n\u{7}"}},
    });
    let root = host(&[(
        &format!("var/lib/docker/containers/{id}/config.v2.json"),
        &hostile.to_string(),
    )]);
    let Some(cgroup) = Cgroup::below(&format!("/docker/{id}")) else {
        return;
    };
    for call in calls_in(root.path(), &cgroup, &[]) {
        for field in [
            "container.name",
            "container.image.name",
            "k8s.pod.name",
            "imds.client",
        ] {
            let text = call[field].as_str().unwrap();
            assert!(
                text.len() <= 800 && !text.contains(char::is_control),
                "{field}: {text}"
            );
        }
    }
}

#[test]
fn a_recording_names_clients_as_the_live_run_did() {
    if skipped() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let recording = directory.path().join("calls.imdsmon");
    let recording = recording.to_str().unwrap();
    let Some(cgroup) = Cgroup::below(&format!("/docker/{DOCKER}")) else {
        return;
    };
    let mut scene = Scene::without_monitor(optional());
    scene.start_monitor(&["--host-root", STATE, "--record", recording]);
    let mut command = scene.command(program("wire-client"));
    cgroup.enter(command.args(["send", "--request", "v1"]));
    let _ = scene.client(&mut command);
    let live = scene.finish();
    drop(cgroup);
    let replay = Command::new(program("imdsmon"))
        .args(["replay", "--json", recording])
        .output()
        .unwrap();
    let netns = &live[0]["linux.netns"];
    let replayed: Vec<Value> = String::from_utf8(replay.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["linux.netns"] == *netns)
        .collect();
    assert_eq!(replayed, live);
    assert_eq!(
        live[0]["imds.client"],
        "ECS task orders/app: wire-client (root)"
    );
}
