//! `cargo xtask vm`: tests imdsmon on other kernels.
//!
//! A test machine is one of Debian's cloud kernels, qemu, and an initramfs with static programs
//! only. It boots in seconds, has no network device, and reports on its console.

pub mod cpio;
pub mod kernel;
pub mod payload;
pub mod qemu;
mod systemd;

use crate::debian::Debian;
use crate::progress::{green, note, red, skipped, step};
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use kernel::{KERNELS, Version};
use qemu::System;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// From power on to power off. A boot takes seconds; a busy host needs more.
const BOOT_TIMEOUT: Duration = Duration::from_secs(300);

/// The line that `tests/src/bin/vm-init.rs` prints after all tests have passed.
const PASS_LINE: &str = "imdsmon-vm: pass";
/// Before the name of a failed test.
const FAIL_PREFIX: &str = "imdsmon-vm: fail: ";
/// Before every line about the tests; other lines are the kernel's.
const TEST_PREFIX: &str = "imdsmon-vm: ";

/// Test imdsmon on other kernels, in virtual machines without a network
///
/// Downloads Debian kernels into target/vm without installing them. Console output is in
/// target/vm/NAME.log. Needs qemu and, for arm64, a cross compiler; installs both as root on
/// Debian (see --no-install).
#[derive(clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a command-line flag; clap rejects conflicting ones"
)]
pub struct Args {
    /// Test only this kernel; repeatable (see --list)
    #[arg(long = "kernel", value_name = "NAME")]
    kernels: Vec<String>,

    /// List the kernels and which are downloaded
    #[arg(long)]
    list: bool,

    /// Keep each initramfs and print the command that boots it
    #[arg(long)]
    keep: bool,

    /// Test the Debian package under systemd instead (as root; see xtask/src/vm/systemd)
    #[arg(long, conflicts_with_all = ["kernels", "list", "keep"])]
    systemd: bool,

    /// Use KVM instead of emulation; faster, needs /dev/kvm
    #[arg(long)]
    kvm: bool,
}

enum Outcome {
    Passed(f64),
    Failed(String),
    Skipped(String),
}

/// Boots the kernels one after the other and prints a summary.
pub fn run(args: &Args, debian: &Debian) -> Result<()> {
    if args.list {
        list(&debian.cache);
        return Ok(());
    }
    if args.systemd {
        let outcome = attempt("the package under systemd", || {
            systemd::boot(args.kvm, debian)
        });
        return summarize(&[("systemd", outcome)]);
    }
    let root = workspace::root()?;
    let mut table = Vec::new();
    for kernel in select(&args.kernels)? {
        let outcome = attempt(&format!("kernel {}", kernel.name), || {
            boot(kernel, args, &root, debian)
        });
        table.push((kernel.name, outcome));
    }
    summarize(&table)
}

/// An error counts as a failure: the kernel was not tested.
fn attempt(title: &str, work: impl FnOnce() -> Result<Outcome>) -> Outcome {
    let outcome = step(title, || match work() {
        Ok(Outcome::Failed(why)) => bail!("{why}"),
        outcome => outcome,
    });
    outcome.unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")))
}

/// The kernels of these names; all without names.
pub fn select(names: &[String]) -> Result<Vec<&'static Version>> {
    if names.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    let find = |name: &String| {
        let known = KERNELS.iter().find(|kernel| kernel.name == name);
        known.with_context(|| format!("no kernel {name}; `cargo xtask vm --list` lists them"))
    };
    names.iter().map(find).collect()
}

fn list(cache: &Path) {
    for kernel in KERNELS {
        let release = kernel::cached(kernel, cache)
            .map_or("not downloaded".to_owned(), |kernel| kernel.release);
        println!("{:<12} {:<8} {release}", kernel.name, kernel.arch.name());
    }
}

fn boot(version: &'static Version, args: &Args, root: &Path, debian: &Debian) -> Result<Outcome> {
    let qemu = qemu::emulator(version.arch).package;
    if let Some(reason) = lacking(&[qemu, "debian-archive-keyring", "xz-utils"], debian)? {
        return Ok(Outcome::Skipped(reason));
    }
    let kernel = kernel::obtain(version, debian)?;
    note(format!("Linux {}", kernel.release));
    let programs = payload::build(version.arch, root, debian)?;
    let initramfs = debian.cache.join(format!("{}.cpio", version.name));
    payload::pack(&programs, &kernel, &initramfs)?;
    let system = System::Initramfs(&initramfs);
    let output = qemu::run(&kernel, system, accelerator(args.kvm), BOOT_TIMEOUT)?;
    if args.keep {
        note(format!(
            "boot it with:\n{}",
            qemu::command_line(&kernel, system)
        ));
    } else {
        fs::remove_file(&initramfs).with_context(|| format!("remove {}", initramfs.display()))?;
    }
    Ok(outcome(version.name, &output))
}

/// Installs `packages`; where that is not possible, returns the reason to skip the test.
fn lacking(packages: &[&str], debian: &Debian) -> Result<Option<String>> {
    match debian.installer.ensure(packages, "for virtual machines") {
        Err(error) if debian.installer.can_install() => Err(error),
        Err(error) => Ok(Some(format!("{error:#}"))),
        Ok(()) => Ok(None),
    }
}

fn accelerator(kvm: bool) -> &'static [&'static str] {
    if kvm { &["-accel", "kvm"] } else { &[] }
}

/// Prints a machine's lines about its tests, and returns their outcome.
fn outcome(name: &str, output: &qemu::Output) -> Outcome {
    let lines = output.console.lines();
    for line in lines.filter(|line| line.starts_with(TEST_PREFIX)) {
        note(format!("{name} | {line}"));
    }
    match check(output) {
        Ok(()) => Outcome::Passed(output.seconds),
        Err(why) => {
            for line in last_lines(&output.console, 30) {
                note(format!("{name} | {line}"));
            }
            Outcome::Failed(format!("{why}; console output in {}", output.log.display()))
        }
    }
}

/// Requires the pass line, no fail line, and power off in time.
pub fn check(output: &qemu::Output) -> Result<(), String> {
    let mut passed = false;
    for line in output.console.lines() {
        if let Some(why) = line.strip_prefix(FAIL_PREFIX) {
            return Err(why.to_owned());
        }
        passed |= line == PASS_LINE;
    }
    match (output.timed_out, passed) {
        (true, _) => Err(format!(
            "did not power off within {} s",
            BOOT_TIMEOUT.as_secs()
        )),
        (false, true) => Ok(()),
        (false, false) => Err(match panic_of(&output.console) {
            Some(panic) => format!("ended without a result: {panic}"),
            None => "ended without a result".to_owned(),
        }),
    }
}

fn panic_of(console: &str) -> Option<&str> {
    let start = console.find("Kernel panic")?;
    console[start..].lines().next()
}

fn last_lines(console: &str, count: usize) -> Vec<&str> {
    let lines: Vec<&str> = console.lines().collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

fn summarize(table: &[(&str, Outcome)]) -> Result<()> {
    eprintln!();
    let mut failures = 0;
    for (name, outcome) in table {
        match outcome {
            Outcome::Passed(seconds) => {
                eprintln!("    {name:<12} {} {seconds:6.1} s", green("pass"));
            }
            Outcome::Skipped(why) => skipped(name, why),
            Outcome::Failed(why) => {
                failures += 1;
                eprintln!("    {name:<12} {}: {why}", red("FAIL"));
            }
        }
    }
    match failures {
        0 => Ok(()),
        _ => bail!("{failures} of {} machines failed", table.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;

    fn check_console(console: &str, timed_out: bool) -> Result<(), String> {
        let output = qemu::Output {
            console: console.to_owned(),
            timed_out,
            seconds: 1.0,
            log: "log".into(),
        };
        check(&output)
    }

    #[test]
    fn pass_needs_the_exact_line() {
        assert_eq!(check_console("boot\nimdsmon-vm: pass\n", false), Ok(()));
        assert!(check_console("imdsmon-vm: passed\n", false).is_err());
        assert!(check_console("echo imdsmon-vm: pass\n", false).is_err());
        assert!(check_console("", false).is_err());
    }

    #[test]
    fn kernel_panic_is_quoted() {
        let console = "[    1.0] Kernel panic - not syncing: why\n[    1.1] CPU: 0\n";
        let why = "ended without a result: Kernel panic - not syncing: why";
        assert_eq!(check_console(console, false), Err(why.to_owned()));
    }

    #[test]
    fn failure_wins_over_pass() {
        let console = "imdsmon-vm: fail: doctor\nimdsmon-vm: pass\n";
        assert_eq!(check_console(console, false), Err("doctor".to_owned()));
    }

    #[test]
    fn timeout_wins_over_pass() {
        assert!(check_console("imdsmon-vm: pass\n", true).is_err());
    }

    #[test]
    fn kernels_are_selected_by_name() {
        assert_eq!(select(&[]).unwrap().len(), KERNELS.len());
        assert_eq!(select(&["5.10".to_owned()]).unwrap()[0].arch, Arch::Amd64);
        assert!(select(&["2.4".to_owned()]).is_err());
    }
}
