use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use crate::enrich::container::*;
use crate::event::facts::PodFacts;

const STATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/state");
const DOCKER: &str = "6fe714283b7f512415786a33b7c33280cb03f70cc30a27d8b79738045221b8e5";
const NAMELESS: &str = "fb3705ad6e7bb67489c8c0565c1e78aed2994a5c7da425137f66545bff2970ed";
const CONTAINERD: &str = "6a825448c5ef07ac0c3b99532b18bdec0e1d0bb1eb41b4672d570634a1409a85";
const CRIO: &str = "e72fce5766ead840d848faae8843678ff84e779443c6776e941421a6617acdbd";
const PODMAN: &str = "3232bcac6132231f48c0b14ff1460d2aaa54e80c1970f4f95ba6d52bd066d3bc";

#[expect(clippy::unnecessary_wraps, reason = "it is for comparisons")]
fn some(text: &str) -> Option<String> {
    Some(text.into())
}

fn at(root: &Path) -> Containers {
    Containers::new(Rc::new(HostRoot::at(root)))
}

fn find(path: &str) -> Option<ContainerFacts> {
    at(Path::new(STATE)).find(&path.into(), None)
}

/// A host with these files.
fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn docker_and_ecs_are_read_as_docker_writes_them() {
    for path in [
        format!("/docker/{DOCKER}"),
        format!("/system.slice/docker-{DOCKER}.scope"),
        format!("/ecs/0123456789abcdef0123456789abcdef/{DOCKER}"),
        format!("/actions_job/{DOCKER}"),
    ] {
        let expected = ContainerFacts {
            id: DOCKER.into(),
            runtime: some("docker"),
            name: some("orders"),
            image: some("registry.example.com/orders:2.0"),
            ecs: some("orders/app"),
            ..ContainerFacts::default()
        };
        assert_eq!(find(&path), Some(expected), "{path}");
    }
    let nameless = find(&format!("/docker/{NAMELESS}")).unwrap();
    assert_eq!((nameless.name, nameless.ecs), (some("funny_carson"), None));
}

#[test]
fn containerd_is_read_as_runc_finds_it() {
    let uid = "3f2504e0-4f89-11d3-9a0c-0305e82c3301";
    let flat = uid.replace('-', "_");
    for path in [
        format!("/kubepods/burstable/pod{uid}/{CONTAINERD}"),
        format!("/kubepods.slice/kubepods-pod{flat}.slice/cri-containerd-{CONTAINERD}.scope"),
    ] {
        let expected = ContainerFacts {
            id: CONTAINERD.into(),
            runtime: some("containerd"),
            name: some("app"),
            image: some("registry.example.com/shop:1.4"),
            pod: Some(PodFacts {
                namespace: "shop".into(),
                name: "web-64df67bd8b-xmzhv".into(),
                container: some("app"),
            }),
            ..ContainerFacts::default()
        };
        assert_eq!(find(&path), Some(expected), "{path}");
    }
    let named = find("/default/batch-1").unwrap();
    assert_eq!((&*named.id, named.name), ("batch-1", some("batch-1")));
}

#[test]
fn crio_and_podman_are_told_apart_by_what_they_write() {
    let path = format!("/kubepods.slice/kubepods-besteffort.slice/crio-{CRIO}.scope");
    let facts = find(&path).unwrap();
    assert_eq!((facts.runtime, facts.name), (some("cri-o"), some("serve")));
    assert_eq!(facts.image, some("quay.io/example/ingest:3"));
    assert_eq!(facts.pod.unwrap().name, "ingest-x7k2p");
    for path in [
        format!("/libpod_parent/libpod-{PODMAN}"),
        format!("/machine.slice/libpod-{PODMAN}.scope/container"),
    ] {
        let expected = ContainerFacts {
            id: PODMAN.into(),
            runtime: some("podman"),
            name: some("web-shop"),
            image: some("docker.io/library/shop:1.4"),
            ..ContainerFacts::default()
        };
        assert_eq!(find(&path), Some(expected), "{path}");
    }
}

#[test]
fn users_containers_are_found_at_the_users_own_home_only() {
    let json = fs::read_to_string(format!(
        "{STATE}/var/lib/containers/storage/overlay-containers/containers.json"
    ));
    let docker = fs::read_to_string(format!(
        "{STATE}/var/lib/docker/containers/{DOCKER}/config.v2.json"
    ));
    let root = host(&[
        (
            "home/alice/.local/share/containers/storage/overlay-containers/containers.json",
            &json.unwrap(),
        ),
        (
            &format!("home/alice/.local/share/docker/containers/{DOCKER}/config.v2.json"),
            &docker.unwrap(),
        ),
    ]);
    let uid = fs::metadata(root.path()).unwrap().uid();
    let slice = "/user.slice/user-1000.slice/user@1000.service/user.slice";
    let podman: ByteString = format!("{slice}/libpod-{PODMAN}.scope/container")
        .as_str()
        .into();
    let docker: ByteString = format!("{slice}/docker-{DOCKER}.scope").as_str().into();
    let alice = |uid| {
        Some(Owner {
            uid,
            home: "/home/alice",
        })
    };
    let mut containers = at(root.path());
    assert_eq!(
        containers.find(&podman, alice(uid)).unwrap().name,
        some("web-shop")
    );
    assert_eq!(
        containers.find(&docker, alice(uid)).unwrap().name,
        some("orders")
    );
    let mut containers = at(root.path());
    assert_eq!(
        containers.find(&podman, alice(uid + 1)),
        None,
        "not the user's file"
    );
    assert_eq!(containers.find(&docker, None), None);
}

#[test]
fn other_labels_and_places_are_known_too() {
    let docker = |labels: &str| {
        format!(r#"{{"Name": "/made-up", "Config": {{"Image": "i", "Labels": {labels}}}}}"#)
    };
    let id = |digit: &str| digit.repeat(64);
    let config = |digit: &str| format!("data/containers/{}/config.v2.json", id(digit));
    let root = host(&[
        (
            "etc/docker/daemon.json",
            r#"{"data-root": "/data", "debug": true}"#,
        ),
        (
            &config("a"),
            &docker(
                r#"{"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}"#,
            ),
        ),
        (
            &config("b"),
            &docker(r#"{"com.docker.swarm.service.name": "web"}"#),
        ),
        (
            &config("c"),
            &docker(
                r#"{"io.kubernetes.pod.name": "p", "io.kubernetes.pod.namespace": "n",
                    "io.kubernetes.container.name": "POD"}"#,
            ),
        ),
        (&config("d"), &docker("null")),
        (
            &format!(
                "run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/{}/config.json",
                id("e")
            ),
            r#"{"annotations": {"io.kubernetes.cri.sandbox-name": "p", "io.kubernetes.cri.container-type": "sandbox"}}"#,
        ),
        (
            &format!(
                "run/containerd/io.containerd.runtime.v2.task/default/{}/config.json",
                id("f")
            ),
            r#"{"annotations": {"nerdctl/name": "batch", "nerdctl/namespace": "default"}}"#,
        ),
    ]);
    let mut containers = at(root.path());
    let mut find = |digit: &str| {
        containers
            .find(&format!("/x/{}", id(digit)).as_str().into(), None)
            .unwrap()
    };
    assert_eq!(find("a").service, some("shop/web"));
    assert_eq!(find("b").service, some("web"));
    let sandbox = find("c").pod.unwrap();
    assert_eq!(
        (&*sandbox.namespace, &*sandbox.name, sandbox.container),
        ("n", "p", None)
    );
    assert_eq!(find("d").name, some("made-up"));
    assert_eq!(find("e").pod.unwrap().name, "p");
    assert_eq!(
        (find("f").name, find("f").runtime),
        (some("batch"), some("containerd"))
    );
}

#[test]
fn of_containers_in_containers_the_innermost_with_state_counts() {
    let inner = "1".repeat(64);
    let facts = find(&format!("/docker/{DOCKER}/docker/{inner}")).unwrap();
    assert_eq!(facts.id, DOCKER);
    let facts = find(&format!("/docker/{inner}/docker/{DOCKER}")).unwrap();
    assert_eq!(facts.id, DOCKER);
}

#[test]
fn hostile_state_is_harmless() {
    let id = "a".repeat(64);
    let config = format!("var/lib/docker/containers/{id}/config.v2.json");
    let path: ByteString = format!("/docker/{id}").as_str().into();
    let long = "x".repeat(100_000);
    let hostile =
        format!(r#"{{"Name": "/\u001b[2J\u0000\n{long}", "Config": {{"Image": "{long}"}}}}"#);
    let facts = at(host(&[(&config, &hostile)]).path())
        .find(&path, None)
        .unwrap();
    let (name, image) = (facts.name.unwrap(), facts.image.unwrap());
    assert!(name.len() <= 256 && image.len() <= 256);
    assert!(!name.contains(char::is_control), "{name}");
    let deep = "[".repeat(200_000);
    let huge = format!("{{\"Name\": \"{}\"}}", "x".repeat(2 << 20));
    for broken in ["", "{", "null", "{\"Name\": 1}", &deep, &huge, "\u{feff}"] {
        let root = host(&[(&config, broken)]);
        assert_eq!(at(root.path()).find(&path, None), None);
    }
    for path in [
        "/../../etc",
        "/default/..",
        "/default/../../x",
        "/./.",
        "/a/b\0c",
        "/",
        "",
        "/default/",
    ] {
        assert_eq!(find(path), None, "{path}");
    }
}

#[test]
fn what_was_found_is_not_read_again() {
    let id = "a".repeat(64);
    let config = format!("var/lib/docker/containers/{id}/config.v2.json");
    let root = host(&[(&config, r#"{"Name": "/web"}"#)]);
    let path: ByteString = format!("/docker/{id}").as_str().into();
    let mut containers = at(root.path());
    assert_eq!(containers.find(&path, None).unwrap().name, some("web"));
    fs::remove_file(root.path().join(&config)).unwrap();
    assert_eq!(
        containers.find(&path, None).unwrap().name,
        some("web"),
        "the container is gone"
    );
    for number in 0..1000 {
        let _ = containers.find(&format!("/other/{number}").as_str().into(), None);
    }
    assert!(containers.known.len() <= MAX_KNOWN.get());
}
