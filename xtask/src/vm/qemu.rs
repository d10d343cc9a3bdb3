//! One boot of one machine.

use super::kernel::Kernel;
use crate::process;
use anyhow::{Context as _, Result};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a machine left behind.
pub struct Output {
    /// Everything on its console, without carriage returns.
    pub console: String,
    /// It did not power off in time, and was ended.
    pub timed_out: bool,
    /// From power on to power off.
    pub seconds: f64,
    /// Where the console is kept.
    pub log: PathBuf,
}

/// What a kernel finds its first process in.
#[derive(Clone, Copy)]
pub enum System<'a> {
    /// A cpio archive, unpacked into memory.
    Initramfs(&'a Path),
    /// An ext4 file system; changes go with the machine.
    Disk(&'a Path),
}

/// Boots `kernel` with `system` and waits until the machine is off, or `limit` has passed.
///
/// `extra_args` go to qemu: `-icount shift=0` makes the guest's clock count instructions, which
/// gives the same figures on every run. Without an `-accel` among them the machine is emulated,
/// so that it behaves alike on all hosts. No machine ever has a network device.
pub fn run(
    kernel: &Kernel,
    system: System,
    extra_args: &[&str],
    limit: Duration,
) -> Result<Output> {
    let name = match system {
        System::Initramfs(_) => kernel.name,
        System::Disk(_) => "systemd",
    };
    let log = kernel.home.join(format!("{name}.log"));
    let mut file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
    let start = Instant::now();
    let mut machine = command(kernel, system, extra_args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| format!("start {}", kernel.arch.qemu().program))?;
    let stdout = machine.stdout.take().context("qemu has no output")?;
    // Line by line into the log, so that one can follow a machine that hangs.
    let reader = thread::spawn(move || {
        let mut console = String::new();
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        while lines
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            let text = String::from_utf8_lossy(&line).replace('\r', "");
            // The verdict does not depend on the log.
            let _ = file.write_all(text.as_bytes());
            console.push_str(&text);
            line.clear();
        }
        console
    });
    let status = process::wait(&mut machine, limit)?;
    let seconds = start.elapsed().as_secs_f64();
    let console = reader.join().unwrap_or_default();
    Ok(Output {
        console,
        timed_out: status.is_none(),
        seconds,
        log,
    })
}

/// The same machine, as one types it.
pub fn command_line(kernel: &Kernel, system: System) -> String {
    let command = command(kernel, system, &[]);
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| match arg.to_string_lossy() {
        arg if arg.contains(' ') => format!("'{arg}'"),
        arg => arg.into_owned(),
    }));
    words.join(" ")
}

fn command(kernel: &Kernel, system: System, extra_args: &[&str]) -> Command {
    let qemu = kernel.arch.qemu();
    let mut command = process::foreign(qemu.program);
    command
        .args(["-M", qemu.machine, "-cpu", "max"])
        .args([
            "-nodefaults",
            "-nic",
            "none",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
        ])
        .arg("-kernel")
        .arg(&kernel.image);
    // A panic reboots, which -no-reboot turns into the end.
    let mut append = format!("console={} panic=-1 quiet", qemu.console);
    match system {
        System::Initramfs(path) => {
            command.args(["-m", "512", "-smp", "1"]);
            command.arg("-initrd").arg(path);
        }
        System::Disk(path) => {
            command.args(["-m", "1024", "-smp", "2"]);
            // The kernels for clouds have this disk's driver built in.
            command.args(["-device", "nvme,serial=root,drive=root", "-drive"]);
            let mut drive = OsString::from("if=none,id=root,format=raw,snapshot=on,file=");
            drive.push(path);
            command.arg(drive);
            append += " root=/dev/nvme0n1 rw systemd.show_status=0 systemd.log_target=journal";
        }
    }
    command.arg("-append").arg(append).args(extra_args);
    if !extra_args.contains(&"-accel") {
        command.args(["-accel", "tcg"]);
    }
    command
}

/// The size of a file in MiB, for people.
pub fn mebibytes(path: &Path) -> Result<u64> {
    let file = fs::metadata(path).with_context(|| format!("stat {}", path.display()))?;
    Ok(file.len() >> 20)
}
