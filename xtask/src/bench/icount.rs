//! The cost of a packet in instructions.
//!
//! Under qemu's `-icount shift=0` the guest's clock counts instructions, independent of the host's
//! load, so a few rounds suffice. It does not model caches and pipelines, that is, the duration of
//! an instruction.

use super::figures::Figures;
use super::table;
use crate::debian::Debian;
use crate::progress::{note, step};
use crate::vm::cpio::Writer;
use crate::vm::kernel::{self, Kernel, Version};
use crate::vm::qemu::System;
use crate::vm::{self, payload, qemu};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The kernel to measure by default: the one of the peer in docs/performance.md.
const DEFAULT_KERNELS: &[&str] = &["6.1"];

/// The guest's clock counts instructions and skips idle time. Needs a single host thread.
const ICOUNT: &[&str] = &[
    "-icount",
    "shift=0,sleep=off",
    "-accel",
    "tcg,thread=single",
];

/// From power on to power off: counting instructions is slow, and the host may be busy.
const BOOT_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Boots each kernel and prints its table.
pub fn run(names: &[String], quick: bool, root: &Path, debian: &Debian) -> Result<()> {
    let names = if names.is_empty() {
        DEFAULT_KERNELS
            .iter()
            .map(|&name| name.to_owned())
            .collect()
    } else {
        names.to_vec()
    };
    for version in vm::select(&names)? {
        let (release, figures) = step(&format!("kernel {}", version.name), || {
            boot(version, quick, root, debian)
        })?;
        println!("Linux {release}, {}.\n", version.arch.name());
        println!("{}", table::instructions(&figures));
    }
    Ok(())
}

fn boot(
    version: &'static Version,
    quick: bool,
    root: &Path,
    debian: &Debian,
) -> Result<(String, Figures)> {
    let qemu = qemu::emulator(version.arch).package;
    debian.installer.ensure(
        &[qemu, "debian-archive-keyring", "xz-utils"],
        "for virtual machines",
    )?;
    let kernel = kernel::obtain(version, debian)?;
    note(format!("Linux {}", kernel.release));
    let programs = payload::build(version.arch, root, debian)?;
    let initramfs = debian.cache.join(format!("{}-bench.cpio", version.name));
    payload::pack(&programs, &kernel, &initramfs)?;
    append_benchmark(&kernel, debian, &initramfs, quick)?;
    let output = qemu::run(&kernel, System::Initramfs(&initramfs), ICOUNT, BOOT_TIMEOUT)?;
    fs::remove_file(&initramfs).with_context(|| format!("remove {}", initramfs.display()))?;
    if let Err(why) = vm::check(&output) {
        bail!("{why}; console output in {}", output.log.display());
    }
    Ok((kernel.release.clone(), Figures::parse(&output.console)?))
}

/// Appends the benchmark, which init runs as a test. The kernel unpacks concatenated archives.
fn append_benchmark(kernel: &Kernel, debian: &Debian, initramfs: &Path, quick: bool) -> Result<()> {
    let program = payload::build_directory(debian)
        .join(kernel.arch.rust_target())
        .join("release/bench-load");
    let content = fs::read(&program).with_context(|| format!("read {}", program.display()))?;
    let samples = if quick { "51" } else { "201" };
    let arguments = [
        "packets",
        "--imdsmon",
        "/imdsmon",
        "--rounds",
        "9",
        "--batch",
        "1",
        "--samples",
        samples,
    ];
    let file = fs::OpenOptions::new()
        .append(true)
        .open(initramfs)
        .with_context(|| format!("open {}", initramfs.display()))?;
    let mut archive = Writer::new(file);
    archive.file("tests/bench", &content)?;
    archive.file("tests/bench.args", arguments.join("\n").as_bytes())?;
    archive.finish()
}
