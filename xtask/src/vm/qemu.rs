//! One boot of one virtual machine.

use super::kernel::Kernel;
use crate::arch::Arch;
use crate::process;
use anyhow::{Context as _, Result};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub struct Output {
    /// All console output, without carriage returns.
    pub console: String,
    /// Whether it was killed because it did not power off in time.
    pub timed_out: bool,
    /// Duration from power on to power off.
    pub seconds: f64,
    /// The file with the console output.
    pub log: PathBuf,
}

/// The file system with the first process.
#[derive(Clone, Copy)]
pub enum System<'a> {
    /// A cpio archive that the kernel unpacks into memory.
    Initramfs(&'a Path),
    /// An ext4 file system; changes are discarded at the end.
    Disk(&'a Path),
}

/// Boots `kernel` with `system` and waits until the machine is off or `timeout` has passed.
///
/// `extra_args` go to qemu. Unless they contain `-accel`, the machine is emulated and behaves the
/// same on all hosts. No machine has a network device.
pub fn run(
    kernel: &Kernel,
    system: System,
    extra_args: &[&str],
    timeout: Duration,
) -> Result<Output> {
    let name = match system {
        System::Initramfs(_) => kernel.name,
        System::Disk(_) => "systemd",
    };
    let log = kernel.logs.join(format!("{name}.log"));
    let mut file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
    let start = Instant::now();
    let mut machine = command(kernel, system, extra_args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| format!("cannot start {}", emulator(kernel.arch).program))?;
    let stdout = machine.stdout.take().context("qemu has no output")?;
    // The log is written line by line, to follow a machine that hangs.
    let reader = thread::spawn(move || {
        let mut console = String::new();
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        while lines
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            let text = String::from_utf8_lossy(&line).replace('\r', "");
            // The result does not depend on the log.
            let _ = file.write_all(text.as_bytes());
            console.push_str(&text);
            line.clear();
        }
        console
    });
    let status = process::wait(&mut machine, timeout)?;
    let seconds = start.elapsed().as_secs_f64();
    let console = reader.join().unwrap_or_default();
    Ok(Output {
        console,
        timed_out: status.is_none(),
        seconds,
        log,
    })
}

/// The command that boots the same machine, for a shell.
pub fn command_line(kernel: &Kernel, system: System) -> String {
    let command = command(kernel, system, &[]);
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| match arg.to_string_lossy() {
        arg if arg.contains(' ') => format!("'{arg}'"),
        arg => arg.into_owned(),
    }));
    words.join(" ")
}

pub struct Emulator {
    /// Debian's package.
    pub package: &'static str,
    program: &'static str,
    machine: &'static str,
    /// Linux's name for its serial port.
    console: &'static str,
}

pub fn emulator(arch: Arch) -> Emulator {
    match arch {
        Arch::Amd64 => Emulator {
            package: "qemu-system-x86",
            program: "qemu-system-x86_64",
            machine: "q35",
            console: "ttyS0",
        },
        Arch::Arm64 => Emulator {
            package: "qemu-system-arm",
            program: "qemu-system-aarch64",
            machine: "virt",
            console: "ttyAMA0",
        },
    }
}

fn command(kernel: &Kernel, system: System, extra_args: &[&str]) -> Command {
    let emulator = emulator(kernel.arch);
    let mut command = process::external(emulator.program);
    command
        .args(["-M", emulator.machine, "-cpu", "max"])
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
    // A panic reboots, which -no-reboot turns into an exit.
    let mut append = format!("console={} panic=-1 quiet", emulator.console);
    match system {
        System::Initramfs(path) => {
            command.args(["-m", "512", "-smp", "1"]);
            command.arg("-initrd").arg(path);
        }
        System::Disk(path) => {
            command.args(["-m", "1024", "-smp", "2"]);
            // Cloud kernels have the driver of this disk built in.
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

/// The size of a file in MiB.
pub fn mebibytes(path: &Path) -> Result<u64> {
    let file = fs::metadata(path).with_context(|| format!("stat {}", path.display()))?;
    Ok(file.len() >> 20)
}
