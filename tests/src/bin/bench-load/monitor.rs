//! The real monitor as a process of its own, and what the kernel says it used.

use anyhow::{Context as _, Result, bail};
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How long the monitor may take to attach, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `imdsmon watch --json`; ended when dropped.
pub struct Monitor {
    child: Child,
    log: Option<JoinHandle<String>>,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Seconds of processor time in its own code.
    pub user: f64,
    /// The same in the kernel on its behalf.
    pub system: f64,
    /// Memory in KiB: all, its peak, and what it consists of.
    pub resident: u64,
    /// See [`Self::resident`].
    pub peak: u64,
    /// Heap and stacks.
    pub anonymous: u64,
    /// Pages of the program's file.
    pub file: u64,
    /// Shared pages.
    pub shared: u64,
}

impl Monitor {
    /// Starts it and waits until its hooks are attached.
    pub fn start(program: &Path, out: Stdio) -> Result<Self> {
        let mut child = Command::new(program)
            .args(["watch", "--json"])
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let stderr = child.stderr.take();
        let (attached, is_attached) = mpsc::channel();
        let log = thread::spawn(move || {
            let mut text = String::new();
            if let Some(stderr) = stderr {
                let mut lines = BufReader::new(stderr);
                while !text.contains("Attached ")
                    && lines.read_line(&mut text).is_ok_and(|read| read > 0)
                {}
                // The receiver is gone if the monitor took too long.
                let _ = attached.send(text.contains("Attached "));
                // What came until an error is still worth showing.
                drop(lines.read_to_string(&mut text));
            }
            text
        });
        let mut monitor = Self {
            child,
            log: Some(log),
        };
        if is_attached.recv_timeout(PATIENCE) == Ok(true) {
            Ok(monitor)
        } else {
            drop(monitor.child.kill());
            let log = monitor.log();
            bail!("the monitor did not attach: {}", log.trim());
        }
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage> {
        let pid = self.child.id();
        let read = |name| {
            fs::read_to_string(format!("/proc/{pid}/{name}"))
                .with_context(|| format!("read {name} of the monitor"))
        };
        let status = read("status")?;
        let memory = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.with_context(|| format!("no {key} of the monitor"))
        };
        // After the name, which may hold anything, come the fields from the third on.
        let stat = read("stat")?;
        let (_, fields) = stat.rsplit_once(") ").context("no stat of the monitor")?;
        let time = |field: usize| {
            let ticks: u32 = fields.split(' ').nth(field - 3)?.parse().ok()?;
            Some(f64::from(ticks) / TICKS_PER_SECOND)
        };
        Ok(Usage {
            user: time(14).context("no user time of the monitor")?,
            system: time(15).context("no system time of the monitor")?,
            resident: memory("VmRSS:")?,
            peak: memory("VmHWM:")?,
            anonymous: memory("RssAnon:")?,
            file: memory("RssFile:")?,
            shared: memory("RssShmem:")?,
        })
    }

    /// Ends it as a service manager does, and returns its summary. (Not as Ctrl-C does: what a
    /// shell starts in the background ignores that, and its children with it.)
    pub fn end(mut self) -> Result<String> {
        let pid = self.child.id().cast_signed();
        // SAFETY: kill takes no pointer, and the child was not waited for: the pid is its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().context("wait for the monitor")? {
                break status;
            }
            if start.elapsed() > PATIENCE {
                bail!("the monitor does not end");
            }
            thread::sleep(Duration::from_millis(2));
        };
        let log = self.log();
        if !status.success() {
            bail!("the monitor ended with {status}: {}", log.trim());
        }
        Ok(log)
    }

    /// Standard error, without what is said again and again.
    fn log(&mut self) -> String {
        let log = self.log.take().map(JoinHandle::join);
        let log = log.and_then(Result::ok).unwrap_or_default();
        let (warnings, rest): (Vec<_>, Vec<_>) =
            log.lines().partition(|line| line.starts_with(" WARN"));
        let first = warnings.first().map(|first| {
            let count = warnings.len();
            format!("{count} warnings, the first of them {first}\n")
        });
        first.unwrap_or_default() + &rest.join("\n")
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // Fails if it has ended already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `USER_HZ`: the unit of times in /proc is the same on all Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;
