//! Runs other programs, never without a limit of time.

use anyhow::{Context as _, Result, bail};
use std::env;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// For a build from an empty cache on two slow cores.
pub const BUILD: Duration = Duration::from_secs(30 * 60);
/// For a download or an installation.
pub const FETCH: Duration = Duration::from_secs(10 * 60);
/// For a question that is answered at once.
pub const QUESTION: Duration = Duration::from_secs(60);

/// What `cargo run` and a developer's shell set and another toolchain must not see.
const FOREIGN: &[&str] = &[
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

/// The cargo that runs this task.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A program that is to see nothing of the cargo that runs this task.
pub fn foreign(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in FOREIGN {
        command.env_remove(name);
    }
    command
}

/// Runs `command` with this terminal's output and fails unless it succeeds.
pub fn run(command: &mut Command, limit: Duration) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("start {}", shown(command)))?;
    match wait(&mut child, limit)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("{} ended with {status}", shown(command)),
        None => bail!("{} took more than {} s", shown(command), limit.as_secs()),
    }
}

/// Runs `command` and returns what it writes to its standard output.
pub fn output(command: &mut Command, limit: Duration) -> Result<String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", shown(command)))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = wait(&mut child, limit)?;
    let stdout = stdout.join().unwrap_or_default();
    let stderr = stderr.join().unwrap_or_default();
    match status {
        Some(status) if status.success() => Ok(stdout),
        Some(status) => bail!("{} ended with {status}: {}", shown(command), stderr.trim()),
        None => bail!("{} took more than {} s", shown(command), limit.as_secs()),
    }
}

/// Waits for `child`; kills it and returns `None` when `limit` has passed.
pub fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("wait for a child")? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            child.kill().context("end a child")?;
            child.wait().context("reap a child")?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read until an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The command as one would type it.
fn shown(command: &Command) -> String {
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
    fn a_program_that_does_not_end_is_ended() {
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
    fn a_failure_shows_what_the_program_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo reason >&2; exit 3"]);
        let error = output(&mut command, QUESTION).unwrap_err();
        assert!(
            error.to_string().ends_with("exit status: 3: reason"),
            "{error}"
        );
    }
}
