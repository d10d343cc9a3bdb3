//! Installed packages of this machine, and the installation of missing ones.

use super::is_root;
use crate::process::{self, DOWNLOAD_TIMEOUT, QUERY_TIMEOUT};
use crate::progress::{note, step};
use anyhow::{Result, bail};
use std::cell::Cell;
use std::fs;
use std::process::Command;

/// Installs packages as root on Debian or Ubuntu; elsewhere its errors name them.
pub struct Installer {
    forbidden: bool,
    updated: Cell<bool>,
}

impl Installer {
    /// With `forbidden` nothing is installed.
    pub fn new(forbidden: bool) -> Self {
        Self {
            forbidden,
            updated: Cell::new(false),
        }
    }

    pub fn can_install(&self) -> bool {
        self.may_install() && is_root() && has_apt()
    }

    /// Whether the user permits installing anything, also below `target`.
    pub fn may_install(&self) -> bool {
        !self.forbidden
    }

    /// Installs those of `packages` that are missing; `purpose` completes "install X (...)".
    pub fn ensure(&self, packages: &[&str], purpose: &str) -> Result<()> {
        let missing: Vec<&str> = packages
            .iter()
            .copied()
            .filter(|package| installed_version(package).is_none())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let names = missing.join(" ");
        if !self.can_install() {
            bail!("{}", advice(&names, purpose));
        }
        step(&format!("install {names} ({purpose})"), || {
            // Output is shown only on failure: it is pages of "Setting up ...".
            if !self.updated.replace(true) {
                process::output(apt_get().args(["-qq", "update"]), DOWNLOAD_TIMEOUT)?;
            }
            let mut install = apt_get();
            install
                .args(["-qq", "-y", "-o", "DPkg::Lock::Timeout=300"])
                .args(["install", "--no-install-recommends"])
                .args(&missing);
            process::output(&mut install, DOWNLOAD_TIMEOUT).map(drop)
        })
    }

    /// As [`Self::ensure`], but prints the error and continues.
    pub fn try_ensure(&self, packages: &[&str], purpose: &str) {
        if let Err(error) = self.ensure(packages, purpose) {
            note(format!("{error:#}"));
        }
    }
}

pub fn installed_version(package: &str) -> Option<String> {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${db:Status-Status} ${Version}", package]);
    let status = process::output(&mut query, QUERY_TIMEOUT).ok()?;
    status.strip_prefix("installed ").map(str::to_owned)
}

fn has_apt() -> bool {
    fs::exists("/usr/bin/apt-get").unwrap_or(false)
}

fn apt_get() -> Command {
    let mut command = process::external("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn advice(names: &str, purpose: &str) -> String {
    if has_apt() {
        format!(
            "missing packages ({purpose}): {names}; install them with:\n    \
             sudo apt-get update\n    \
             sudo apt-get install --no-install-recommends {names}"
        )
    } else {
        format!("missing packages ({purpose}), by their Debian names: {names}; install them")
    }
}
