//! `imdsmon doctor`: can this host be watched, and if not, what mends it?

use std::{
    fmt::Display,
    fs,
    io::{self, Write},
    process::ExitCode,
};

use anstyle::{AnsiColor, Style};

use super::block_on;
use crate::{
    capture::{Snapshot, cgroup},
    selftest::{self, SelfTestError},
};

/// Check what this host offers, then prove that calls are heard.
///
/// The self-test makes calls with and without a token inside a private network namespace with a
/// simulated metadata service; they must come out of the real kernel hooks. Nothing is sent to
/// the real one. Exit status 0 only if that works.
#[derive(clap::Args)]
pub struct Args {}

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Yellow.on_default().bold();

/// Capabilities by number (capability.h), and what each is for.
const CAPABILITIES: &[(u32, &str, &str)] = &[
    (39, "CAP_BPF", "load programs"),
    (12, "CAP_NET_ADMIN", "attach to network hooks"),
    (38, "CAP_PERFMON", "read who calls, in the kernel"),
    (
        21,
        "CAP_SYS_ADMIN",
        "self-test and demo, connections of other namespaces",
    ),
    (
        19,
        "CAP_SYS_PTRACE",
        "executables and descriptors of other users",
    ),
    (2, "CAP_DAC_READ_SEARCH", "names of cgroups"),
];

/// Runs the subcommand.
pub fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    let mut out = anstream::stdout();
    kernel(&mut out)?;
    capabilities(&mut out)?;
    cgroup_root(&mut out)?;
    btf(&mut out)?;
    lockdown(&mut out)?;
    let result = block_on(selftest::run())?;
    let passed = self_test(&mut out, result)?;
    out.flush()?;
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn good(out: &mut impl Write, what: &str, found: impl Display) -> io::Result<()> {
    writeln!(out, "{GOOD}ok  {GOOD:#}  {what:<13} {found}")
}

fn note(out: &mut impl Write, what: &str, found: impl Display) -> io::Result<()> {
    writeln!(out, "{NOTE}note{NOTE:#}  {what:<13} {found}")
}

fn bad(out: &mut impl Write, what: &str, found: impl Display) -> io::Result<()> {
    writeln!(out, "{BAD}FAIL{BAD:#}  {what:<13} {found}")
}

fn kernel(out: &mut impl Write) -> io::Result<()> {
    let uname = rustix::system::uname();
    let (release, machine) = (
        uname.release().to_string_lossy(),
        uname.machine().to_string_lossy(),
    );
    match crate::capture::check_kernel() {
        Ok(()) => good(
            out,
            "kernel",
            format_args!("{release} on {machine} (5.10 or later)"),
        ),
        Err(error) => bad(out, "kernel", error),
    }
}

fn capabilities(out: &mut impl Write) -> io::Result<()> {
    let effective = procfs::process::Process::myself()
        .and_then(|me| me.status())
        .map(|s| s.capeff);
    let Ok(effective) = effective else {
        return bad(
            out,
            "capabilities",
            "/proc is not mounted; run `mount -t proc proc /proc`",
        );
    };
    let missing: Vec<_> = CAPABILITIES
        .iter()
        .filter(|(bit, ..)| effective & (1 << bit) == 0)
        .collect();
    if missing.is_empty() {
        let all: Vec<_> = CAPABILITIES.iter().map(|(_, name, _)| *name).collect();
        return good(out, "capabilities", all.join(", "));
    }
    for (bit, name, purpose) in missing {
        let text = format!("no {name} ({purpose}); run as root, or grant it");
        // The first three are needed for any watching at all.
        if [39, 12, 38].contains(bit) {
            bad(out, "capabilities", text)?;
        } else {
            note(out, "capabilities", text)?;
        }
    }
    Ok(())
}

fn cgroup_root(out: &mut impl Write) -> io::Result<()> {
    match cgroup::Root::find() {
        Ok(cgroup::Root {
            path: Some(path), ..
        }) => good(out, "cgroup v2", path.display()),
        Ok(_) => good(
            out,
            "cgroup v2",
            "not mounted; mounted privately, which is enough",
        ),
        Err(error) => bad(out, "cgroup v2", error),
    }
}

fn btf(out: &mut impl Write) -> io::Result<()> {
    match crate::capture::offsets() {
        Ok(_) => good(out, "BTF", "the kernel describes its types"),
        Err(error) => note(
            out,
            "BTF",
            format_args!(
                "{error}; a process that ends at once may stay unnamed. A kernel with \
                 CONFIG_DEBUG_INFO_BTF mends it"
            ),
        ),
    }
}

fn lockdown(out: &mut impl Write) -> io::Result<()> {
    // The state in force stands in brackets: `none [integrity] confidentiality`.
    let state = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    match state.split(['[', ']']).nth(1) {
        Some("confidentiality") => note(
            out,
            "lockdown",
            "confidentiality: programs may not read the kernel, /proc alone attributes; boot with \
             lockdown=integrity to mend it",
        ),
        Some(state) => good(out, "lockdown", state),
        None => good(out, "lockdown", "not in this kernel"),
    }
}

fn self_test(
    out: &mut impl Write,
    result: Result<selftest::Report, SelfTestError>,
) -> io::Result<bool> {
    let report = match result {
        Ok(report) => report,
        Err(error) => {
            bad(out, "self-test", error)?;
            return Ok(false);
        }
    };
    good(out, "hooks", report.hooks.join(", "))?;
    if !report.hooks.contains(&"release") {
        note(
            out,
            "hooks",
            "no `release`: a call without an answer is noticed after a minute",
        )?;
    }
    match &report.snapshot {
        Snapshot::On => good(
            out,
            "snapshot",
            "callers are known even if they end at once",
        )?,
        Snapshot::Off(why) => note(out, "snapshot", format_args!("off: {why}"))?,
    }
    let over = if report.ipv6 {
        "IPv4 and IPv6"
    } else {
        "IPv4 (this host has no IPv6)"
    };
    good(
        out,
        "self-test",
        format_args!(
            "calls with and without a token over {over} were heard and attributed ({} ms, {} records, \
             {} lost)",
            report.took.as_millis(),
            report.totals.captured,
            report.totals.lost
        ),
    )?;
    Ok(true)
}
