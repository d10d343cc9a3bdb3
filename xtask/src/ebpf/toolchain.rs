//! A compiler that can build for BPF, and bpf-linker for its LLVM.
//!
//! For BPF, `core` must be built from source, which needs its sources and an unstable flag. Debian
//! packages a current compiler with both (for its browsers); rustup's nightly has them too.
//! bpf-linker reads LLVM bitcode, so its LLVM must be that of the compiler.

use crate::debian::Installer;
use crate::process::{self, BUILD_TIMEOUT, QUERY_TIMEOUT};
use crate::progress::{note, step};
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The release of bpf-linker. Another one may build other bytes.
const LINKER: &str = "0.13.0";

/// Where a compiler comes from.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Packages rustc-web, cargo-web and rust-web-src.
    Debian,
    /// rustup's nightly with the component rust-src.
    Nightly,
}

pub struct Toolchain {
    /// The toolchain's name in the stamp.
    pub name: String,
    pub linker: PathBuf,
    compiler: Compiler,
}

impl Toolchain {
    pub fn cargo(&self) -> Command {
        let mut cargo = process::external(&self.compiler.cargo);
        cargo.env("RUSTC", &self.compiler.rustc);
        if self.compiler.is_release {
            // A release accepts unstable flags only with this variable.
            cargo.env("RUSTC_BOOTSTRAP", "1");
        }
        cargo
    }

    /// The sources of Rust's standard library.
    pub fn std_source(&self) -> &Path {
        &self.compiler.std_source
    }
}

struct Compiler {
    origin: &'static str,
    cargo: PathBuf,
    rustc: PathBuf,
    std_source: PathBuf,
    is_release: bool,
    version: String,
    llvm: String,
}

/// Finds a toolchain, or installs one, or fails with the commands that do.
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
    let (origin, version, llvm) = (compiler.origin, &compiler.version, &compiler.llvm);
    Ok(Toolchain {
        name: format!("{origin} rustc {version}, LLVM {llvm}, bpf-linker {LINKER}"),
        linker,
        compiler,
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

/// The compiler in `bin`, if it has the sources of `core`.
fn compiler(origin: &'static str, bin: &Path, is_release: bool) -> Option<Compiler> {
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
    let (version, llvm) = (value("release: ")?, value("LLVM version: ")?);
    Some(Compiler {
        origin,
        cargo,
        rustc,
        std_source,
        is_release,
        version,
        llvm,
    })
}

/// bpf-linker for LLVM `major`: an installed one, or one in the target directory.
fn linker(root: &Path, compiler: &Compiler, major: &str, installer: &Installer) -> Result<PathBuf> {
    let own = workspace::target(root).join(format!("tools/bpf-linker-{LINKER}-llvm-{major}"));
    let candidates = workspace::program_paths("bpf-linker", &own.join("bin"))?;
    if let Some(path) = candidates.into_iter().find(|path| fits(path, major)) {
        return Ok(path);
    }
    install(&own, compiler, major, installer)?;
    Ok(own.join("bin/bpf-linker"))
}

/// Whether this is the right release of bpf-linker, and not visibly one for another LLVM.
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
        "{} is linked statically; assuming LLVM {major}",
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
