//! A cargo that builds programs which need no library at run time, for each architecture.

use crate::debian::{self, Installer};
use crate::process::{self, QUESTION};
use crate::progress::note;
use crate::vm::archive::Archive;
use crate::vm::kernel::Arch;
use anyhow::{Context as _, Result, bail};
use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CROSS_LINKER: &str = "aarch64-linux-gnu-gcc";
const CROSS_PACKAGES: &[&str] = &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"];
const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "libstd-rust-web-dev"];

/// A cargo whose programs for `arch` are static; `--target` is the caller's to give.
///
/// `extra` are more flags for rustc. What it has to fetch is kept below `home`.
pub fn cargo(
    arch: Arch,
    extra: &[String],
    home: &Path,
    archive: &Archive,
    installer: &Installer,
) -> Result<Command> {
    let mut flags = vec!["-C".to_owned(), "target-feature=+crt-static".to_owned()];
    flags.extend_from_slice(extra);
    let mut cargo = match arch {
        Arch::X86_64 if ARCH == "x86_64" => process::cargo(),
        Arch::X86_64 => bail!("programs for x86_64 need a host of x86_64; this is {ARCH}"),
        Arch::Arm64 => cross(&mut flags, home, archive, installer)?,
    };
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    Ok(cargo)
}

/// A cargo that builds for arm64: this toolchain, if it has the target, or else Debian's.
fn cross(
    flags: &mut Vec<String>,
    home: &Path,
    archive: &Archive,
    installer: &Installer,
) -> Result<Command> {
    installer.ensure(CROSS_PACKAGES, "to link for arm64")?;
    flags.extend(["-C".to_owned(), format!("linker={CROSS_LINKER}")]);
    if rustup_has_target() {
        return Ok(process::cargo());
    }
    installer.ensure(DEBIAN_PACKAGES, "to compile for arm64")?;
    let sysroot = foreign_std(home, archive)?;
    flags.extend([
        "--sysroot".to_owned(),
        sysroot.to_string_lossy().into_owned(),
    ]);
    let mut cargo = process::foreign("/usr/bin/cargo");
    cargo.env("RUSTC", "/usr/bin/rustc");
    Ok(cargo)
}

fn rustup_has_target() -> bool {
    let mut rustup = Command::new("rustup");
    let targets = process::output(rustup.args(["target", "list", "--installed"]), QUESTION);
    targets.is_ok_and(|targets| targets.lines().any(|line| line == Arch::Arm64.target()))
}

/// Rust's standard library for arm64, of the same version as Debian's compiler.
///
/// Unpacked below target/vm: to install it one would have to make the whole machine multiarch.
fn foreign_std(home: &Path, archive: &Archive) -> Result<PathBuf> {
    const PACKAGE: &str = "libstd-rust-web-dev";
    let version =
        debian::version(PACKAGE).with_context(|| format!("{PACKAGE} is not installed"))?;
    let directory = home.join("std").join(&version);
    if !directory.exists() {
        note(format!("fetch {PACKAGE} {version} for arm64"));
        let parent = home.join("std");
        fs::create_dir_all(&parent).with_context(|| format!("create {}", parent.display()))?;
        let partial = tempfile::tempdir_in(&parent).context("make a directory")?;
        archive.unpack(&format!("{PACKAGE}:arm64={version}"), partial.path())?;
        let partial = partial.keep();
        fs::rename(&partial, &directory)
            .with_context(|| format!("name {}", directory.display()))?;
    }
    Ok(directory.join("usr"))
}
