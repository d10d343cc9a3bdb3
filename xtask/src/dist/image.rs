//! The container image: a tar file that podman, docker and OCI tools load, made without any.
//!
//! It is an OCI image layout (image-spec v1.1), and beside it holds the `manifest.json` that
//! `docker load` read before Docker 25; both name the same blobs. One layer, not compressed, so
//! that its digest is that of its content.

use super::contents::{self, File};
use super::{Release, sha256, tool};
use crate::arch::Arch;
use crate::process::{self, QUERY_TIMEOUT};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// The name without a tag; a local one, because the image is not published yet.
pub const NAME: &str = "localhost/imdsmon";

const LAYOUT: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Packs `files` for `arch`.
pub fn pack(release: &Release, arch: Arch, files: &[File]) -> Result<PathBuf> {
    let stage = release.stage(&format!("layer-{}", arch.name()))?;
    contents::write(release, files, &stage)?;
    let layout = release.stage(&format!("image-{}", arch.name()))?;
    fs::create_dir_all(layout.join("blobs/sha256")).context("create the layout")?;
    let layer = release.directory.join("stage/layer.tar");
    tar(release, &stage, &layer)?;
    let layer = fs::read(&layer).context("read the layer")?;

    let settings: Value =
        serde_json::from_slice(&release.source("packaging/container/config.json")?)
            .context("packaging/container/config.json")?;
    let layer = blob(&layout, LAYER, &layer)?;
    let config = json!({
        "architecture": arch.name(),
        "os": "linux",
        "config": labelled(settings, &release.version)?,
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let config = blob(&layout, CONFIG, config.to_string().as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": LAYOUT,
        "config": config,
        "layers": [layer],
    });
    let mut manifest = blob(&layout, LAYOUT, manifest.to_string().as_bytes())?;
    let tag = format!("{NAME}:{}", release.version);
    manifest["annotations"] = json!({
        "io.containerd.image.name": tag,
        "org.opencontainers.image.ref.name": release.version,
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest],
    });
    let docker = json!([{
        "Config": path(&config)?,
        "RepoTags": [tag],
        "Layers": [path(&layer)?],
    }]);
    for (name, content) in [
        ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })),
        ("index.json", index),
        ("manifest.json", docker),
    ] {
        fs::write(layout.join(name), content.to_string())
            .with_context(|| format!("write {name}"))?;
    }
    let image = release.out().join(format!(
        "imdsmon-{}-image-{}.tar",
        release.version,
        arch.name()
    ));
    tar(release, &layout, &image)?;
    Ok(image)
}

/// Adds the version to the labels of the image's settings.
fn labelled(mut settings: Value, version: &str) -> Result<Value> {
    let labels = settings
        .get_mut("Labels")
        .and_then(Value::as_object_mut)
        .context("packaging/container/config.json has no Labels")?;
    labels.insert(
        "org.opencontainers.image.version".to_owned(),
        version.into(),
    );
    Ok(settings)
}

/// Stores content by its digest, and describes it.
fn blob(layout: &Path, media_type: &str, content: &[u8]) -> Result<Value> {
    let digest = sha256(content);
    fs::write(layout.join("blobs/sha256").join(&digest), content).context("write a blob")?;
    Ok(json!({
        "mediaType": media_type,
        "digest": format!("sha256:{digest}"),
        "size": content.len(),
    }))
}

/// Where the blob of a descriptor is.
fn path(descriptor: &Value) -> Result<String> {
    let digest = descriptor["digest"].as_str().context("no digest")?;
    Ok(format!("blobs/{}", digest.replace(':', "/")))
}

/// All of `directory` in order, with root's ownership and the commit's time.
fn tar(release: &Release, directory: &Path, to: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
        names.push(entry.context("read a directory")?.file_name());
    }
    names.sort();
    let mut tar = tool(release, "tar");
    tar.arg("-C")
        .arg(directory)
        .args(["--format=ustar", "--sort=name", "--numeric-owner"])
        .args(["--owner=0", "--group=0", "--mode=u+rw,go=rX"])
        .arg(format!("--mtime=@{}", release.epoch))
        .arg("-cf")
        .arg(to)
        .arg("--")
        .args(names);
    process::run(&mut tar, QUERY_TIMEOUT)
}
