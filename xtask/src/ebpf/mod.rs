//! `cargo xtask ebpf`: from `imdsmon-ebpf` to the object that imdsmon embeds.
//!
//! The object and its stamp are committed, so a plain `cargo build` needs no BPF toolchain. Run
//! this task after a change to imdsmon-ebpf or imdsmon-common; CI checks the stamp.

mod object;
mod stamp;
mod toolchain;

use crate::debian::Installer;
use crate::process::{self, BUILD_TIMEOUT};
use crate::progress::{note, step};
use crate::workspace;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};
use toolchain::{Kind, Toolchain};

/// Directory of the object and its stamp, below the root of the repository.
const HOME: &str = "imdsmon/bpf";
const OBJECT: &str = "imdsmon.bpf.o";
const STAMP: &str = "stamp";

const PACKAGE: &str = "imdsmon-ebpf";
const TARGET: &str = "bpfel-unknown-none";

/// The instruction set: v3 (32-bit arithmetic and jumps) is part of Linux 5.1 and later. LLVM's
/// default, `generic`, differs between its releases.
const CPU: &str = "v3";

/// Flags of rustc and the linker other than paths; part of the stamp.
const FLAGS: &[&str] = &["-C", "link-arg=--btf"];

/// Profile of the build, independent of that of the workspace: bpf-linker optimizes the whole
/// program, and derives BTF from debug information.
const PROFILE: &[(&str, &str)] = &[
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "2"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "none"),
];

/// Build the eBPF object that imdsmon embeds, and its stamp (`imdsmon/bpf/`).
///
/// Needed only after a change in imdsmon-ebpf or imdsmon-common; commit what it writes. It uses
/// Debian's packages rustc-web, cargo-web, rust-web-src and llvm-NN-dev, or else rustup's
/// nightly with rust-src, and bpf-linker for the same LLVM. What is missing is installed as
/// root on Debian (see --no-install), otherwise the commands are printed. The same toolchain
/// makes the same bytes, wherever the repository lies.
#[derive(clap::Args)]
pub struct Args {
    /// Build nothing; fail unless the object was built from the current sources.
    #[arg(long)]
    check: bool,

    /// The toolchain to use [default: the first that is complete]
    #[arg(long, value_enum, conflicts_with = "check")]
    toolchain: Option<Kind>,

    /// Write object and stamp into DIR instead.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn run(args: &Args, installer: &Installer) -> Result<()> {
    let root = workspace::root()?;
    let home = args.output.clone().unwrap_or_else(|| root.join(HOME));
    if args.check {
        return step(
            "check that the eBPF object was built from the current sources",
            || stamp::check(&root, &home.join(OBJECT), &home.join(STAMP)),
        );
    }
    let toolchain = toolchain::find(&root, args.toolchain, installer)?;
    let linked = step(&format!("build {PACKAGE} with {}", toolchain.name), || {
        build(&root, &toolchain)
    })?;
    let bytes = object::strip(&linked)?;
    object::reject_paths(&bytes, &private_paths(&root)?)?;
    store(&root, &home, &toolchain, &bytes)
}

fn store(root: &Path, home: &Path, toolchain: &Toolchain, bytes: &[u8]) -> Result<()> {
    fs::create_dir_all(home).with_context(|| format!("create {}", home.display()))?;
    let path = home.join(OBJECT);
    let verdict = match fs::read(&path) {
        Ok(before) if before == bytes => "identical to the one that was there",
        Ok(_) => "differs from the one that was there",
        Err(_) => "new",
    };
    let stamp = stamp::text(root, &toolchain.name, bytes)?;
    fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
    let stamp_path = home.join(STAMP);
    fs::write(&stamp_path, stamp).with_context(|| format!("write {}", stamp_path.display()))?;
    note(format!(
        "{}: {} bytes, {verdict}",
        path.display(),
        bytes.len()
    ));
    Ok(())
}

/// Builds and returns the linked object.
fn build(root: &Path, toolchain: &Toolchain) -> Result<Vec<u8>> {
    let target = workspace::target(root).join("ebpf");
    let manifest = root.join("Cargo.toml");
    // Creates the registry directories, whose paths `remapped` keeps out of the object.
    let mut fetch = toolchain.cargo();
    fetch
        .current_dir(root)
        .args(["fetch", "--quiet", "--locked", "--manifest-path"]);
    process::run(fetch.arg(&manifest), process::DOWNLOAD_TIMEOUT)?;

    let mut cargo = toolchain.cargo();
    cargo
        .current_dir(root)
        .args(["build", "--release", "--locked", "-Z", "build-std=core"])
        .args(["--package", PACKAGE, "--target", TARGET])
        .arg("--manifest-path")
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(root, toolchain)?)
        .envs(PROFILE.iter().copied());
    process::run(&mut cargo, BUILD_TIMEOUT)?;
    let linked = target.join(TARGET).join("release").join(PACKAGE);
    fs::read(&linked).with_context(|| format!("read {}", linked.display()))
}

fn rustflags(root: &Path, toolchain: &Toolchain) -> Result<String> {
    let mut flags: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
    flags.extend(["-C".to_owned(), format!("target-cpu={CPU}")]);
    flags.extend([
        "-C".to_owned(),
        format!("linker={}", toolchain.linker.display()),
    ]);
    for (from, to) in remapped(root, toolchain)? {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    }
    Ok(flags.join("\x1f"))
}

/// Directories of this machine with their names in the object.
fn remapped(root: &Path, toolchain: &Toolchain) -> Result<Vec<(PathBuf, &'static str)>> {
    let mut pairs = vec![(root.to_owned(), "imdsmon")];
    let registry = workspace::cargo_home()?.join("registry/src");
    let entries =
        fs::read_dir(&registry).with_context(|| format!("read {}", registry.display()))?;
    for entry in entries {
        let source = entry.with_context(|| format!("read {}", registry.display()))?;
        pairs.push((source.path(), "crates"));
    }
    pairs.push((toolchain.std_source().to_owned(), "rust"));
    if let Ok(real) = toolchain.std_source().canonicalize() {
        pairs.push((real, "rust"));
    }
    Ok(pairs)
}

/// Paths that the object must not contain.
fn private_paths(root: &Path) -> Result<Vec<String>> {
    let mut paths = vec![root.to_owned(), workspace::cargo_home()?];
    paths.extend(std::env::home_dir().filter(|home| home.components().count() > 1));
    Ok(paths
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_object_matches_the_sources() {
        let root = workspace::root().unwrap();
        let home = root.join(HOME);
        stamp::check(&root, &home.join(OBJECT), &home.join(STAMP)).unwrap();
    }
}
