//! Packages of Debian and Ubuntu: what is installed, and installing what is not.

use crate::process::{self, FETCH, QUESTION};
use crate::progress::{note, step};
use anyhow::{Result, bail};
use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

/// Installs packages where that is allowed, and says how to where it is not.
pub struct Installer {
    never: bool,
    updated: Cell<bool>,
}

impl Installer {
    /// `never` only ever prints the commands.
    pub fn new(never: bool) -> Self {
        Self {
            never,
            updated: Cell::new(false),
        }
    }

    /// Whether a missing package can be installed here.
    pub fn can(&self) -> bool {
        !self.never && is_root() && has_apt()
    }

    /// Whether anything may be installed at all.
    pub fn may_install(&self) -> bool {
        !self.never
    }

    /// Makes sure that `packages` are installed; `why` says what for.
    pub fn ensure(&self, packages: &[&str], why: &str) -> Result<()> {
        let missing = missing(packages);
        if missing.is_empty() {
            return Ok(());
        }
        let names = missing.join(" ");
        if !self.can() {
            bail!("{}", advice(&names, why));
        }
        step(&format!("install {names} ({why})"), || {
            // Pages of "Setting up ..." are of use only when it fails, and then are shown.
            if !self.updated.replace(true) {
                process::output(apt_get().args(["-qq", "update"]), FETCH)?;
            }
            let mut install = apt_get();
            install
                .args(["-qq", "-y", "-o", "DPkg::Lock::Timeout=300"])
                .args(["install", "--no-install-recommends"])
                .args(&missing);
            process::output(&mut install, FETCH).map(drop)
        })
    }

    /// As [`Self::ensure`], but what cannot be had is only told.
    pub fn try_ensure(&self, packages: &[&str], why: &str) {
        if let Err(error) = self.ensure(packages, why) {
            note(format!("{error:#}"));
        }
    }
}

/// Whether this process is root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The installed version of `package`.
pub fn version(package: &str) -> Option<String> {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${db:Status-Status} ${Version}", package]);
    let answer = process::output(&mut query, QUESTION).ok()?;
    answer.strip_prefix("installed ").map(str::to_owned)
}

fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let absent = |package: &&&str| version(package).is_none();
    packages.iter().filter(absent).copied().collect()
}

fn has_apt() -> bool {
    fs::exists("/usr/bin/apt-get").unwrap_or(false)
}

fn apt_get() -> Command {
    let mut command = process::foreign("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn advice(names: &str, why: &str) -> String {
    if has_apt() {
        format!(
            "missing, {why}: {names}\ninstall with:\n    sudo apt-get update\n    \
             sudo apt-get install --no-install-recommends {names}"
        )
    } else {
        format!("missing, {why}: what Debian calls {names}; install it as your system does")
    }
}
