//! `cargo xtask vm --systemd`: tests the Debian package under a real systemd.
//!
//! The disk of the test machine is a small Debian with the package installed. It boots with the
//! service enabled, and `systemd/check.sh` tests the service from inside. The machine has no
//! network device; a simulated IMDS listens on its loopback interface.

use super::kernel::{self, KERNELS};
use super::qemu::{self, System};
use super::{Outcome, accelerator, lacking, outcome};
use crate::debian::{self, Debian};
use crate::dist;
use crate::process::{self, DOWNLOAD_TIMEOUT};
use crate::progress::{note, step};
use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

/// From power on to power off. Boot and checks take one to two minutes under emulation.
const BOOT_TIMEOUT: Duration = Duration::from_secs(300);
/// The kernel of Debian 12, as the system on the disk.
const KERNEL: &str = "6.1";
/// The system fills less than half of it.
const DISK_SIZE: &str = "768M";

/// Files that the test adds to the system: path, content, mode.
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

/// Additional units to enable, with the target that wants them.
const ENABLED: &[(&str, &str)] = &[
    ("sysinit.target", "cloud-init-local.service"),
    ("multi-user.target", "imdsmon-check.service"),
    // Off by default; enabled because it adds constraints to the boot order.
    ("sockets.target", "imdsmon-metrics.socket"),
];

/// Makes the disk, boots it and returns the outcome.
pub fn boot(kvm: bool, debian: &Debian) -> Result<Outcome> {
    let version = KERNELS
        .iter()
        .find(|kernel| kernel.name == KERNEL)
        .with_context(|| format!("no kernel {KERNEL}"))?;
    if !debian::is_root() {
        return Ok(Outcome::Skipped("installing the package needs root".into()));
    }
    let qemu = qemu::emulator(version.arch).package;
    if let Some(reason) = lacking(&[qemu, "e2fsprogs", "xz-utils"], debian)? {
        return Ok(Outcome::Skipped(reason));
    }
    let deb = dist::deb(version.arch, debian)?;
    let kernel = kernel::obtain(version, debian)?;
    note(format!("Linux {}", kernel.release));
    let disk = debian.cache.join("systemd.img");
    step("make the disk", || make_disk(&disk, &deb, debian))?;
    let output = qemu::run(&kernel, System::Disk(&disk), accelerator(kvm), BOOT_TIMEOUT)?;
    fs::remove_file(&disk).with_context(|| format!("remove {}", disk.display()))?;
    Ok(outcome("systemd", &output))
}

fn make_disk(disk: &Path, deb: &Path, debian: &Debian) -> Result<()> {
    let system = debian.unpack_root()?;
    let system = system.path();
    fs::copy(deb, system.join("imdsmon.deb")).context("copy the package")?;
    debian::output_in(system, &["dpkg", "--install", "/imdsmon.deb"])?;
    for (path, content, mode) in FILES {
        let path = system.join(path);
        let directory = path.parent().context("the file has no directory")?;
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode))
            .with_context(|| format!("set the mode of {}", path.display()))?;
    }
    for (target, unit) in ENABLED {
        let wants = system.join(format!("etc/systemd/system/{target}.wants"));
        fs::create_dir_all(&wants).with_context(|| format!("create {}", wants.display()))?;
        // systemd uses the name of the link, not its target.
        symlink(format!("../{unit}"), wants.join(unit))
            .with_context(|| format!("enable {unit}"))?;
    }
    let mut mke2fs = process::external("mke2fs");
    mke2fs
        .args(["-q", "-F", "-t", "ext4", "-d"])
        .arg(system)
        .arg(disk)
        .arg(DISK_SIZE);
    process::run(&mut mke2fs, DOWNLOAD_TIMEOUT)
}
