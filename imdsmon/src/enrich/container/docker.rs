//! Docker's `containers/ID/config.v2.json` (`container/container.go` of moby).

use std::{collections::HashMap, path::Path};

use serde::Deserialize;

use crate::enrich::container::{MAX_FILE_BYTES, Owner};
use crate::{
    enrich::rootfs::HostRoot,
    event::facts::{ContainerFacts, PodFacts},
    text::clip::clip,
};

/// Defaults of `data-root` in `daemon.json`: upstream, and Ubuntu's snap.
const ROOTS: [&str; 2] = ["/var/lib/docker", "/var/snap/docker/common/var-lib-docker"];

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "Config", default)]
    config: Inner,
}

#[derive(Default, Deserialize)]
struct Inner {
    #[serde(rename = "Image", default)]
    image: String,
    #[serde(rename = "Labels", default)]
    labels: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct Daemon {
    #[serde(rename = "data-root")]
    data_root: Option<String>,
}

/// Data directories of the system's Docker.
pub(crate) fn roots(host: &HostRoot) -> Vec<String> {
    let daemon = host.read(Path::new("/etc/docker/daemon.json"), MAX_FILE_BYTES);
    let daemon: Option<Daemon> = daemon.and_then(|json| serde_json::from_slice(&json).ok());
    let said = daemon.and_then(|daemon| daemon.data_root);
    said.into_iter().chain(ROOTS.map(String::from)).collect()
}

/// Reads Docker's state of a container; in a user slice, the user's.
pub(crate) fn state(
    host: &HostRoot,
    roots: &[String],
    id: &str,
    owner: Option<Owner<'_>>,
) -> Option<ContainerFacts> {
    let below = format!("containers/{id}/config.v2.json");
    let json = roots
        .iter()
        .find_map(|root| host.read(&Path::new(root).join(&below), MAX_FILE_BYTES))
        .or_else(|| {
            let Owner { uid, home } = owner?;
            let root = Path::new(home).join(".local/share/docker");
            host.read_of_user(&root.join(&below), MAX_FILE_BYTES, uid)
        })?;
    facts(&json, id)
}

fn facts(json: &[u8], id: &str) -> Option<ContainerFacts> {
    let Config { name, config } = serde_json::from_slice(json).ok()?;
    let labels = config.labels.unwrap_or_default();
    let label = |key: &str| {
        labels
            .get(key)
            .filter(|v| !v.is_empty())
            .map(|value| clip(value))
    };
    // The task family or project, and the name within it.
    let pair = |whole: &str, part: &str| Some(clip(&format!("{}/{}", label(whole)?, label(part)?)));
    // cri-dockerd's labels; the container of a pod sandbox is named `POD`.
    let pod = label("io.kubernetes.pod.name").map(|name| PodFacts {
        namespace: label("io.kubernetes.pod.namespace").unwrap_or_default(),
        name,
        container: label("io.kubernetes.container.name").filter(|name| name != "POD"),
    });
    let some = |text: &str| (!text.is_empty()).then(|| clip(text));
    Some(ContainerFacts {
        id: id.into(),
        runtime: Some("docker".into()),
        name: some(name.strip_prefix('/').unwrap_or(&name)),
        image: some(&config.image),
        pod,
        // https://docs.aws.amazon.com/AmazonECS/latest/developerguide/container-metadata.html
        ecs: pair(
            "com.amazonaws.ecs.task-definition-family",
            "com.amazonaws.ecs.container-name",
        ),
        service: pair("com.docker.compose.project", "com.docker.compose.service")
            .or_else(|| label("com.docker.swarm.service.name")),
    })
}
