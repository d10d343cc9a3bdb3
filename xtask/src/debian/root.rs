//! A small Debian with systemd to install packages in: as a directory, or as a machine's disk.

use super::{Debian, is_root, is_younger_than};
use crate::process::{self, DOWNLOAD_TIMEOUT, QUERY_TIMEOUT};
use crate::progress::step;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const SUITE: &str = "bookworm";
/// In addition to Debian's minimum: the service manager, an HTTP client, and `ip` for addresses.
const INCLUDED: &str = "systemd,systemd-sysv,curl,iproute2";
/// A root older than this is made again, with current packages.
const ROOT_MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Debian {
    /// Unpacks a new copy of the root into a directory that is removed with the returned value.
    pub fn unpack_root(&self) -> Result<TempDir> {
        let tarball = self.root_tarball()?;
        let root = tempfile::tempdir_in(&self.cache).context("create a temporary directory")?;
        let mut tar = process::external("tar");
        tar.arg("-C")
            .arg(root.path())
            .args(["--numeric-owner", "-xf"]);
        process::run(tar.arg(tarball), DOWNLOAD_TIMEOUT)?;
        Ok(root)
    }

    fn root_tarball(&self) -> Result<PathBuf> {
        if !is_root() {
            bail!("cannot make a Debian root: not root; run as root");
        }
        let tarball = self.cache.join(format!("{SUITE}.tar"));
        if is_younger_than(&tarball, ROOT_MAX_AGE) {
            return Ok(tarball);
        }
        self.installer.ensure(
            &["mmdebstrap", "debian-archive-keyring"],
            "to make a Debian root",
        )?;
        fs::create_dir_all(&self.cache)
            .with_context(|| format!("create {}", self.cache.display()))?;
        let mirror = self.archive.mirror()?;
        let partial = self.cache.join(format!("{SUITE}.partial.tar"));
        let mut mmdebstrap = process::external("mmdebstrap");
        mmdebstrap
            .args(["--quiet", "--mode=root", "--variant=minbase"])
            .arg(format!("--include={INCLUDED}"))
            // Half of the files; no test reads them.
            .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
            .arg("--dpkgopt=path-exclude=/usr/share/man/*")
            .arg(SUITE)
            .arg(&partial)
            .arg(format!("deb {mirror} {SUITE} main"));
        step(&format!("make a Debian {SUITE} root"), || {
            // The error quotes its output; on success it is not shown.
            process::output(&mut mmdebstrap, DOWNLOAD_TIMEOUT).map(drop)
        })?;
        fs::rename(&partial, &tarball)
            .with_context(|| format!("rename to {}", tarball.display()))?;
        Ok(tarball)
    }
}

/// Runs `words` inside `root` and returns its standard output.
///
/// The command has no network and no access to host processes: it runs in new mount, network, PID,
/// IPC and UTS namespaces, and its children are killed when it ends.
pub fn output_in(root: &Path, words: &[&str]) -> Result<String> {
    let mut command: Command = process::external("unshare");
    command
        .args(["--mount", "--net", "--pid", "--ipc", "--uts", "--fork"])
        .args(["--kill-child", "--mount-proc"])
        .arg(format!("--root={}", root.display()))
        .args(words)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8");
    process::output(&mut command, QUERY_TIMEOUT)
}
