//! The container image: `podman build` of packaging/container/Containerfile, as a tar file.

use super::contents::{self, File};
use super::{Release, tool};
use crate::arch::Arch;
use crate::process::{self, QUERY_TIMEOUT};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// The name without a tag. The registry is `localhost`, because the image is not published.
pub const NAME: &str = "localhost/imdsmon";

/// Debian packages that build and run images.
pub const PACKAGES: &[&str] = &["podman", "runc"];

pub fn tag(release: &Release) -> String {
    format!("{NAME}:{}", release.version)
}

pub fn pack(release: &Release, arch: Arch, files: &[File]) -> Result<PathBuf> {
    let context = release.stage(&format!("image-{}", arch.name()))?;
    contents::write(release, files, &context)?;
    let name = format!("imdsmon-{}-image-{}.tar", release.version, arch.name());
    let image = release.out().join(name);
    let tag = tag(release);
    let podman = Podman::new()?;
    let mut build = podman.command(release);
    build
        .args(["build", "--quiet", "--tag", &tag])
        .args(["--platform", &format!("linux/{}", arch.name())])
        .args(["--timestamp", &release.epoch.to_string()])
        .arg("--label")
        .arg(format!(
            "org.opencontainers.image.version={}",
            release.version
        ))
        .arg("--file")
        .arg(release.root.join("packaging/container/Containerfile"))
        .arg(context);
    process::output(&mut build, QUERY_TIMEOUT)?;
    // podman does not overwrite an existing file.
    if image.exists() {
        fs::remove_file(&image).with_context(|| format!("remove {}", image.display()))?;
    }
    let mut save = podman.command(release);
    // All engines load this format, and unlike oci-archive it contains no time of the build.
    save.args(["save", "--quiet", "--format=docker-archive", "--output"])
        .args([image.as_os_str(), tag.as_ref()]);
    process::output(&mut save, QUERY_TIMEOUT)?;
    Ok(image)
}

/// podman with separate storage, which is removed with this value.
pub struct Podman {
    storage: TempDir,
}

impl Podman {
    pub fn new() -> Result<Self> {
        let storage = tempfile::tempdir().context("create a temporary directory")?;
        Ok(Self { storage })
    }

    pub fn command(&self, release: &Release) -> Command {
        let mut podman = tool(release, "podman");
        podman
            .arg("--root")
            .arg(self.storage.path().join("root"))
            .arg("--runroot")
            .arg(self.storage.path().join("run"))
            .args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs"])
            // Unlike crun, runc supports all layouts of cgroup mounts.
            .arg("--runtime=runc");
        podman
    }
}
