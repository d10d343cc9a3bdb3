//! Checks of the finished packages: each is installed in a separate root file system and run.
//!
//! Without a network. Binaries for another architecture are installed but not run.

use super::image::{self, Podman};
use super::{Packages, Release};
use crate::arch::Arch;
use crate::debian::{self, Debian};
use crate::process::{self, DOWNLOAD_TIMEOUT, QUERY_TIMEOUT};
use crate::progress::{note, step};
use anyhow::{Context as _, Result, bail, ensure};
use object::Object as _;
use std::fs;
use std::path::Path;

/// Tags that apply to every static binary, and to every package outside Debian.
const SUPPRESSED_TAGS: &str = "shared-library-lacks-prerequisites,no-changelog";

pub fn all(release: &Release, made: &[Packages], debian: &Debian) -> Result<()> {
    debian.installer.ensure(&["lintian"], "to check packages")?;
    for packages in made {
        let name = packages.arch.name();
        step(&format!("check the binary for {name}"), || {
            binary(&packages.binary, packages.arch)
        })?;
        step(&format!("check the .deb for {name}"), || {
            deb(release, packages, debian)
        })?;
        step(&format!("check the .rpm for {name}"), || {
            rpm(release, packages)
        })?;
        step(&format!("check the image for {name}"), || {
            container(release, packages)
        })?;
    }
    Ok(())
}

fn version_line(release: &Release) -> String {
    format!("imdsmon {}", release.version)
}

/// Requires a static binary for `arch`: no interpreter, no imports, and no NSS lookups, for which
/// a static glibc loads libraries.
fn binary(path: &Path, arch: Arch) -> Result<()> {
    let content = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let file = object::File::parse(&*content).context("parse the binary")?;
    let machine = match arch {
        Arch::Amd64 => object::Architecture::X86_64,
        Arch::Arm64 => object::Architecture::Aarch64,
    };
    ensure!(
        file.architecture() == machine,
        "it is for another architecture"
    );
    let libraries = file.imports().context("read its imports")?;
    ensure!(libraries.is_empty(), "it imports symbols of libraries");
    ensure!(
        file.segments().count() > 0 && file.section_by_name(".interp").is_none(),
        "it has an interpreter"
    );
    for word in ["libnss_", "nsswitch.conf"] {
        ensure!(!contains(&content, word), "it uses NSS: {word}");
    }
    note(format!("static, {} KiB", content.len() / 1024));
    Ok(())
}

fn contains(content: &[u8], word: &str) -> bool {
    content
        .windows(word.len())
        .any(|window| window == word.as_bytes())
}

fn deb(release: &Release, packages: &Packages, debian: &Debian) -> Result<()> {
    let mut lintian = process::external("lintian");
    lintian
        .args(["--fail-on=error", "--allow-root", "--tag-display-limit=0"])
        .args(["--suppress-tags", SUPPRESSED_TAGS])
        .arg(&packages.deb);
    note(process::output(&mut lintian, DOWNLOAD_TIMEOUT)?);
    if !packages.arch.is_native() {
        return Ok(());
    }
    let system = debian.unpack_root()?;
    let system = system.path();
    fs::copy(&packages.deb, system.join("imdsmon.deb")).context("copy the package")?;
    let inside = |words: &[&str]| debian::output_in(system, words);
    inside(&["dpkg", "--install", "/imdsmon.deb"])?;
    let version = inside(&["imdsmon", "--version"])?;
    ensure!(
        version.trim() == version_line(release),
        "it prints {version:?}"
    );
    let changed = inside(&["dpkg", "--verify", "imdsmon"])?;
    // The root excludes man pages.
    let changed: Vec<_> = changed
        .lines()
        .filter(|line| !line.starts_with("missing") || !line.contains("/usr/share/man/"))
        .collect();
    ensure!(changed.is_empty(), "dpkg --verify: {changed:?}");
    inside(&["getent", "passwd", "imdsmon"]).context("there is no user imdsmon")?;
    let enabled = inside(&["systemctl", "is-enabled", "imdsmon.service"])?;
    ensure!(
        enabled.trim() == "enabled",
        "the service is not enabled: {enabled}"
    );
    ensure!(
        inside(&["systemctl", "is-enabled", "imdsmon-metrics.socket"]).is_err(),
        "the metrics socket is enabled"
    );
    fs::create_dir_all(system.join("var/lib/imdsmon")).context("create the state directory")?;
    inside(&["dpkg", "--purge", "imdsmon"])?;
    for path in [
        "usr/bin/imdsmon",
        "etc/imdsmon",
        "var/lib/imdsmon",
        "etc/systemd/system/multi-user.target.wants/imdsmon.service",
    ] {
        ensure!(
            fs::symlink_metadata(system.join(path)).is_err(),
            "purge leaves /{path}"
        );
    }
    note("installed, run, verified and purged in a clean Debian");
    Ok(())
}

fn rpm(release: &Release, packages: &Packages) -> Result<()> {
    let mut query = process::external("rpm");
    let files = process::output(query.args(["-qpl"]).arg(&packages.rpm), QUERY_TIMEOUT)?;
    for path in [
        "/usr/bin/imdsmon",
        "/usr/lib/systemd/system/imdsmon.service",
    ] {
        ensure!(files.lines().any(|line| line == path), "{path} is missing");
    }
    let system =
        tempfile::tempdir_in(&release.directory).context("create a temporary directory")?;
    let system = system.path();
    let rpm = |arguments: &[&str]| {
        let mut rpm = process::external("rpm");
        rpm.arg("--root").arg(system).args(arguments);
        rpm
    };
    process::output(&mut rpm(&["--initdb"]), QUERY_TIMEOUT)?;
    // The root is otherwise empty: no dependencies, and no shell for scripts.
    let mut install = rpm(&["--install", "--nodeps", "--noscripts", "--ignorearch"]);
    process::output(install.arg(&packages.rpm), QUERY_TIMEOUT)?;
    process::output(
        &mut rpm(&["--verify", "--nodeps", "imdsmon"]),
        QUERY_TIMEOUT,
    )?;
    if packages.arch.is_native() {
        fs::create_dir_all(system.join("proc")).context("create /proc")?;
        let version = debian::output_in(system, &["/usr/bin/imdsmon", "--version"])?;
        ensure!(
            version.trim() == version_line(release),
            "it prints {version:?}"
        );
    }
    process::output(
        &mut rpm(&["--erase", "--noscripts", "imdsmon"]),
        QUERY_TIMEOUT,
    )?;
    ensure!(
        !system.join("usr/bin/imdsmon").exists(),
        "erase leaves /usr/bin/imdsmon"
    );
    note("installed, verified and erased in an empty root");
    Ok(())
}

fn container(release: &Release, packages: &Packages) -> Result<()> {
    let store = Podman::new()?;
    let podman = |arguments: &[&str]| {
        let mut podman = store.command(release);
        podman.args(arguments);
        podman
    };
    let tag = image::tag(release);
    let mut load = podman(&["load", "--quiet", "--input"]);
    process::output(load.arg(&packages.image), DOWNLOAD_TIMEOUT)?;
    let mut inspect = podman(&["image", "inspect", "--format", "{{.Architecture}}", &tag]);
    let arch = process::output(&mut inspect, QUERY_TIMEOUT)?;
    ensure!(
        arch.trim() == packages.arch.name(),
        "it is for another architecture: {arch}"
    );
    if !packages.arch.is_native() {
        note("loaded by podman");
        return Ok(());
    }
    let mut run = podman(&["run", "--rm", "--network=none", "--read-only"]);
    run.args(["--cap-drop=all", "--log-driver=none"]);
    // By default podman raises these limits, which not every machine permits.
    run.args(["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]);
    let version = process::output(run.args([&tag, "--version"]), DOWNLOAD_TIMEOUT)?;
    if version.trim() != version_line(release) {
        bail!("it prints {version:?}");
    }
    note("loaded and run by podman");
    Ok(())
}
