//! Podman's `containers.json`, the index of `containers/storage` (`store.go`); its `metadata` holds
//! podman's own data as JSON.

use std::path::Path;

use serde::Deserialize;

use crate::enrich::container::Owner;
use crate::{enrich::rootfs::HostRoot, event::facts::ContainerFacts, text::clip::clip};

/// One file has all containers, about 1 KiB each.
const MAX_SYSTEM_BYTES: u64 = 4 << 20;
/// A user controls this file, so the bound is lower.
const MAX_USER_BYTES: u64 = 1 << 20;
/// Storage drivers, which name the directory; the usual one first.
const DRIVERS: [&str; 4] = ["overlay", "vfs", "btrfs", "zfs"];

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    metadata: String,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(rename = "image-name")]
    image: Option<String>,
    name: Option<String>,
}

/// Reads podman's state of a container; in a user slice, the user's.
pub(crate) fn state(host: &HostRoot, id: &str, owner: Option<Owner<'_>>) -> Option<ContainerFacts> {
    DRIVERS.iter().find_map(|driver| {
        let below = format!("containers/storage/{driver}-containers/containers.json");
        // A rootless container is not in the system's index.
        let json = match owner {
            Some(Owner { uid, home }) => {
                let root = Path::new(home).join(".local/share");
                host.read_of_user(&root.join(below), MAX_USER_BYTES, uid)
            }
            None => host.read(&Path::new("/var/lib").join(below), MAX_SYSTEM_BYTES),
        };
        facts(&json?, id)
    })
}

fn facts(json: &[u8], id: &str) -> Option<ContainerFacts> {
    let entries: Vec<Entry> = serde_json::from_slice(json).ok()?;
    let entry = entries.into_iter().find(|entry| entry.id == id)?;
    let metadata: Metadata = serde_json::from_str(&entry.metadata).unwrap_or_default();
    let name = entry.names.into_iter().next().or(metadata.name);
    Some(ContainerFacts {
        id: id.into(),
        runtime: Some("podman".into()),
        name: name.map(|name| clip(&name)),
        image: metadata.image.map(|image| clip(&image)),
        ..ContainerFacts::default()
    })
}
