//! Runs other programs, each with a timeout.

use anyhow::{Context as _, Result, bail};
use std::env;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A build from an empty cache on two slow cores.
pub const BUILD_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// A download or an installation.
pub const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// A command that returns at once.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Variables that `cargo run` or a developer's shell sets and that would change another toolchain.
const CARGO_ENVIRONMENT: &[&str] = &[
    "CARGO",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "LD_LIBRARY_PATH",
    "RUSTC",
    "RUSTC_BOOTSTRAP",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// The cargo that runs this task, in its environment.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A program without the environment of the cargo that runs this task.
pub fn external(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in CARGO_ENVIRONMENT {
        command.env_remove(name);
    }
    command
}

/// Runs `command` with its output on this terminal and fails unless it succeeds.
pub fn run(command: &mut Command, timeout: Duration) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", command_line(command)))?;
    match wait(&mut child, timeout)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("{} failed: {status}", command_line(command)),
        None => bail!(
            "{} took more than {} s",
            command_line(command),
            timeout.as_secs()
        ),
    }
}

/// Runs `command` and returns its standard output; an error quotes its standard error.
pub fn output(command: &mut Command, timeout: Duration) -> Result<String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command_line(command)))?;
    let stdout = read_in_thread(child.stdout.take());
    let stderr = read_in_thread(child.stderr.take());
    let status = wait(&mut child, timeout)?;
    let stdout = stdout.join().unwrap_or_default();
    let stderr = stderr.join().unwrap_or_default();
    match status {
        Some(status) if status.success() => Ok(stdout),
        Some(status) => bail!(
            "{} failed: {status}: {}",
            command_line(command),
            stderr.trim()
        ),
        None => bail!(
            "{} took more than {} s",
            command_line(command),
            timeout.as_secs()
        ),
    }
}

/// Waits for `child`; after `timeout` kills it and returns `None`.
pub fn wait(child: &mut Child, timeout: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("wait for a child")? {
            return Ok(Some(status));
        }
        if start.elapsed() > timeout {
            child.kill().context("end a child")?;
            child.wait().context("reap a child")?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn read_in_thread(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // Output read before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The command as typed, without quotes.
fn command_line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_over_its_timeout_is_killed() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let start = Instant::now();
        let error = run(&mut command, Duration::from_millis(100)).unwrap_err();
        assert!(
            error.to_string().contains("sleep 60 took more than"),
            "{error}"
        );
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn failure_quotes_standard_error() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo reason >&2; exit 3"]);
        let error = output(&mut command, QUERY_TIMEOUT).unwrap_err();
        assert!(
            error.to_string().ends_with("exit status: 3: reason"),
            "{error}"
        );
    }
}
