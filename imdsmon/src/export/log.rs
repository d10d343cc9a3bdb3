//! Calls as JSON lines in a file.

use std::{
    io,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    Destination,
    lines::{Lines, Rotation},
};
use crate::output::json;
use crate::pipeline::AttributedEvent;
use crate::time::Timestamp;

/// Bytes of lines buffered until the next flush.
const MAX_BUFFERED_BYTES: usize = 64 << 10;
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// The call log. A write error never stops capture: dropped lines are counted, and an
/// `imds.log_gap` line has their number.
pub(crate) struct CallLog {
    lines: Lines,
    waiting: Vec<u8>,
    waiting_lines: u64,
    /// Time of the last buffered call.
    time: Timestamp,
    /// Dropped lines without an `imds.log_gap` line yet.
    dropped: u64,
    next_warning: Option<Instant>,
}

impl CallLog {
    pub(crate) fn open(destination: &Destination, rotation: Rotation) -> io::Result<Self> {
        Ok(Self {
            lines: Lines::open(destination, rotation)?,
            waiting: Vec::new(),
            waiting_lines: 0,
            time: Timestamp::default(),
            dropped: 0,
            next_warning: None,
        })
    }

    pub(crate) fn add(&mut self, attributed: &AttributedEvent) {
        // Writing to a vector cannot fail.
        let _ = json::line(&mut self.waiting, attributed);
        self.waiting_lines += 1;
        self.time = attributed.event.time();
        if self.waiting.len() >= MAX_BUFFERED_BYTES {
            self.flush();
        }
    }

    pub(crate) fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        if self.dropped > 0 {
            let gap = json!({
                "timestamp": self.time.to_rfc3339(),
                "event.name": "imds.log_gap",
                "imds.dropped_lines": self.dropped,
            });
            let gap = format!("{gap}\n");
            self.waiting.splice(..0, gap.into_bytes());
        }
        match self.lines.write(&self.waiting) {
            Ok(()) => self.dropped = 0,
            Err(error) => {
                self.dropped = self.dropped.saturating_add(self.waiting_lines);
                self.warn(&error);
            }
        }
        self.waiting.clear();
        self.waiting_lines = 0;
    }

    fn warn(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.next_warning.is_none_or(|next| now >= next) {
            self.next_warning = Some(now + WARN_INTERVAL);
            let lines = self.dropped;
            tracing::warn!(%error, lines, "cannot write the call log; capture continues");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use serde_json::Value;

    use super::*;
    use crate::output::json::tests::{anonymous, call};

    const ROTATION: Rotation = Rotation {
        bytes: 1 << 20,
        keep: 1,
    };

    fn events(path: &std::path::Path) -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn calls_are_lines_of_json_once_they_are_flushed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("calls");
        let mut log = CallLog::open(&Destination::File(path.clone()), ROTATION).unwrap();
        let mut evil = call();
        evil.request.path = "/\n{\"event.name\": \"forged\"}\u{1b}[31m".into();
        log.add(&anonymous(evil.clone()));
        log.add(&anonymous(call()));
        assert_eq!(fs::read(&path).unwrap(), b"");
        log.flush();
        let events = events(&path);
        assert_eq!(events.len(), 2);
        assert_eq!(events[0]["url.path"], evil.request.path);
        assert_eq!(events[1]["event.name"], "imds.call");
    }

    #[test]
    fn a_flood_does_not_wait_in_memory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("calls");
        let mut log = CallLog::open(&Destination::File(path.clone()), ROTATION).unwrap();
        for _ in 0..1000 {
            log.add(&anonymous(call()));
            assert!(log.waiting.len() < 2 * MAX_BUFFERED_BYTES);
        }
        log.flush();
        assert_eq!(events(&path).len(), 1000);
    }

    #[test]
    fn full_disk_leaves_a_reported_gap() {
        let directory = tempfile::tempdir().unwrap();
        let mount = |options: &str| {
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]);
            let status = mount.arg(directory.path()).status();
            status.is_ok_and(|status| status.success())
        };
        if !rustix::process::geteuid().is_root() || !mount("size=64k") {
            println!("SKIPPED: a small file system needs root and mount(8)");
            return;
        }
        let path = directory.path().join("calls");
        let mut log = CallLog::open(&Destination::File(path.clone()), ROTATION).unwrap();
        let mut write = || {
            log.add(&anonymous(call()));
            log.flush();
            log.dropped
        };
        let ballast = directory.path().join("ballast");
        let before = write();
        drop(fs::write(&ballast, vec![0; 1 << 20]));
        // The rest of the page that the file has already still takes some.
        let dropped = (0..100).map(|_| write()).max();
        fs::remove_file(&ballast).unwrap();
        let after = write();
        let events = events(&path);
        drop(
            Command::new("umount")
                .arg("-l")
                .arg(directory.path())
                .status(),
        );
        assert_eq!((before, after), (0, 0));
        let gaps: Vec<&Value> = events
            .iter()
            .filter(|event| event["event.name"] == "imds.log_gap")
            .collect();
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[0]["imds.dropped_lines"].as_u64(), dropped);
        assert_eq!(events.len() as u64 - 1 + dropped.unwrap(), 102);
    }
}
