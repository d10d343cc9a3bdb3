//! A compiler that can build for the kernel, and a linker that understands it.
//!
//! Rust's `core` has to be built from source, which needs an unstable flag and the sources:
//! Debian has a current compiler with both (for its browsers), rustup's nightly has them too.
//! bpf-linker links LLVM bitcode, so its LLVM must be the compiler's.

use crate::debian::Installer;
use crate::process::{self, BUILD_TIMEOUT, QUERY_TIMEOUT};
use crate::progress::{note, step};
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The release of bpf-linker; one for all, so that all build the same bytes.
const LINKER: &str = "0.13.0";

/// Where a compiler comes from.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Packages rustc-web, cargo-web and rust-web-src.
    Debian,
    /// rustup's nightly with the component rust-src.
    Nightly,
}

/// Everything that a build for the kernel needs.
pub struct Toolchain {
    /// For people, and for the stamp.
    pub name: String,
    /// bpf-linker.
    pub linker: PathBuf,
    /// The sources of Rust's own libraries.
    pub std_source: PathBuf,
    cargo: PathBuf,
    rustc: PathBuf,
    /// A released compiler accepts unstable flags only when told so.
    released: bool,
}

impl Toolchain {
    /// This toolchain's cargo.
    pub fn cargo(&self) -> Command {
        let mut cargo = process::external(&self.cargo);
        cargo.env("RUSTC", &self.rustc);
        if self.released {
            cargo.env("RUSTC_BOOTSTRAP", "1");
        }
        cargo
    }
}

/// A compiler, before it has a linker.
struct Compiler {
    origin: &'static str,
    cargo: PathBuf,
    rustc: PathBuf,
    std_source: PathBuf,
    released: bool,
    release: String,
    llvm: String,
}

/// Finds a toolchain, or installs it, or says how to.
pub fn find(root: &Path, wanted: Option<Kind>, installer: &Installer) -> Result<Toolchain> {
    let compiler = match wanted {
        Some(Kind::Debian) => debian(installer)?,
        Some(Kind::Nightly) => nightly().context(NIGHTLY_ADVICE)?,
        None => match debian_present().or_else(nightly) {
            Some(compiler) => compiler,
            None => debian(installer).context(NIGHTLY_ADVICE)?,
        },
    };
    let major = compiler
        .llvm
        .split('.')
        .next()
        .unwrap_or_default()
        .to_owned();
    let linker = linker(root, &compiler, &major, installer)?;
    let Compiler {
        origin,
        cargo,
        rustc,
        std_source,
        released,
        release,
        llvm,
    } = compiler;
    Ok(Toolchain {
        name: format!("{origin} rustc {release}, LLVM {llvm}, bpf-linker {LINKER}"),
        linker,
        std_source,
        cargo,
        rustc,
        released,
    })
}

const NIGHTLY_ADVICE: &str = "no complete toolchain; rustup's would be:\n    \
    rustup toolchain install nightly --component rust-src\n    \
    cargo install bpf-linker\nor Debian's";

const DEBIAN_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

fn debian(installer: &Installer) -> Result<Compiler> {
    installer.ensure(DEBIAN_PACKAGES, "the compiler of the eBPF object")?;
    debian_present().context("Debian's rustc is installed, but without the sources of `core`")
}

fn debian_present() -> Option<Compiler> {
    compiler("Debian", Path::new("/usr/bin"), true)
}

fn nightly() -> Option<Compiler> {
    let list = process::output(
        process::external("rustup").args(["toolchain", "list"]),
        QUERY_TIMEOUT,
    )
    .ok()?;
    let name = list.lines().find(|line| line.starts_with("nightly"))?;
    let name = name.split_whitespace().next()?;
    let mut query = process::external("rustup");
    let rustc = process::output(
        query.args(["which", "--toolchain", name, "rustc"]),
        QUERY_TIMEOUT,
    )
    .ok()?;
    compiler("nightly", Path::new(rustc.trim()).parent()?, false)
}

/// The compiler in `bin`, if it and its sources are there.
fn compiler(origin: &'static str, bin: &Path, released: bool) -> Option<Compiler> {
    let (cargo, rustc) = (bin.join("cargo"), bin.join("rustc"));
    if !cargo.exists() {
        return None;
    }
    let ask = |arguments: &[&str]| {
        process::output(process::external(&rustc).args(arguments), QUERY_TIMEOUT).ok()
    };
    let sysroot = ask(&["--print", "sysroot"])?;
    let std_source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
    if !std_source.join("library/core").exists() {
        return None;
    }
    let about = ask(&["--version", "--verbose"])?;
    let value = |key: &str| {
        about
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .map(str::to_owned)
    };
    let (release, llvm) = (value("release: ")?, value("LLVM version: ")?);
    Some(Compiler {
        origin,
        cargo,
        rustc,
        std_source,
        released,
        release,
        llvm,
    })
}

/// bpf-linker for LLVM `major`: an installed one, or one of our own below the target directory.
fn linker(root: &Path, compiler: &Compiler, major: &str, installer: &Installer) -> Result<PathBuf> {
    let own = workspace::target(root).join(format!("tools/bpf-linker-{LINKER}-llvm-{major}"));
    let candidates = env::var_os("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> = env::split_paths(&candidates).collect();
    candidates.insert(0, own.join("bin"));
    candidates.push(workspace::cargo_home()?.join("bin"));
    for directory in candidates {
        let path = directory.join("bpf-linker");
        if path.exists() && fits(&path, major) {
            return Ok(path);
        }
    }
    install(&own, compiler, major, installer)?;
    Ok(own.join("bin/bpf-linker"))
}

/// Whether the linker is of the right release and not visibly of another LLVM.
fn fits(linker: &Path, major: &str) -> bool {
    let version = process::output(Command::new(linker).arg("--version"), QUERY_TIMEOUT);
    if !version.is_ok_and(|version| version.trim() == format!("bpf-linker {LINKER}")) {
        return false;
    }
    let libraries =
        process::output(Command::new("ldd").arg(linker), QUERY_TIMEOUT).unwrap_or_default();
    if let Some((_, after)) = libraries.split_once("libLLVM") {
        let version = after.trim_start_matches(['-', '.', 's', 'o']);
        return version.starts_with(major);
    }
    note(format!(
        "{} holds its LLVM inside; taken to be {major}",
        linker.display()
    ));
    true
}

fn install(into: &Path, compiler: &Compiler, major: &str, installer: &Installer) -> Result<()> {
    let command = format!(
        "LLVM_PREFIX=/usr/lib/llvm-{major} cargo install bpf-linker --version {LINKER} --locked \
         --no-default-features --features llvm-{major}"
    );
    let package = format!("llvm-{major}-dev");
    let why = format!(
        "bpf-linker for the LLVM {major} of {} rustc",
        compiler.origin
    );
    installer.ensure(&[&package], &why).with_context(|| {
        format!("no bpf-linker {LINKER} for LLVM {major}; build it with:\n    {command}\nafter")
    })?;
    if !installer.may_install() {
        bail!("no bpf-linker {LINKER} for LLVM {major}; install it with:\n    {command}");
    }
    step(
        &format!(
            "install bpf-linker {LINKER} for LLVM {major} into {}",
            into.display()
        ),
        || {
            let mut cargo = process::cargo();
            cargo
                .args([
                    "install",
                    "bpf-linker",
                    "--quiet",
                    "--version",
                    LINKER,
                    "--locked",
                ])
                .args([
                    "--no-default-features",
                    "--features",
                    &format!("llvm-{major}"),
                ])
                .arg("--root")
                .arg(into)
                .env("LLVM_PREFIX", format!("/usr/lib/llvm-{major}"));
            process::run(&mut cargo, BUILD_TIMEOUT)
        },
    )
}
