//! A cargo that builds static programs for either architecture.

use crate::arch::Arch;
use crate::debian::{self, Debian};
use crate::process::{self, QUERY_TIMEOUT};
use crate::progress::note;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const CROSS_LINKER: &str = "aarch64-linux-gnu-gcc";
const CROSS_PACKAGES: &[&str] = &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"];
const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "libstd-rust-web-dev"];

/// A cargo whose programs for `arch` are static if the caller passes `--target`.
///
/// `extra_flags` are further flags for rustc.
pub fn cargo(arch: Arch, extra_flags: &[String], debian: &Debian) -> Result<Command> {
    let mut flags = vec!["-C".to_owned(), "target-feature=+crt-static".to_owned()];
    flags.extend_from_slice(extra_flags);
    let mut cargo = match arch {
        _ if arch.is_native() => process::cargo(),
        Arch::Arm64 => cross(&mut flags, debian)?,
        Arch::Amd64 => bail!("cannot build for amd64 on another architecture"),
    };
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    Ok(cargo)
}

/// A cargo that builds for arm64: this toolchain if it has the target, otherwise Debian's.
fn cross(flags: &mut Vec<String>, debian: &Debian) -> Result<Command> {
    debian
        .installer
        .ensure(CROSS_PACKAGES, "to link for arm64")?;
    flags.extend(["-C".to_owned(), format!("linker={CROSS_LINKER}")]);
    if rustup_has_target() {
        return Ok(process::cargo());
    }
    debian
        .installer
        .ensure(DEBIAN_PACKAGES, "to compile for arm64")?;
    let sysroot = arm64_sysroot(debian)?;
    flags.extend([
        "--sysroot".to_owned(),
        sysroot.to_string_lossy().into_owned(),
    ]);
    let mut cargo = process::external("/usr/bin/cargo");
    cargo.env("RUSTC", "/usr/bin/rustc");
    Ok(cargo)
}

fn rustup_has_target() -> bool {
    let mut rustup = Command::new("rustup");
    let targets = process::output(
        rustup.args(["target", "list", "--installed"]),
        QUERY_TIMEOUT,
    );
    let wanted = Arch::Arm64.rust_target();
    targets.is_ok_and(|targets| targets.lines().any(|line| line == wanted))
}

/// Rust's standard library for arm64, of the same version as Debian's compiler.
///
/// Unpacked, not installed: installing it needs a multiarch system.
fn arm64_sysroot(debian: &Debian) -> Result<PathBuf> {
    const PACKAGE: &str = "libstd-rust-web-dev";
    let version = debian::installed_version(PACKAGE)
        .with_context(|| format!("{PACKAGE} is not installed"))?;
    let parent = debian.cache.join("std");
    let directory = parent.join(&version);
    if !directory.exists() {
        note(format!("download {PACKAGE} {version} for arm64"));
        fs::create_dir_all(&parent).with_context(|| format!("create {}", parent.display()))?;
        let partial = tempfile::tempdir_in(&parent).context("create a temporary directory")?;
        debian
            .archive
            .unpack(&format!("{PACKAGE}:arm64={version}"), partial.path())?;
        let partial = partial.keep();
        fs::rename(&partial, &directory)
            .with_context(|| format!("rename to {}", directory.display()))?;
    }
    Ok(directory.join("usr"))
}
