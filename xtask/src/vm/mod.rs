//! `cargo xtask vm`: imdsmon on kernels other than this machine's.
//!
//! A machine is Debian's kernel for clouds, qemu, and an initramfs that holds nothing but static
//! programs: it boots in seconds, and a pass is one exact line on its console. No machine has a
//! network device.

pub mod archive;
pub mod cpio;
pub mod kernel;
pub mod payload;
pub mod qemu;
pub mod root;
mod systemd;

use crate::debian::Installer;
use crate::progress::{green, note, red, step, yellow};
use crate::workspace;
use anyhow::{Context as _, Result, bail};
use archive::Archive;
use kernel::{KERNELS, Wanted};
use qemu::System;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// One machine's time, far above the seconds it takes, for a busy host.
const LIMIT: Duration = Duration::from_secs(300);

/// What the console shows when everything held, as `tests/src/bin/vm-init.rs` prints it.
const PASS: &str = "imdsmon-vm: pass";
/// How the line begins that says what did not.
const FAIL: &str = "imdsmon-vm: fail: ";
/// How every line begins that is worth showing.
const SUMMARY: &str = "imdsmon-vm: ";

/// Test imdsmon on other kernels, each in a virtual machine without a network.
///
/// Kernels come from the Debian mirror that apt is configured with; nothing of them is
/// installed. They and everything else are kept below target/vm; each console is in
/// target/vm/NAME.log. Needs qemu, and for arm64 a cross compiler; both are installed as root
/// on Debian (see --no-install).
#[derive(clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line, and clap sees to those that exclude each other"
)]
pub struct Args {
    /// Only this kernel; may be given several times (see --list).
    #[arg(long = "kernel", value_name = "NAME")]
    kernels: Vec<String>,

    /// List the kernels, and what is already here.
    #[arg(long)]
    list: bool,

    /// Keep the initramfs of each machine, and say how to boot it by hand.
    #[arg(long)]
    keep: bool,

    /// Test the Debian package on a Debian with systemd instead, as root; see
    /// xtask/src/vm/systemd.
    #[arg(long, conflicts_with_all = ["kernels", "list", "keep"])]
    systemd: bool,

    /// The URI of a Debian mirror; by default the one apt is configured with.
    #[arg(long, value_name = "URI")]
    mirror: Option<String>,

    /// Use KVM instead of emulation; faster where /dev/kvm works, but no other kernel behaviour.
    #[arg(long)]
    kvm: bool,
}

enum Outcome {
    Passed(f64),
    Failed(String),
    Skipped(String),
}

/// Boots every kernel, in turn, and shows a table.
pub fn run(args: &Args, installer: &Installer) -> Result<()> {
    let root = workspace::root()?;
    let home = workspace::target(&root).join("vm");
    if args.list {
        list(&home);
        return Ok(());
    }
    let archive = Archive::new(&home, args.mirror.as_deref());
    if args.systemd {
        let outcome = attempt("the package under systemd", || {
            systemd::boot(&home, &archive, args.kvm, installer)
        });
        return summarize(&[("systemd", outcome)]);
    }
    let mut table = Vec::new();
    for kernel in chosen(&args.kernels)? {
        let outcome = attempt(&format!("kernel {}", kernel.name), || {
            boot(kernel, args, &root, &home, &archive, installer)
        });
        table.push((kernel.name, outcome));
    }
    summarize(&table)
}

/// A machine that could not be tested has failed.
fn attempt(title: &str, work: impl FnOnce() -> Result<Outcome>) -> Outcome {
    let outcome = step(title, || match work() {
        Ok(Outcome::Failed(why)) => bail!("{why}"),
        outcome => outcome,
    });
    outcome.unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")))
}

pub fn chosen(names: &[String]) -> Result<Vec<&'static Wanted>> {
    if names.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    let find = |name: &String| {
        let known = KERNELS.iter().find(|kernel| kernel.name == name);
        known.with_context(|| format!("no kernel {name}; `cargo xtask vm --list` lists them"))
    };
    names.iter().map(find).collect()
}

fn list(home: &Path) {
    for kernel in KERNELS {
        let here =
            kernel::cached(kernel, home).map_or("not here yet".to_owned(), |kernel| kernel.release);
        println!("{:<12} {:<8} {here}", kernel.name, kernel.arch.name());
    }
}

fn boot(
    wanted: &'static Wanted,
    args: &Args,
    root: &Path,
    home: &Path,
    archive: &Archive,
    installer: &Installer,
) -> Result<Outcome> {
    let qemu = wanted.arch.qemu();
    let tools = [qemu.package, "debian-archive-keyring", "xz-utils"];
    if let Err(error) = installer.ensure(&tools, "the virtual machines") {
        if installer.can() {
            return Err(error);
        }
        return Ok(Outcome::Skipped(format!("{error:#}")));
    }
    let kernel = kernel::obtain(wanted, home, archive)?;
    note(format!("Linux {}", kernel.release));
    let programs = payload::build(wanted.arch, root, home, archive, installer)?;
    let initramfs = home.join(format!("{}.cpio", wanted.name));
    payload::pack(&programs, &kernel, &initramfs)?;
    let system = System::Initramfs(&initramfs);
    let output = qemu::run(&kernel, system, accelerator(args.kvm), LIMIT)?;
    if args.keep {
        note(format!("by hand:\n{}", qemu::command_line(&kernel, system)));
    } else {
        fs::remove_file(&initramfs).with_context(|| format!("remove {}", initramfs.display()))?;
    }
    Ok(judge(wanted.name, &output))
}

fn accelerator(kvm: bool) -> &'static [&'static str] {
    if kvm { &["-accel", "kvm"] } else { &[] }
}

/// Shows what a machine said of itself, and what came of it.
fn judge(name: &str, output: &qemu::Output) -> Outcome {
    let said = output.console.lines();
    for line in said.filter(|line| line.starts_with(SUMMARY)) {
        note(format!("{name} | {line}"));
    }
    match verdict(output) {
        Ok(()) => Outcome::Passed(output.seconds),
        Err(why) => {
            for line in last(&output.console, 30) {
                note(format!("{name} | {line}"));
            }
            Outcome::Failed(format!("{why}; all of it in {}", output.log.display()))
        }
    }
}

/// A pass is one exact line, and no line that says otherwise.
pub fn verdict(output: &qemu::Output) -> Result<(), String> {
    let mut passed = false;
    for line in output.console.lines() {
        if let Some(why) = line.strip_prefix(FAIL) {
            return Err(why.to_owned());
        }
        passed |= line == PASS;
    }
    match (output.timed_out, passed) {
        (true, _) => Err(format!("did not power off within {} s", LIMIT.as_secs())),
        (false, true) => Ok(()),
        (false, false) => Err(match panic_of(&output.console) {
            Some(panic) => format!("ended without a verdict: {panic}"),
            None => "ended without a verdict".to_owned(),
        }),
    }
}

fn panic_of(console: &str) -> Option<&str> {
    let start = console.find("Kernel panic")?;
    console[start..].lines().next()
}

fn last(console: &str, count: usize) -> Vec<&str> {
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
            Outcome::Skipped(why) => eprintln!("    {name:<12} {}: {why}", yellow("SKIPPED")),
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
    use kernel::Arch;

    fn said(console: &str, timed_out: bool) -> Result<(), String> {
        let output = qemu::Output {
            console: console.to_owned(),
            timed_out,
            seconds: 1.0,
            log: "log".into(),
        };
        verdict(&output)
    }

    #[test]
    fn only_the_exact_line_is_a_pass() {
        assert_eq!(said("boot\nimdsmon-vm: pass\n", false), Ok(()));
        assert!(said("imdsmon-vm: passed\n", false).is_err());
        assert!(said("echo imdsmon-vm: pass\n", false).is_err());
        assert!(said("", false).is_err());
    }

    #[test]
    fn a_panic_is_named() {
        let console = "[    1.0] Kernel panic - not syncing: why\n[    1.1] CPU: 0\n";
        let why = "ended without a verdict: Kernel panic - not syncing: why";
        assert_eq!(said(console, false), Err(why.to_owned()));
    }

    #[test]
    fn a_failure_beats_a_pass() {
        let console = "imdsmon-vm: fail: doctor\nimdsmon-vm: pass\n";
        assert_eq!(said(console, false), Err("doctor".to_owned()));
    }

    #[test]
    fn a_machine_that_hangs_after_its_pass_has_failed() {
        assert!(said("imdsmon-vm: pass\n", true).is_err());
    }

    #[test]
    fn a_kernel_is_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap().len(), KERNELS.len());
        assert_eq!(chosen(&["5.10".to_owned()]).unwrap()[0].arch, Arch::X86_64);
        assert!(chosen(&["2.4".to_owned()]).is_err());
    }
}
