//! Annotations in the OCI bundle's `config.json`, written by containerd, CRI-O and nerdctl (labels
//! are annotations, too, `pkg/labels`; the image is not).

use std::{collections::HashMap, path::Path};

use serde::Deserialize;

use crate::enrich::container::MAX_FILE_BYTES;
use crate::{
    enrich::rootfs::HostRoot,
    event::facts::{ContainerFacts, PodFacts},
    text::clip::clip,
};

/// containerd's directories of running tasks: its own, k3s's and `MicroK8s`'.
const TASKS: [&str; 3] = [
    "/run/containerd/io.containerd.runtime.v2.task",
    "/run/k3s/containerd/io.containerd.runtime.v2.task",
    "/var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task",
];
/// CRI-O's directories of running containers, by storage driver.
const CRIO: [&str; 2] = [
    "/run/containers/storage/overlay-containers",
    "/run/containers/storage/vfs-containers",
];
/// Characters that containerd allows in a namespace or id (`identifiers/validate.go`).
const MARKS: &str = "_.-";

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    annotations: Option<HashMap<String, String>>,
}

/// The containerd container with this ID, in any namespace.
pub(crate) fn containerd(host: &HostRoot, id: &str) -> Option<ContainerFacts> {
    TASKS.iter().find_map(|tasks| {
        let namespaces = host.names(Path::new(tasks));
        namespaces
            .iter()
            .find_map(|namespace| bundle(host, tasks, namespace, id))
    })
}

/// The containerd container with this namespace and ID, which may be any name.
pub(crate) fn containerd_bundle(
    host: &HostRoot,
    namespace: &str,
    id: &str,
) -> Option<ContainerFacts> {
    let is_name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.len() <= 76
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || MARKS.contains(c))
    };
    if !is_name(namespace) || !is_name(id) {
        return None;
    }
    TASKS
        .iter()
        .find_map(|tasks| bundle(host, tasks, namespace, id))
}

fn bundle(host: &HostRoot, tasks: &str, namespace: &str, id: &str) -> Option<ContainerFacts> {
    let path = Path::new(tasks)
        .join(namespace)
        .join(id)
        .join("config.json");
    let annotations = annotations(&host.read(&path, MAX_FILE_BYTES)?)?;
    let annotation = |key: &str| annotation(&annotations, key);
    let part = |key: &str| annotation(&format!("io.kubernetes.cri.{key}"));
    // containerd's CRI plugin (`internal/cri/annotations`).
    let pod = part("sandbox-name").map(|name| PodFacts {
        namespace: part("sandbox-namespace").unwrap_or_default(),
        name,
        container: part("container-name"),
    });
    // Docker's containers have this namespace; their names are elsewhere.
    let runtime = if namespace == "moby" {
        "docker"
    } else {
        "containerd"
    };
    let is_hex = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let name = part("container-name").or_else(|| annotation("nerdctl/name"));
    Some(ContainerFacts {
        id: id.into(),
        runtime: Some(runtime.into()),
        // `ctr run IMAGE NAME`: the id is the name.
        name: name.or_else(|| (!is_hex).then(|| clip(id))),
        image: part("image-name"),
        pod,
        ..ContainerFacts::default()
    })
}

/// A CRI-O container (`pkg/annotations`), with the kubelet's names.
pub(crate) fn crio(host: &HostRoot, id: &str) -> Option<ContainerFacts> {
    CRIO.iter().find_map(|root| {
        let path = Path::new(root).join(id).join("userdata/config.json");
        let annotations = annotations(&host.read(&path, MAX_FILE_BYTES)?)?;
        let annotation = |key: &str| annotation(&annotations, key);
        // podman's bundles are in the same directory.
        let name = annotation("io.kubernetes.cri-o.Name")?;
        let container = annotation("io.kubernetes.container.name").filter(|name| name != "POD");
        let pod = annotation("io.kubernetes.pod.name").map(|name| PodFacts {
            namespace: annotation("io.kubernetes.pod.namespace").unwrap_or_default(),
            name,
            container: container.clone(),
        });
        Some(ContainerFacts {
            id: id.into(),
            runtime: Some("cri-o".into()),
            name: container.or(Some(name)),
            image: annotation("io.kubernetes.cri-o.ImageName")
                .or_else(|| annotation("io.kubernetes.cri-o.Image")),
            pod,
            ..ContainerFacts::default()
        })
    })
}

fn annotations(json: &[u8]) -> Option<HashMap<String, String>> {
    let spec: Spec = serde_json::from_slice(json).ok()?;
    Some(spec.annotations.unwrap_or_default())
}

fn annotation(annotations: &HashMap<String, String>, key: &str) -> Option<String> {
    let value = annotations.get(key).filter(|value| !value.is_empty());
    value.map(|value| clip(value))
}
