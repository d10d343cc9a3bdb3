//! `cargo xtask dist`: what users install.
//!
//! For each architecture one static binary, and around it a Debian package, an RPM and a container
//! image, with man pages and completions that the command line's own definition makes. What the
//! packages say and do beside is in `packaging`; here it is only put together. Times in them are
//! that of the commit: the same sources and tools make the same files.

mod check;
mod contents;
mod deb;
mod image;
mod monitoring;
#[cfg(test)]
mod packaging_tests;
mod rpm;

use crate::arch::Arch;
use crate::debian::Debian;
use crate::process::{self, BUILD_TIMEOUT, QUERY_TIMEOUT};
use crate::progress::{note, step};
use crate::static_build;
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Make the packages: static binaries, .deb, .rpm and container images, below target/dist/out.
///
/// Needs Debian's dpkg and rpm, and for arm64 a cross compiler; all are installed as root on
/// Debian (see --no-install).
#[derive(clap::Args)]
pub struct Args {
    /// Only this architecture; may be given twice.
    #[arg(long = "arch", value_name = "ARCH", value_enum)]
    archs: Vec<Arch>,

    /// Also install or unpack each package, in a root of its own, and run what it holds.
    ///
    /// Needs root, mmdebstrap, lintian and podman; they are installed as the others are.
    #[arg(long)]
    check: bool,
}

/// What all packages of a run share.
pub struct Release {
    /// The version of the workspace.
    pub version: String,
    /// Seconds since 1970 that every file in a package bears.
    pub epoch: u64,
    /// The top of the repository.
    pub root: PathBuf,
    /// Where everything is made: target/dist.
    pub home: PathBuf,
}

/// The files of one architecture, in `Release::out`.
pub struct Packages {
    /// What they are for.
    pub arch: Arch,
    /// The static program.
    pub binary: PathBuf,
    /// For dpkg.
    pub deb: PathBuf,
    /// For rpm.
    pub rpm: PathBuf,
    /// For podman, docker and whatever else reads an OCI layout.
    pub image: PathBuf,
}

/// Builds, packs, and, if asked, checks.
pub fn run(args: &Args, debian: &Debian) -> Result<()> {
    let root = workspace::root()?;
    let release = Release::of(root)?;
    debian.installer.ensure(
        &["dpkg", "rpm", "xz-utils", "debian-archive-keyring"],
        "to make packages",
    )?;
    let manual = manual(&release)?;
    let archs = match args.archs.as_slice() {
        [] => Arch::ALL,
        archs => archs,
    };
    let mut made = Vec::new();
    for &arch in archs {
        let binary = build(&release, arch, debian)?;
        made.push(pack(&release, arch, &binary, &manual)?);
    }
    sums(&release)?;
    if args.check {
        debian
            .installer
            .ensure(&["prometheus"], "to check rules with promtool")?;
        step("check the Prometheus rules and the dashboard", || {
            monitoring::check(&release)
        })?;
        check::all(&release, &made, debian)?;
    }
    note(format!("all in {}", release.out().display()));
    Ok(())
}

/// Makes only the Debian package, for a test that installs it.
pub fn deb(arch: Arch, debian: &Debian) -> Result<PathBuf> {
    let release = Release::of(workspace::root()?)?;
    let manual = manual(&release)?;
    let binary = build(&release, arch, debian)?;
    let contents = contents::debian(&release, &binary, &manual)?;
    fs::create_dir_all(release.out()).context("make a directory for packages")?;
    step("pack the .deb", || deb::pack(&release, arch, &contents))
}

impl Release {
    fn of(root: PathBuf) -> Result<Self> {
        let mut git = process::external("git");
        git.current_dir(&root)
            .args(["log", "-1", "--format=%ct", "HEAD"]);
        let time =
            process::output(&mut git, QUERY_TIMEOUT).context("ask for the time of the commit")?;
        let epoch = time.trim().parse().context("read the time of the commit")?;
        let home = workspace::target(&root).join("dist");
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch,
            root,
            home,
        })
    }

    /// Where the packages come to.
    pub fn out(&self) -> PathBuf {
        self.home.join("out")
    }

    /// A file of the repository.
    pub fn source(&self, path: &str) -> Result<Vec<u8>> {
        let path = self.root.join(path);
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    }

    /// An empty directory of this name to put a package together in.
    pub fn stage(&self, name: &str) -> Result<PathBuf> {
        let stage = self.home.join("stage").join(name);
        if stage.exists() {
            fs::remove_dir_all(&stage).with_context(|| format!("remove {}", stage.display()))?;
        }
        fs::create_dir_all(&stage).with_context(|| format!("create {}", stage.display()))?;
        Ok(stage)
    }
}

/// The man pages and completions, each as it is called.
fn manual(release: &Release) -> Result<PathBuf> {
    let directory = release.stage("manual")?;
    let mut cargo = process::cargo();
    cargo
        .current_dir(&release.root)
        .args(["run", "--quiet", "--locked", "--package", "imdsmon"])
        .args(["--example", "manual", "--"])
        .arg(&directory);
    step("write man pages and completions", || {
        process::run(&mut cargo, BUILD_TIMEOUT)
    })?;
    Ok(directory)
}

fn build(release: &Release, arch: Arch, debian: &Debian) -> Result<PathBuf> {
    // A path of the machine that builds would tell about it, and differ on the next one.
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let flags = [
        remap(&workspace::cargo_home()?, "cargo"),
        remap(&release.root, "imdsmon"),
    ];
    let target_dir = release.home.join("build");
    let mut cargo = static_build::cargo(arch, &flags, debian)?;
    cargo
        .current_dir(&release.root)
        .args(["build", "--release", "--locked", "--package", "imdsmon"])
        .args(["--target", &arch.rust_target(), "--target-dir"])
        .arg(&target_dir)
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    step(&format!("build imdsmon for {}", arch.name()), || {
        process::run(&mut cargo, BUILD_TIMEOUT)
    })?;
    Ok(target_dir
        .join(arch.rust_target())
        .join("release")
        .join("imdsmon"))
}

fn pack(release: &Release, arch: Arch, built: &Path, manual: &Path) -> Result<Packages> {
    let out = release.out();
    fs::create_dir_all(&out).with_context(|| format!("create {}", out.display()))?;
    step(&format!("pack for {}", arch.name()), || {
        let binary = out.join(format!("imdsmon-{}-linux-{}", release.version, arch.name()));
        fs::copy(built, &binary).with_context(|| format!("copy {}", built.display()))?;
        let debian = contents::debian(release, built, manual)?;
        let redhat = contents::redhat(release, built, manual)?;
        let container = contents::container(release, built)?;
        Ok(Packages {
            arch,
            binary,
            deb: deb::pack(release, arch, &debian)?,
            rpm: rpm::pack(release, arch, &redhat)?,
            image: image::pack(release, arch, &container)?,
        })
    })
}

/// Writes the SHA-256 sums of everything in the output, as `sha256sum --check` reads them.
fn sums(release: &Release) -> Result<()> {
    const NAME: &str = "SHA256SUMS";
    let out = release.out();
    let mut names = Vec::new();
    for entry in fs::read_dir(&out).with_context(|| format!("read {}", out.display()))? {
        let name = entry.context("read the packages")?.file_name();
        match name.into_string() {
            Ok(name) if name != NAME => names.push(name),
            Ok(_) => {}
            Err(name) => bail!("{} has no name", name.display()),
        }
    }
    names.sort();
    let mut text = String::new();
    for name in names {
        let content = fs::read(out.join(&name)).with_context(|| format!("read {name}"))?;
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}  {name}", sha256(&content));
    }
    fs::write(out.join(NAME), text).context("write the sums")
}

/// SHA-256 in hexadecimal digits.
pub fn sha256(content: &[u8]) -> String {
    let mut digits = String::new();
    for byte in Sha256::digest(content) {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// A program that makes a package: no times but the commit's, and no surprises of a locale.
pub fn tool(release: &Release, program: &str) -> Command {
    let mut command = process::external(program);
    command
        .env("SOURCE_DATE_EPOCH", release.epoch.to_string())
        .env("LC_ALL", "C.UTF-8");
    command
}
