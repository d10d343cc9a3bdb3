//! `cargo xtask dist`: the packages that users install.
//!
//! For each architecture it builds one static binary and packs it as a Debian package, an RPM and a
//! container image. Units, scripts and metadata of the packages are in `packaging`; man pages and
//! completions come from `imdsmon generate`. All times in the packages are that of the commit, so
//! the same sources and tools give the same bytes.

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
use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Shells, and the names of their completion scripts.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "imdsmon.bash"),
    ("fish", "imdsmon.fish"),
    ("zsh", "_imdsmon"),
];

/// Make static binaries, .deb, .rpm and container images in target/dist/out
///
/// Needs dpkg, rpm, podman and, for arm64, a cross compiler; installs them as root on Debian (see
/// --no-install).
#[derive(clap::Args)]
pub struct Args {
    /// Make packages for this architecture only; repeatable
    #[arg(long = "arch", value_name = "ARCH", value_enum)]
    archs: Vec<Arch>,

    /// Also install each package in a separate root file system and run imdsmon there
    ///
    /// Packages for another architecture are installed but not run. Needs root, mmdebstrap, lintian
    /// and promtool.
    #[arg(long)]
    check: bool,
}

/// The version to pack and the directories to use.
pub struct Release {
    pub version: String,
    /// Unix time of the commit, which all files in packages get.
    pub epoch: u64,
    pub root: PathBuf,
    /// `target/dist`.
    pub directory: PathBuf,
}

/// The files of one architecture, in `Release::out`.
pub struct Packages {
    pub arch: Arch,
    pub binary: PathBuf,
    pub deb: PathBuf,
    pub rpm: PathBuf,
    pub image: PathBuf,
}

pub fn run(args: &Args, debian: &Debian) -> Result<()> {
    let root = workspace::root()?;
    let release = Release::of(root)?;
    debian.installer.ensure(
        &["dpkg", "rpm", "xz-utils", "debian-archive-keyring"],
        "to make packages",
    )?;
    debian
        .installer
        .ensure(image::PACKAGES, "to build images")?;
    let archs = match args.archs.as_slice() {
        [] => Arch::ALL,
        archs => archs,
    };
    let binaries = archs
        .iter()
        .map(|&arch| Ok((arch, build(&release, arch, debian)?)))
        .collect::<Result<Vec<_>>>()?;
    let manual = generate(&release, &binaries)?;
    let pack_all = || -> Result<(Vec<Packages>, String)> {
        let pack = |(arch, binary): &(Arch, PathBuf)| pack(&release, *arch, binary, &manual);
        let packages = binaries.iter().map(pack).collect::<Result<_>>()?;
        Ok((packages, write_checksums(&release)?))
    };
    let (packages, checksums) = pack_all()?;
    if args.check {
        debian
            .installer
            .ensure(&["prometheus"], "to check rules with promtool")?;
        step("check the Prometheus rules and the dashboard", || {
            monitoring::check(&release)
        })?;
        check::all(&release, &packages, debian)?;
        let (_, again) = pack_all()?;
        ensure!(
            again == checksums,
            "packing again gives other files:\n{checksums}{again}"
        );
    }
    note(format!("packages are in {}", release.out().display()));
    Ok(())
}

/// Makes only the Debian package, for a test that installs it.
pub fn deb(arch: Arch, debian: &Debian) -> Result<PathBuf> {
    let release = Release::of(workspace::root()?)?;
    let binary = build(&release, arch, debian)?;
    let manual = generate(&release, &[(arch, binary.clone())])?;
    let contents = contents::debian(&release, &binary, &manual)?;
    fs::create_dir_all(release.out())
        .with_context(|| format!("create {}", release.out().display()))?;
    step("pack the .deb", || deb::pack(&release, arch, &contents))
}

impl Release {
    fn of(root: PathBuf) -> Result<Self> {
        let mut git = process::external("git");
        git.current_dir(&root)
            .args(["log", "-1", "--format=%ct", "HEAD"]);
        let time = process::output(&mut git, QUERY_TIMEOUT)
            .context("cannot read the time of the commit")?;
        let epoch = time
            .trim()
            .parse()
            .context("cannot parse the time of the commit")?;
        let directory = workspace::target(&root).join("dist");
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch,
            root,
            directory,
        })
    }

    /// The directory of the finished packages.
    pub fn out(&self) -> PathBuf {
        self.directory.join("out")
    }

    pub fn source(&self, path: &str) -> Result<Vec<u8>> {
        let path = self.root.join(path);
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    }

    /// An empty directory in which to build a package.
    pub fn stage(&self, name: &str) -> Result<PathBuf> {
        let stage = self.directory.join("stage").join(name);
        if stage.exists() {
            fs::remove_dir_all(&stage).with_context(|| format!("remove {}", stage.display()))?;
        }
        fs::create_dir_all(&stage).with_context(|| format!("create {}", stage.display()))?;
        Ok(stage)
    }
}

/// Writes man pages and completions, and returns their directory.
///
/// `imdsmon generate` runs on this machine, so packages for another architecture need a build for
/// this one.
fn generate(release: &Release, binaries: &[(Arch, PathBuf)]) -> Result<PathBuf> {
    let directory = release.stage("generated")?;
    let native = binaries.iter().find(|(arch, _)| arch.is_native());
    let imdsmon = || {
        if let Some((_, binary)) = native {
            return Command::new(binary);
        }
        let mut cargo = process::cargo();
        cargo.current_dir(&release.root).args(["run", "--quiet"]);
        cargo.args(["--locked", "--package", "imdsmon", "--"]);
        cargo
    };
    step("generate man pages and completions", || {
        let mut pages = imdsmon();
        pages.args(["generate", "man", "--dir"]).arg(&directory);
        process::run(&mut pages, BUILD_TIMEOUT)?;
        for (shell, file) in COMPLETIONS {
            let mut script = imdsmon();
            script.args(["generate", "completion", shell]);
            let script = process::output(&mut script, BUILD_TIMEOUT)?;
            fs::write(directory.join(file), script).with_context(|| format!("write {file}"))?;
        }
        Ok(directory)
    })
}

fn build(release: &Release, arch: Arch, debian: &Debian) -> Result<PathBuf> {
    // Paths of the build machine would be different on the next one.
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let flags = [
        remap(&workspace::cargo_home()?, "cargo"),
        remap(&release.root, "imdsmon"),
    ];
    let target_dir = release.directory.join("build");
    let mut cargo = static_build::cargo(arch, &flags, debian)?;
    cargo
        .current_dir(&release.root)
        .args(["build", "--release", "--locked", "--package", "imdsmon"])
        .args(["--target", &arch.rust_target(), "--target-dir"])
        .arg(&target_dir);
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

/// Writes and returns SHA-256 checksums of all packages, in the format of `sha256sum --check`.
fn write_checksums(release: &Release) -> Result<String> {
    const NAME: &str = "SHA256SUMS";
    let out = release.out();
    let mut names = Vec::new();
    for entry in fs::read_dir(&out).with_context(|| format!("read {}", out.display()))? {
        let name = entry.context("list the packages")?.file_name();
        match name.into_string() {
            Ok(name) if name != NAME => names.push(name),
            Ok(_) => {}
            Err(name) => bail!("{} is not UTF-8", name.display()),
        }
    }
    names.sort();
    let mut text = String::new();
    for name in names {
        let content = fs::read(out.join(&name)).with_context(|| format!("read {name}"))?;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}  {name}", sha256(&content));
    }
    fs::write(out.join(NAME), &text).context("write SHA256SUMS")?;
    Ok(text)
}

/// The SHA-256 digest in hexadecimal.
pub fn sha256(content: &[u8]) -> String {
    let mut digits = String::new();
    for byte in Sha256::digest(content) {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// A packaging tool, independent of the time and the locale.
pub fn tool(release: &Release, program: &str) -> Command {
    let mut command = process::external(program);
    command
        .env("SOURCE_DATE_EPOCH", release.epoch.to_string())
        .env("LC_ALL", "C.UTF-8");
    command
}
