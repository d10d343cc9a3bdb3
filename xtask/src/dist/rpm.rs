//! The RPM, made by rpmbuild.
//!
//! Not by cargo-generate-rpm 0.21, which compresses no man pages, does not own /etc/imdsmon, needs a
//! second list of files, and takes six CPU minutes to build.

use super::contents::{self, File};
use super::{Release, tool};
use crate::arch::Arch;
use crate::process::{self, QUERY_TIMEOUT};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;

pub fn pack(release: &Release, arch: Arch, files: &[File]) -> Result<PathBuf> {
    let stage = release.stage(&format!("rpm-{}", arch.name()))?;
    contents::write(release, files, &stage)?;
    let work = release.stage(&format!("rpmbuild-{}", arch.name()))?;
    let machine = arch.machine();
    let mut rpmbuild = tool(release, "rpmbuild");
    rpmbuild
        .args(["-bb", "--quiet", "--target", &format!("{machine}-linux")])
        .args(["--define", &format!("_topdir {}", work.display())])
        .args(["--define", &format!("stage {}", stage.display())])
        .args(["--define", &format!("version {}", release.version)])
        .arg(release.root.join("packaging/rpm/imdsmon.spec"));
    process::output(&mut rpmbuild, QUERY_TIMEOUT)?;
    let file = format!("imdsmon-{}-1.{machine}.rpm", release.version);
    let built = work.join("RPMS").join(machine).join(&file);
    let rpm = release.out().join(file);
    fs::copy(&built, &rpm).with_context(|| format!("copy {}", built.display()))?;
    Ok(rpm)
}
