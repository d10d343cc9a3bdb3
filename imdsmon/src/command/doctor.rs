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
    capture::{Snapshot, cgroup, has_capability},
    enrich::sees_the_hosts_processes,
    selftest::doctor::{self, SelfTestError},
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

/// A capability by its number (capability.h), and what it is for.
struct Capability {
    bit: u32,
    name: &'static str,
    purpose: &'static str,
    /// Nothing can be watched without it.
    vital: bool,
}

const CAPABILITIES: &[Capability] = &[
    Capability {
        bit: 39,
        name: "CAP_BPF",
        purpose: "load programs",
        vital: true,
    },
    Capability {
        bit: 12,
        name: "CAP_NET_ADMIN",
        purpose: "attach to network hooks",
        vital: true,
    },
    Capability {
        bit: 38,
        name: "CAP_PERFMON",
        purpose: "read who calls",
        vital: true,
    },
    Capability {
        bit: 21,
        name: "CAP_SYS_ADMIN",
        purpose: "this self-test, the demo, connections older than the monitor",
        vital: false,
    },
    Capability {
        bit: 19,
        name: "CAP_SYS_PTRACE",
        purpose: "executables of other users",
        vital: false,
    },
    Capability {
        bit: 2,
        name: "CAP_DAC_READ_SEARCH",
        purpose: "names of cgroups",
        vital: false,
    },
];

/// Runs the subcommand.
pub fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    let result = block_on(doctor::run())?;
    let passed = result.is_ok();
    // The exit status is the answer, also if nobody reads the reasons.
    if let Err(error) = explain(result) {
        tracing::debug!(%error, "the report could not be written");
    }
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn explain(result: Result<doctor::Report, SelfTestError>) -> io::Result<()> {
    let mut out = anstream::stdout();
    kernel(&mut out)?;
    capabilities(&mut out)?;
    pids(&mut out)?;
    cgroup_root(&mut out)?;
    btf(&mut out)?;
    lockdown(&mut out)?;
    if self_test(&mut out, result)? {
        writeln!(out, "{GOOD}This host can be watched.{GOOD:#}")?;
    } else {
        writeln!(
            out,
            "{BAD}It was not proved that this host can be watched.{BAD:#}"
        )?;
    }
    out.flush()
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
    let missing = |vital| {
        CAPABILITIES
            .iter()
            .filter(move |c| c.vital == vital && !has_capability(effective, c.bit))
            .map(|c| format!("{} ({})", c.name, c.purpose))
            .collect::<Vec<_>>()
    };
    let (vital, other) = (missing(true), missing(false));
    if vital.is_empty() && other.is_empty() {
        return good(out, "capabilities", "all that are needed");
    }
    if !vital.is_empty() {
        let text = format!("missing: {}; run as root, or grant them", vital.join(", "));
        bad(out, "capabilities", text)?;
    }
    if !other.is_empty() {
        let text = format!("missing: {}; watching works without", other.join(", "));
        note(out, "capabilities", text)?;
    }
    Ok(())
}

fn pids(out: &mut impl Write) -> io::Result<()> {
    if sees_the_hosts_processes() {
        return good(out, "processes", "/proc shows those of the whole host");
    }
    bad(
        out,
        "processes",
        "/proc does not show those of the host; mount it, or in a container use the host's pid \
         namespace (`--pid=host`, `hostPID: true`)",
    )
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
    result: Result<doctor::Report, SelfTestError>,
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
