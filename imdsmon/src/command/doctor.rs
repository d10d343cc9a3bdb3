//! `imdsmon doctor`: checks whether capture works on this host, and names the fix.

use std::{
    fmt::Display,
    fs,
    io::{self, Write},
    process::ExitCode,
};

use anstyle::{AnsiColor, Style};

use super::block_on;
use crate::{
    capabilities::{self, Capability},
    capture::{Snapshot, cgroup},
    enrich::in_host_pid_namespace,
    selftest::doctor::{self, SelfTestError},
};

/// Check this host's requirements and verify capture end to end
///
/// The self-test makes IMDSv1 and IMDSv2 calls inside a private network namespace with a
/// simulated metadata service and compares them with what the kernel hooks captured. It sends
/// nothing to the real service. The exit status is 0 only if the self-test passes.
#[derive(clap::Args)]
pub(crate) struct Args {}

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Yellow.on_default().bold();

pub(crate) fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    let result = block_on(doctor::run())?;
    let passed = result.is_ok();
    // The exit status is the result, even if the explanation cannot be printed.
    if let Err(error) = explain(result) {
        tracing::debug!(%error, "cannot print the result");
    }
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn explain(result: Result<doctor::DoctorReport, SelfTestError>) -> io::Result<()> {
    let mut out = anstream::stdout();
    kernel(&mut out)?;
    capabilities(&mut out)?;
    pids(&mut out)?;
    cgroup_root(&mut out)?;
    btf(&mut out)?;
    lockdown(&mut out)?;
    if self_test(&mut out, result)? {
        writeln!(out, "{GOOD}imdsmon works on this host.{GOOD:#}")?;
    } else {
        writeln!(
            out,
            "{BAD}Self-test failed: calls on this host may not be captured; fix the FAIL lines above.{BAD:#}"
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
    let missing = match capabilities::missing() {
        Ok(missing) => missing,
        Err(error) => {
            return bad(
                out,
                "capabilities",
                format_args!("cannot read capabilities: {error}"),
            );
        }
    };
    let describe = |c: &Capability| format!("{} ({})", c.name(), c.purpose);
    let (required, optional): (Vec<_>, Vec<_>) = missing.partition(|c| c.is_required);
    let [required, optional] = [required, optional]
        .map(|set| set.into_iter().map(describe).collect::<Vec<_>>().join(", "));
    if required.is_empty() && optional.is_empty() {
        return good(out, "capabilities", "all present");
    }
    if !required.is_empty() {
        let text = format!("missing: {required}; run as root, or grant them");
        bad(out, "capabilities", text)?;
    }
    if !optional.is_empty() {
        let text = format!("missing: {optional}; capture works without them");
        note(out, "capabilities", text)?;
    }
    Ok(())
}

fn pids(out: &mut impl Write) -> io::Result<()> {
    if in_host_pid_namespace() {
        return good(out, "processes", "/proc shows all processes of the host");
    }
    bad(
        out,
        "processes",
        "/proc does not show the host's processes; mount it, or in a container use the host's PID \
         namespace (`--pid=host`, `hostPID: true`)",
    )
}

fn cgroup_root(out: &mut impl Write) -> io::Result<()> {
    match cgroup::Root::find() {
        Ok(cgroup::Root {
            path: Some(path), ..
        }) => good(out, "cgroup v2", path.display()),
        Ok(_) => good(out, "cgroup v2", "not mounted; using a private mount"),
        Err(error) => bad(out, "cgroup v2", error),
    }
}

fn btf(out: &mut impl Write) -> io::Result<()> {
    match crate::capture::offsets() {
        Ok(_) => good(out, "BTF", "available"),
        Err(error) => note(
            out,
            "BTF",
            format_args!(
                "{error}; short-lived processes may show up as unknown. Use a kernel built with \
                 CONFIG_DEBUG_INFO_BTF"
            ),
        ),
    }
}

fn lockdown(out: &mut impl Write) -> io::Result<()> {
    // The active state is in brackets: `none [integrity] confidentiality`.
    let state = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    match state.split(['[', ']']).nth(1) {
        Some("confidentiality") => note(
            out,
            "lockdown",
            "confidentiality: programs cannot read kernel memory; processes are identified through \
             /proc only. Boot with lockdown=integrity",
        ),
        Some(state) => good(out, "lockdown", state),
        None => good(out, "lockdown", "not supported by this kernel"),
    }
}

fn self_test(
    out: &mut impl Write,
    result: Result<doctor::DoctorReport, SelfTestError>,
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
            "no `release` hook: calls without a response are reported after 1 min",
        )?;
    }
    match &report.snapshot {
        Snapshot::On => good(out, "snapshot", "short-lived processes are identified")?,
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
            "IMDSv1 and IMDSv2 calls over {over} were captured and attributed ({} ms, {} records, \
             {} dropped)",
            report.elapsed.as_millis(),
            report.totals.captured,
            report.totals.lost
        ),
    )?;
    Ok(true)
}
