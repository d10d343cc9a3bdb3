//! A small Debian with systemd, to install packages in: as a directory, or as a machine's disk.

use super::archive::Archive;
use crate::debian::{self, Installer};
use crate::process::{self, FETCH, QUESTION};
use crate::progress::step;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

const SUITE: &str = "bookworm";
/// Beside what Debian itself needs: the service manager, a client, and `ip` to set the stage.
const INCLUDED: &str = "systemd,systemd-sysv,curl,iproute2";
/// How long one is used before a new one is made.
const FRESH: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A fresh copy of the system, in a directory that goes away with the value.
pub fn unpacked(home: &Path, archive: &Archive, installer: &Installer) -> Result<TempDir> {
    let tarball = tarball(home, archive, installer)?;
    let root = tempfile::tempdir_in(home).context("make a directory")?;
    let mut tar = process::foreign("tar");
    tar.arg("-C")
        .arg(root.path())
        .args(["--numeric-owner", "-xf"]);
    process::run(tar.arg(tarball), FETCH)?;
    Ok(root)
}

/// A command to run in `root`, in namespaces of its own: it has no network, sees no process of the
/// host, and what it starts ends with it.
pub fn command(root: &Path, program: &str) -> Command {
    let mut command = process::foreign("unshare");
    command
        .args(["--mount", "--net", "--pid", "--ipc", "--uts", "--fork"])
        .args(["--kill-child", "--mount-proc"])
        .arg(format!("--root={}", root.display()))
        .arg(program)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8");
    command
}

fn tarball(home: &Path, archive: &Archive, installer: &Installer) -> Result<PathBuf> {
    if !debian::is_root() {
        bail!("a Debian root is made and entered as root only");
    }
    let tarball = home.join(format!("{SUITE}.tar"));
    if is_fresh(&tarball) {
        return Ok(tarball);
    }
    installer.ensure(
        &["mmdebstrap", "debian-archive-keyring"],
        "to make a Debian root",
    )?;
    fs::create_dir_all(home).with_context(|| format!("create {}", home.display()))?;
    let mirror = archive.mirror()?;
    let partial = home.join(format!("{SUITE}.partial.tar"));
    let mut mmdebstrap = process::foreign("mmdebstrap");
    mmdebstrap
        .args(["--quiet", "--mode=root", "--variant=minbase"])
        .arg(format!("--include={INCLUDED}"))
        // Nobody reads them there, and half of the files would be theirs.
        .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
        .arg("--dpkgopt=path-exclude=/usr/share/man/*")
        .arg(SUITE)
        .arg(&partial)
        .arg(format!("deb {mirror} {SUITE} main"));
    step(&format!("make a root of Debian {SUITE}"), || {
        // Its progress is of use only when it fails, and then is shown.
        process::output(&mut mmdebstrap, FETCH).map(drop)
    })?;
    fs::rename(&partial, &tarball).with_context(|| format!("name {}", tarball.display()))?;
    Ok(tarball)
}

fn is_fresh(tarball: &Path) -> bool {
    let written = fs::metadata(tarball).and_then(|file| file.modified());
    written.is_ok_and(|at| {
        SystemTime::now()
            .duration_since(at)
            .is_ok_and(|age| age < FRESH)
    })
}

/// Runs a command of [`command`] and returns what it says.
pub fn output(root: &Path, words: &[&str]) -> Result<String> {
    let (program, arguments) = words.split_first().context("no command")?;
    process::output(command(root, program).args(arguments), QUESTION)
}
