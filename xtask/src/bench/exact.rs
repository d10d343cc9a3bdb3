//! The cost of a packet to the single instruction.
//!
//! Under qemu's `-icount shift=0` a guest's clock counts instructions, whatever the host does
//! meanwhile. So few rounds are enough, and they show that they agree. What it cannot tell:
//! caches and pipelines, that is, how long an instruction takes.

use super::figures::Figures;
use super::table;
use crate::debian::Installer;
use crate::progress::{note, step};
use crate::vm::archive::Archive;
use crate::vm::cpio::Writer;
use crate::vm::kernel::{self, Kernel, Wanted};
use crate::vm::qemu::System;
use crate::vm::{self, payload, qemu};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Kernels that are measured unless others are asked for: where the peer was measured, too.
const KERNELS: &[&str] = &["6.1"];

/// The guest's clock is its instructions; time that it sleeps is skipped. One thread for all.
const ICOUNT: &[&str] = &[
    "-icount",
    "shift=0,sleep=off",
    "-accel",
    "tcg,thread=single",
];

/// An emulator that counts is slow, and the host may be busy.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Boots each kernel and prints its table.
pub fn run(names: &[String], quick: bool, root: &Path, installer: &Installer) -> Result<()> {
    let home = crate::workspace::target(root).join("vm");
    let archive = Archive::new(&home, None);
    let names = if names.is_empty() {
        KERNELS.iter().map(|&name| name.to_owned()).collect()
    } else {
        names.to_vec()
    };
    for wanted in vm::chosen(&names)? {
        let figures = step(&format!("kernel {}", wanted.name), || {
            boot(wanted, quick, root, &home, &archive, installer)
        })?;
        println!("Linux {}, {}.\n", figures.0, wanted.arch.name());
        println!("{}", table::exact(&figures.1));
    }
    Ok(())
}

fn boot(
    wanted: &'static Wanted,
    quick: bool,
    root: &Path,
    home: &Path,
    archive: &Archive,
    installer: &Installer,
) -> Result<(String, Figures)> {
    let tools = [
        wanted.arch.qemu().package,
        "debian-archive-keyring",
        "xz-utils",
    ];
    installer.ensure(&tools, "the virtual machines")?;
    let kernel = kernel::obtain(wanted, home, archive)?;
    note(format!("Linux {}", kernel.release));
    let programs = payload::build(wanted.arch, root, home, archive, installer)?;
    let initramfs = home.join(format!("{}-bench.cpio", wanted.name));
    payload::pack(&programs, &kernel, &initramfs)?;
    append(&kernel, home, &initramfs, quick)?;
    let output = qemu::run(&kernel, System::Initramfs(&initramfs), ICOUNT, LIMIT)?;
    fs::remove_file(&initramfs).with_context(|| format!("remove {}", initramfs.display()))?;
    if let Err(why) = vm::verdict(&output) {
        bail!("{why}; all of it in {}", output.log.display());
    }
    Ok((kernel.release.clone(), Figures::parse(&output.console)?))
}

/// Adds the benchmark to what init runs. The kernel unpacks one archive after the other.
fn append(kernel: &Kernel, home: &Path, initramfs: &Path, quick: bool) -> Result<()> {
    let program: PathBuf = [
        home,
        Path::new("build"),
        Path::new(kernel.arch.target()),
        Path::new("release/bench-load"),
    ]
    .iter()
    .collect();
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
