//! `cargo xtask vm --systemd`: the Debian package on a Debian of its own, under a real systemd.
//!
//! The machine's disk is a small Debian in which the package was installed. It boots with the
//! service enabled, and `systemd/check.sh` in it looks at the service as an administrator would. A
//! simulated metadata service is on the machine's loopback: it has no network device, and what is
//! sent there stays there.

use super::archive::Archive;
use super::kernel::{self, Arch, KERNELS};
use super::qemu::{self, System};
use super::{Outcome, accelerator, judge, root};
use crate::debian::{self, Installer};
use crate::dist;
use crate::process::{self, FETCH};
use crate::progress::{note, step};
use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

/// A boot under emulation, and every check, takes a minute or two.
const LIMIT: Duration = Duration::from_secs(300);
/// Debian 12's own.
const KERNEL: &str = "6.1";
/// Of the disk; the system takes less than half.
const MEBIBYTES: &str = "768M";

/// What the test adds to the system: name, content, mode.
const FILES: &[(&str, &str, u32)] = &[
    (
        "etc/systemd/system/imdsmon.service.d/slow.conf",
        include_str!("systemd/slow.conf"),
        0o644,
    ),
    (
        "usr/local/bin/imdsmon-check",
        include_str!("systemd/check.sh"),
        0o755,
    ),
    (
        "usr/local/bin/fake-imds",
        include_str!("systemd/fake-imds.sh"),
        0o755,
    ),
    (
        "etc/systemd/system/fake-imds.socket",
        include_str!("systemd/fake-imds.socket"),
        0o644,
    ),
    (
        "etc/systemd/system/fake-imds@.service",
        include_str!("systemd/fake-imds@.service"),
        0o644,
    ),
    (
        "etc/systemd/system/cloud-init-local.service",
        include_str!("systemd/cloud-init-local.service"),
        0o644,
    ),
    (
        "etc/systemd/system/imdsmon-check.service",
        include_str!("systemd/imdsmon-check.service"),
        0o644,
    ),
];

/// Units that the machine starts beside the service, and what pulls them in.
const ENABLED: &[(&str, &str)] = &[
    ("sysinit.target", "cloud-init-local.service"),
    ("multi-user.target", "imdsmon-check.service"),
    // The administrator's choice that adds to the order at boot.
    ("sockets.target", "imdsmon-metrics.socket"),
];

/// Makes the disk, boots it, and reads the verdict.
pub fn boot(home: &Path, archive: &Archive, kvm: bool, installer: &Installer) -> Result<Outcome> {
    let wanted = KERNELS
        .iter()
        .find(|kernel| kernel.name == KERNEL)
        .with_context(|| format!("no kernel {KERNEL}"))?;
    if !debian::is_root() {
        return Ok(Outcome::Skipped("only root can install the package".into()));
    }
    let tools = [wanted.arch.qemu().package, "e2fsprogs", "xz-utils"];
    if let Err(error) = installer.ensure(&tools, "the virtual machine") {
        if installer.can() {
            return Err(error);
        }
        return Ok(Outcome::Skipped(format!("{error:#}")));
    }
    let deb = dist::deb(home, archive, installer)?;
    let kernel = kernel::obtain(wanted, home, archive)?;
    debug_assert_eq!(kernel.arch, Arch::X86_64);
    note(format!("Linux {}", kernel.release));
    let disk = home.join("systemd.img");
    step("make the disk", || {
        make(&disk, &deb, home, archive, installer)
    })?;
    let output = qemu::run(&kernel, System::Disk(&disk), accelerator(kvm), LIMIT)?;
    fs::remove_file(&disk).with_context(|| format!("remove {}", disk.display()))?;
    Ok(judge("systemd", &output))
}

fn make(
    disk: &Path,
    deb: &Path,
    home: &Path,
    archive: &Archive,
    installer: &Installer,
) -> Result<()> {
    let system = root::unpacked(home, archive, installer)?;
    let system = system.path();
    fs::copy(deb, system.join("imdsmon.deb")).context("copy the package")?;
    root::output(system, &["dpkg", "--install", "/imdsmon.deb"])?;
    for (path, content, mode) in FILES {
        let path = system.join(path);
        let directory = path.parent().context("a file without a directory")?;
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode))
            .with_context(|| format!("set the mode of {}", path.display()))?;
    }
    for (target, unit) in ENABLED {
        let wants = system.join(format!("etc/systemd/system/{target}.wants"));
        fs::create_dir_all(&wants).with_context(|| format!("create {}", wants.display()))?;
        // systemd goes by the name; where the link leads to is for people.
        symlink(format!("../{unit}"), wants.join(unit))
            .with_context(|| format!("enable {unit}"))?;
    }
    let mut mke2fs = process::foreign("mke2fs");
    mke2fs
        .args(["-q", "-F", "-t", "ext4", "-d"])
        .arg(system)
        .arg(disk)
        .arg(MEBIBYTES);
    process::run(&mut mke2fs, FETCH)
}
