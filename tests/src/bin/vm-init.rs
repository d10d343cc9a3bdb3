//! Process 1 of a test machine (`cargo xtask vm`): mounts what imdsmon expects of a host, runs
//! what is to be tested, prints one verdict and powers off.
//!
//! It runs [`COMMANDS`] and then every program in `/tests`, by name: end-to-end tests that need
//! no other program. Each must exit with 0 in time. The last line is `imdsmon-vm: pass` or `imdsmon-vm: fail: WHY`.
#![expect(clippy::print_stdout, reason = "the console is how a machine reports")]

use anyhow::{Context as _, Result, bail};
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};
use std::{io, ptr};

/// Programs with their arguments that every machine runs, in this order.
const COMMANDS: &[&[&str]] = &[&["/imdsmon", "doctor"]];

/// Longest time for one program; an emulated machine is slow.
const LIMIT: Duration = Duration::from_secs(120);

/// File system, where, and whether a machine without it is of no use.
const MOUNTS: &[(&str, &str, bool)] = &[
    ("proc", "/proc", true),
    ("sysfs", "/sys", true),
    ("devtmpfs", "/dev", true),
    ("tmpfs", "/tmp", true),
    ("tmpfs", "/run", true),
    ("cgroup2", "/sys/fs/cgroup", true),
    ("bpf", "/sys/fs/bpf", false),
    ("securityfs", "/sys/kernel/security", false),
];

fn main() -> ExitCode {
    if std::process::id() != 1 {
        println!("vm-init is process 1 of a virtual machine: it powers off what it runs on");
        return ExitCode::FAILURE;
    }
    match test() {
        Ok(()) => println!("\nimdsmon-vm: pass"),
        Err(error) => println!(
            "\nimdsmon-vm: fail: {}",
            format!("{error:#}").replace('\n', " ")
        ),
    }
    let error = power_off();
    println!("power off: {error}");
    // When process 1 ends the kernel panics, and the machine ends, too.
    ExitCode::FAILURE
}

fn test() -> Result<()> {
    for (filesystem, path, needed) in MOUNTS {
        if let Err(error) = mount(filesystem, path) {
            if *needed {
                bail!("mount {filesystem} on {path}: {error}");
            }
            println!("imdsmon-vm: without {filesystem}: {error}");
        }
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the release")?;
    println!("imdsmon-vm: Linux {}", release.trim());
    for path in listed("/modules")? {
        load(&path).with_context(|| format!("load {}", path.display()))?;
    }
    for (program, arguments) in programs()? {
        let shown = format!("{} {}", program.display(), arguments.join(" "));
        let start = Instant::now();
        let outcome = run(&program, &arguments);
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(status) if status.success() => {
                println!("imdsmon-vm: ok {:.1} s: {}", seconds, shown.trim_end());
            }
            Ok(status) => bail!("{}: {status}", shown.trim_end()),
            Err(error) => bail!("{}: {error:#}", shown.trim_end()),
        }
    }
    Ok(())
}

/// What to run, with arguments.
fn programs() -> Result<Vec<(PathBuf, Vec<String>)>> {
    let mut programs: Vec<(PathBuf, Vec<String>)> = COMMANDS
        .iter()
        .filter_map(|words| {
            let (program, arguments) = words.split_first()?;
            Some((
                program.into(),
                arguments.iter().map(|&word| word.to_owned()).collect(),
            ))
        })
        .collect();
    programs.extend(listed("/tests")?.into_iter().map(|path| (path, Vec::new())));
    Ok(programs)
}

/// Files in a directory, by name.
fn listed(directory: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("read {directory}"))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.with_context(|| format!("read {directory}"))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Runs a program in a process group of its own; what it leaves behind is ended with it.
fn run(program: &Path, arguments: &[String]) -> Result<ExitStatus> {
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs([
            ("PATH", "/"),
            ("HOME", "/tmp"),
            ("IMDSMON_TEST_BIN_DIR", "/"),
            ("RUST_BACKTRACE", "1"),
        ])
        .process_group(0)
        .spawn()
        .context("start")?;
    let pid = i32::try_from(child.id()).context("a process id")?;
    let start = Instant::now();
    let mut ended = None;
    while ended.is_none() {
        ended = reap(pid);
        if ended.is_none() {
            if start.elapsed() > LIMIT {
                end_group(pid);
                bail!("not done after {} s", LIMIT.as_secs());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
    end_group(pid);
    ended.context("no status")
}

/// Collects every process that has ended, as process 1 must, and returns the status of `pid`.
fn reap(pid: i32) -> Option<ExitStatus> {
    let mut found = None;
    loop {
        let mut status = 0;
        // SAFETY: waitpid writes to `status`, which outlives the call, and to nothing else.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if ended <= 0 {
            return found;
        }
        if ended == pid {
            found = Some(ExitStatus::from_raw(status));
        }
    }
}

fn end_group(pid: i32) {
    // SAFETY: kill takes no pointers. There may be no process left to end, which is fine.
    let _ = unsafe { libc::kill(-pid, libc::SIGKILL) };
}

fn mount(filesystem: &str, path: &str) -> io::Result<()> {
    let kind = CString::new(filesystem)?;
    let target = CString::new(path)?;
    // A directory below sysfs is the kernel's to make; the others are in the initramfs.
    // SAFETY: both strings end with NUL and outlive the call; no data is passed.
    let result = unsafe {
        libc::mount(
            kind.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            0,
            ptr::null(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn load(module: &Path) -> Result<()> {
    let file = File::open(module).context("open")?;
    // SAFETY: the descriptor is open during the call, and the parameters are an empty C string.
    let result =
        unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error().into())
    }
}

/// Returns only if the machine does not power off.
fn power_off() -> io::Error {
    // SAFETY: neither call takes a pointer; this is process 1 of a virtual machine.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    io::Error::last_os_error()
}
