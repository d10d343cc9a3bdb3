//! Installs or unpacks each package where nothing else is, and runs what it holds.
//!
//! Nothing here has a network. Packages for another architecture are unpacked, not run.

use super::{Packages, Release, image};
use crate::arch::Arch;
use crate::debian::{self, Debian};
use crate::process::{self, DOWNLOAD_TIMEOUT, QUERY_TIMEOUT};
use crate::progress::{note, step};
use anyhow::{Context as _, Result, bail, ensure};
use object::Object as _;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What lintian would say of every static program, and of a package that is none of Debian's.
const SUPPRESSED: &str = "shared-library-lacks-prerequisites,no-changelog";

/// Checks the packages of every architecture.
pub fn all(release: &Release, made: &[Packages], debian: &Debian) -> Result<()> {
    debian
        .installer
        .ensure(&["lintian", "podman", "runc"], "to check packages")?;
    for packages in made {
        let name = packages.arch.name();
        step(&format!("check the program for {name}"), || {
            program(&packages.binary, packages.arch)
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

/// What the program says to `--version`.
fn expected(release: &Release) -> String {
    format!("imdsmon {}", release.version)
}

/// Whether the program is for its machine and needs nothing to run: no interpreter, no library,
/// and no lookup of names, which a static libc would load libraries for.
fn program(binary: &Path, arch: Arch) -> Result<()> {
    let content = fs::read(binary).with_context(|| format!("read {}", binary.display()))?;
    let file = object::File::parse(&*content).context("parse the program")?;
    let machine = match arch {
        Arch::Amd64 => object::Architecture::X86_64,
        Arch::Arm64 => object::Architecture::Aarch64,
    };
    ensure!(file.architecture() == machine, "it is for another machine");
    let libraries = file.imports().context("read what it imports")?;
    ensure!(libraries.is_empty(), "it imports from libraries");
    ensure!(
        file.segments().count() > 0 && file.section_by_name(".interp").is_none(),
        "it has an interpreter"
    );
    for word in ["libnss_", "nsswitch.conf"] {
        ensure!(!contains(&content, word), "it looks up names: {word}");
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
        .args(["--suppress-tags", SUPPRESSED])
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
    let said = inside(&["imdsmon", "--version"])?;
    ensure!(said.trim() == expected(release), "it says {said:?}");
    let changed = inside(&["dpkg", "--verify", "imdsmon"])?;
    // Documentation is left out of a small system.
    let changed: Vec<_> = changed
        .lines()
        .filter(|line| !line.starts_with("missing") || !line.contains("/usr/share/man/"))
        .collect();
    ensure!(changed.is_empty(), "not as packed: {changed:?}");
    inside(&["getent", "passwd", "imdsmon"]).context("there is no user imdsmon")?;
    let enabled = inside(&["systemctl", "is-enabled", "imdsmon.service"])?;
    ensure!(enabled.trim() == "enabled", "the service is {enabled}");
    ensure!(
        inside(&["systemctl", "is-enabled", "imdsmon-metrics.socket"]).is_err(),
        "metrics are enabled without being asked for"
    );
    fs::create_dir_all(system.join("var/lib/imdsmon")).context("act as if it had run")?;
    inside(&["dpkg", "--purge", "imdsmon"])?;
    for path in [
        "usr/bin/imdsmon",
        "etc/imdsmon",
        "var/lib/imdsmon",
        "etc/systemd/system/multi-user.target.wants/imdsmon.service",
    ] {
        ensure!(
            fs::symlink_metadata(system.join(path)).is_err(),
            "a purge leaves /{path}"
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
        ensure!(files.lines().any(|line| line == path), "it lacks {path}");
    }
    let system = tempfile::tempdir_in(&release.directory).context("make a directory")?;
    let system = system.path();
    let rpm = |arguments: &[&str]| {
        let mut rpm = process::external("rpm");
        rpm.arg("--root").arg(system).args(arguments);
        rpm
    };
    process::output(&mut rpm(&["--initdb"]), QUERY_TIMEOUT)?;
    // There is nothing else in this root: neither what it requires nor a shell for its scripts.
    let mut install = rpm(&["--install", "--nodeps", "--noscripts", "--ignorearch"]);
    process::output(install.arg(&packages.rpm), QUERY_TIMEOUT)?;
    process::output(
        &mut rpm(&["--verify", "--nodeps", "imdsmon"]),
        QUERY_TIMEOUT,
    )?;
    if packages.arch.is_native() {
        fs::create_dir_all(system.join("proc")).context("create /proc")?;
        let said = debian::output_in(system, &["/usr/bin/imdsmon", "--version"])?;
        ensure!(said.trim() == expected(release), "it says {said:?}");
    }
    process::output(
        &mut rpm(&["--erase", "--noscripts", "imdsmon"]),
        QUERY_TIMEOUT,
    )?;
    ensure!(
        !system.join("usr/bin/imdsmon").exists(),
        "it is not removed"
    );
    note("installed, verified and erased in an empty root");
    Ok(())
}

fn container(release: &Release, packages: &Packages) -> Result<()> {
    let store = tempfile::tempdir().context("make a directory")?;
    // A store of its own, which leaves the machine's alone.
    let podman = |arguments: &[&str]| -> Command {
        let mut podman = process::external("podman");
        podman
            .arg("--root")
            .arg(store.path().join("root"))
            .arg("--runroot")
            .arg(store.path().join("run"))
            .args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs"])
            // The one that copes with every way to mount cgroups.
            .arg("--runtime=runc")
            .args(arguments);
        podman
    };
    let tag = format!("{}:{}", image::NAME, release.version);
    let mut load = podman(&["load", "--quiet", "--input"]);
    process::output(load.arg(&packages.image), DOWNLOAD_TIMEOUT)?;
    let mut inspect = podman(&["image", "inspect", "--format", "{{.Architecture}}", &tag]);
    let arch = process::output(&mut inspect, QUERY_TIMEOUT)?;
    ensure!(arch.trim() == packages.arch.name(), "it is for {arch}");
    if !packages.arch.is_native() {
        note("loaded by podman");
        return Ok(());
    }
    let mut run = podman(&["run", "--rm", "--network=none", "--read-only"]);
    run.args(["--cap-drop=all", "--log-driver=none"]);
    // podman would raise the limits, which a machine may not allow.
    run.args(["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]);
    let said = process::output(run.args([&tag, "--version"]), DOWNLOAD_TIMEOUT)?;
    if said.trim() != expected(release) {
        bail!("it says {said:?}");
    }
    note("loaded and run by podman");
    Ok(())
}
