//! The monitor under test: the built binary, as a process of its own.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex,
        mpsc::{self, Receiver},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long the monitor may take to attach or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `imdsmon watch --json`.
pub struct Watch {
    child: Child,
    out: Option<JoinHandle<Vec<String>>>,
    fresh: Mutex<Receiver<String>>,
    err: Option<JoinHandle<String>>,
}

/// What a monitor left behind.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Lines of standard output.
    pub lines: Vec<String>,
    /// Standard error.
    pub err: String,
}

impl Watch {
    /// Starts the monitor and waits until its hooks are attached.
    ///
    /// # Panics
    ///
    /// If it does not get there.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        let mut command = Command::new(crate::program("imdsmon"));
        command.args(["watch", "--json"]).args(args);
        Self::spawn(&mut command)
    }

    /// The same for a command line that is already there.
    ///
    /// # Panics
    ///
    /// If the hooks do not get attached.
    #[must_use]
    pub fn spawn(command: &mut Command) -> Self {
        // A shell lets what it starts in the background ignore Ctrl-C, and the monitor leaves it at
        // that. Here it must not.
        // SAFETY: between fork and exec, one system call.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                Ok(())
            });
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut err = BufReader::new(child.stderr.take().unwrap());
        let (attached, is_attached) = mpsc::channel();
        let (show, fresh) = mpsc::channel();
        let out = thread::spawn(move || {
            let lines = out.lines().map_while(Result::ok);
            // They are read after it has ended.
            lines
                .inspect(|line| drop(show.send(line.clone())))
                .collect()
        });
        let err = thread::spawn(move || {
            let mut text = String::new();
            while err.read_line(&mut text).is_ok_and(|n| n > 0) && !text.contains("Attached ") {}
            let _ = attached.send(text.contains("Attached "));
            drop(err.read_to_string(&mut text));
            text
        });
        let mut watch = Self {
            child,
            out: Some(out),
            fresh: Mutex::new(fresh),
            err: Some(err),
        };
        if is_attached.recv_timeout(PATIENCE) != Ok(true) {
            let ended = watch.end("-KILL");
            panic!("the monitor did not attach: {ended:?}");
        }
        watch
    }

    /// Process id of the monitor.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints while it runs and that `is_it` says yes to; `None` if none
    /// comes in time.
    ///
    /// # Panics
    ///
    /// If looking for another line panicked.
    pub fn printed(
        &self,
        patience: Duration,
        mut is_it: impl FnMut(&str) -> bool,
    ) -> Option<String> {
        let until = Instant::now() + patience;
        let fresh = self.fresh.lock().unwrap();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = fresh.recv_timeout(left).ok()?;
            if is_it(&line) {
                return Some(line);
            }
        }
    }

    /// Ends the monitor as Ctrl-C does.
    #[must_use]
    pub fn interrupt(mut self) -> Ended {
        self.end("-INT")
    }

    /// Ends the monitor with a signal, and waits for it.
    ///
    /// # Panics
    ///
    /// If it was ended before.
    pub fn end(&mut self, signal: &str) -> Ended {
        signal_to(self.child.id(), signal);
        let until = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > until => {
                    drop(self.child.kill());
                    break self.child.wait().unwrap();
                }
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        Ended {
            status,
            lines: self.out.take().unwrap().join().unwrap(),
            err: self.err.take().unwrap().join().unwrap(),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.out.is_some() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

impl Ended {
    /// Standard output as JSON, each line of which must be.
    ///
    /// # Panics
    ///
    /// If one is not.
    #[must_use]
    pub fn json(&self) -> Vec<Value> {
        let parse =
            |line: &String| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"));
        self.lines.iter().map(parse).collect()
    }
}

/// Dropped records in a text report.
///
/// # Panics
///
/// If the report does not have them.
#[must_use]
pub fn lost(report: &str) -> u64 {
    let mut lines = report
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Dropped records "));
    let Some(said) = lines.next().map(str::trim) else {
        panic!("no dropped records: {report}")
    };
    let digits: String = said.chars().filter(char::is_ascii_digit).collect();
    if said == "none" {
        0
    } else {
        digits.parse().unwrap()
    }
}

/// Sends a signal to a process that this test started.
///
/// # Panics
///
/// If the signal is not known here.
pub fn signal_to(pid: u32, signal: &str) {
    let signal = match signal {
        "-INT" => libc::SIGINT,
        "-TERM" => libc::SIGTERM,
        "-KILL" => libc::SIGKILL,
        "-HUP" => libc::SIGHUP,
        "-STOP" => libc::SIGSTOP,
        "-CONT" => libc::SIGCONT,
        other => panic!("unknown signal {other}"),
    };
    // SAFETY: plain system call; the process is a child that was not waited for yet.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

/// Whether a path exists; for programs that a test needs.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| Path::new(&directory).join(program).is_file())
}

/// Whether one of the programs that a test needs is missing here; says which.
#[must_use]
pub fn lacks(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !is_installed(program));
    if let Some(program) = missing {
        eprintln!("SKIPPED: {program} is not installed");
    }
    missing.is_some()
}
