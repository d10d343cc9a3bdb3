//! The Debian package, made by dpkg-deb.
//!
//! Own code, because cargo-deb 3.8 omits md5sums and writes a copyright file that lintian rejects;
//! it would also need a second list of files, and two CPU minutes to build.

use super::contents::{self, CONFIGURATION, File};
use super::{Release, tool};
use crate::arch::Arch;
use crate::process::{self, QUERY_TIMEOUT};
use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const MAINTAINER_SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];

pub fn pack(release: &Release, arch: Arch, files: &[File]) -> Result<PathBuf> {
    let stage = release.stage(&format!("deb-{}", arch.name()))?;
    contents::write(release, files, &stage)?;
    let control = stage.join("DEBIAN");
    fs::create_dir(&control).context("create DEBIAN")?;
    let template = String::from_utf8(release.source("packaging/debian/control")?)
        .context("packaging/debian/control is not UTF-8")?;
    let text = template
        .replace("@VERSION@", &release.version)
        .replace("@ARCH@", arch.name())
        .replace("@SIZE@", &kibibytes(files).to_string());
    write(&control.join("control"), text.as_bytes(), 0o644)?;
    let conffile = format!("/{CONFIGURATION}\n");
    write(&control.join("conffiles"), conffile.as_bytes(), 0o644)?;
    write(
        &control.join("md5sums"),
        md5sums(&stage, files)?.as_bytes(),
        0o644,
    )?;
    for script in MAINTAINER_SCRIPTS {
        let content = release.source(&format!("packaging/debian/{script}"))?;
        write(&control.join(script), &content, 0o755)?;
    }
    let deb = release
        .out()
        .join(format!("imdsmon_{}_{}.deb", release.version, arch.name()));
    let mut dpkg = tool(release, "dpkg-deb");
    dpkg.args(["--root-owner-group", "-Zxz", "--build"])
        .args([&stage, &deb]);
    process::output(&mut dpkg, QUERY_TIMEOUT)?;
    Ok(deb)
}

/// `Installed-Size`: KiB of all files, each rounded up.
fn kibibytes(files: &[File]) -> usize {
    files
        .iter()
        .map(|file| file.content.len().div_ceil(1024))
        .sum()
}

/// Checksums for `dpkg --verify`. dpkg handles configuration files separately.
fn md5sums(stage: &Path, files: &[File]) -> Result<String> {
    let mut md5sum = process::external("md5sum");
    let mut paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    paths.retain(|&path| path != CONFIGURATION);
    paths.sort_unstable();
    process::output(md5sum.current_dir(stage).args(paths), QUERY_TIMEOUT)
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    fs::write(path, content).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", path.display()))
}
