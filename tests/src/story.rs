//! Given this client, expect these calls.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::Write as _,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use imdsmon::sandbox::{ImdsConfig, ImdsSimulator};
use serde_json::Value;

use crate::{
    Watch, program, repetitions,
    watch::{Ended, lost, signal_to},
};

/// How long after a client has ended its last event may still come.
const GRACE: Duration = Duration::from_millis(60);

/// How long a client may take to connect.
const PATIENCE: Duration = Duration::from_secs(20);

/// A call as it must come out.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// `imds.version`
    pub version: &'static str,
    /// `imds.token`
    pub token: Option<&'static str>,
    /// `http.request.method`
    pub method: &'static str,
    /// `url.path`
    pub path: String,
    /// `http.response.status_code`; `None` also means `no-answer`
    pub status: Option<u64>,
    /// `network.protocol.version`
    pub protocol: &'static str,
}

/// Path that `wire-client` asks for unless told otherwise.
const PATH: &str = "/latest/meta-data/instance-id";

impl Call {
    /// A GET without a token, answered 200.
    #[must_use]
    pub fn v1() -> Self {
        Self {
            version: "v1",
            token: None,
            method: "GET",
            path: PATH.into(),
            status: Some(200),
            protocol: "1.1",
        }
    }

    /// A GET with a token, answered 200.
    #[must_use]
    pub fn v2() -> Self {
        Self {
            version: "v2",
            token: Some("present"),
            ..Self::v1()
        }
    }

    /// A token request, answered 200.
    #[must_use]
    pub fn put() -> Self {
        Self {
            version: "token",
            method: "PUT",
            path: "/latest/api/token".into(),
            ..Self::v1()
        }
    }

    /// The same with another path.
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        Self {
            path: path.into(),
            ..self
        }
    }

    /// The same with another method.
    #[must_use]
    pub fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    /// The same with another status.
    #[must_use]
    pub fn status(self, status: u64) -> Self {
        Self {
            status: Some(status),
            ..self
        }
    }

    /// The same without an answer.
    #[must_use]
    pub fn unanswered(self) -> Self {
        Self {
            status: None,
            ..self
        }
    }

    /// The same with another HTTP version.
    #[must_use]
    pub fn protocol(self, protocol: &'static str) -> Self {
        Self { protocol, ..self }
    }

    /// The same with another token value.
    #[must_use]
    pub fn token(self, token: &'static str) -> Self {
        Self {
            token: Some(token),
            ..self
        }
    }

    /// Whether this is the call that was seen.
    #[must_use]
    pub fn matches(&self, seen: &Value) -> bool {
        let outcome = if self.status.is_some() {
            "answered"
        } else {
            "no-answer"
        };
        seen["event.name"] == "imds.call"
            && seen["imds.version"] == self.version
            && seen["imds.token"] == Value::from(self.token)
            && seen["http.request.method"] == self.method
            && seen["url.path"] == *self.path
            && seen["http.response.status_code"] == Value::from(self.status)
            && seen["imds.outcome"] == outcome
            && seen["network.protocol.version"] == self.protocol
    }
}

/// A process that a scene started.
#[derive(Clone, Debug)]
pub struct Who {
    /// The process that was started.
    pub pid: u32,
    /// The process that sent, if it says that another one did.
    pub sender: u32,
    /// What it printed after these.
    pub printed: Vec<String>,
}

/// A stage with the simulated IMDS, and the monitor beside it.
pub struct Scene {
    /// The stage.
    pub simulator: ImdsSimulator,
    watch: Option<Watch>,
}

impl Scene {
    /// Sets the stage.
    ///
    /// # Panics
    ///
    /// If there is none to be had.
    #[must_use]
    pub fn new(config: ImdsConfig) -> Self {
        // The stage first: the number of its network may have been another's a moment ago, whose
        // calls the monitor must not have seen.
        let mut scene = Self::without_monitor(config);
        scene.start_monitor(&["--buffer", "16M"]);
        scene
    }

    /// The stage alone; [`Self::start_monitor`] comes later.
    ///
    /// # Panics
    ///
    /// If there is none to be had.
    #[must_use]
    pub fn without_monitor(config: ImdsConfig) -> Self {
        Self {
            simulator: ImdsSimulator::start(config).unwrap(),
            watch: None,
        }
    }

    /// Starts the monitor.
    pub fn start_monitor(&mut self, args: &[&str]) {
        self.watch = Some(Watch::start(args));
    }

    /// A command that will run on the stage.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        self.simulator.enter(&mut command);
        command
    }

    /// Runs `wire-client` with these arguments to its end.
    #[must_use]
    pub fn wire(&self, args: &[&str]) -> Who {
        self.wire_after(args, || ())
    }

    /// The same, but before the client may send (`--wait-stdin`) something happens.
    ///
    /// # Panics
    ///
    /// If the client fails.
    pub fn wire_after(&self, args: &[&str], meanwhile: impl FnOnce()) -> Who {
        let mut command = self.command(program("wire-client"));
        self.client_after(command.args(args), meanwhile)
    }

    /// Runs a command that is `wire-client`, or ends up as it, to its end.
    #[must_use]
    pub fn client(&self, command: &mut Command) -> Who {
        self.client_after(command, || ())
    }

    /// The same, but before the client may send (`--wait-stdin`) something happens.
    ///
    /// # Panics
    ///
    /// If the client fails.
    pub fn client_after(&self, command: &mut Command, meanwhile: impl FnOnce()) -> Who {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let before = self.simulator.requests().connections;
        let mut child = command.spawn().unwrap();
        let id = child.id();
        let mut stdin = child.stdin.take().unwrap();
        if command.get_args().any(|arg| arg == "--wait-stdin") {
            self.wait_for_connection(before);
        }
        meanwhile();
        drop(stdin.write_all(b"go\n"));
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?} failed: {err}");
        let mut who = Who {
            pid: id,
            sender: 0,
            printed: Vec::new(),
        };
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("pid", pid)) => who.pid = pid.parse().unwrap(),
                Some(("sender", pid)) => who.sender = pid.parse().unwrap(),
                _ => who.printed.push(line.into()),
            }
        }
        if who.sender == 0 {
            who.sender = who.pid;
        }
        who
    }

    /// Waits until the server has accepted one connection more.
    fn wait_for_connection(&self, before: u64) {
        let until = Instant::now() + PATIENCE;
        while self.simulator.requests().connections == before {
            assert!(Instant::now() < until, "the client does not connect");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Something that is over before the monitor can look: it stands still meanwhile.
    ///
    /// # Panics
    ///
    /// If no monitor was started.
    pub fn unseen<T>(&self, act: impl FnOnce() -> T) -> T {
        let watch = self.watch.as_ref().expect("a monitor was started");
        signal_to(watch.pid(), "-STOP");
        let done = act();
        signal_to(watch.pid(), "-CONT");
        done
    }

    /// The next line from this stage that the monitor prints while it runs.
    ///
    /// # Panics
    ///
    /// If none comes in time.
    #[must_use]
    pub fn printed(&self, patience: Duration) -> Value {
        let netns = self.simulator.netns();
        let mut mine = None;
        let watch = self.watch.as_ref().expect("a monitor was started");
        watch.printed(patience, |line| {
            mine = serde_json::from_str(line).ok();
            mine.as_ref()
                .is_some_and(|line: &Value| line["linux.netns"] == netns)
        });
        mine.filter(|line| line["linux.netns"] == netns)
            .expect("nothing was printed in time")
    }

    /// Ends the monitor and gives what it saw on this stage.
    ///
    /// # Panics
    ///
    /// If it did not end well.
    #[must_use]
    pub fn finish(&mut self) -> Vec<Value> {
        let ended = self.end();
        let netns = self.simulator.netns();
        ended
            .json()
            .into_iter()
            .filter(|line| line["linux.netns"] == netns)
            .collect()
    }

    /// Ends the monitor.
    ///
    /// # Panics
    ///
    /// If it did not end well.
    #[must_use]
    pub fn end(&mut self) -> Ended {
        thread::sleep(GRACE);
        let ended = self
            .watch
            .take()
            .expect("a monitor was started")
            .interrupt();
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(lost(&ended.err), 0, "{}", ended.err);
        ended
    }
}

/// An instance that answers with and without a token.
#[must_use]
pub fn optional() -> ImdsConfig {
    ImdsConfig::default()
}

/// Plays the story of `wire-client` sending these requests to such an instance.
///
/// # Panics
///
/// If the calls are others than expected.
pub fn send(requests: &str, more: &[&str], expected: &[Call]) {
    let args = [&["send", "--request", requests], more].concat();
    play(optional(), &args, expected);
}

/// Plays a story as often as asked for: `wire-client` with these arguments, in this order of
/// calls, all by the process that sent. Nothing may be missing, wrong, or there twice.
///
/// # Panics
///
/// If the calls are others than expected.
#[expect(
    clippy::must_use_candidate,
    reason = "it asserts; what it gives is for more"
)]
pub fn play(config: ImdsConfig, args: &[&str], expected: &[Call]) -> Vec<(Who, Vec<Value>)> {
    if crate::skipped() {
        return Vec::new();
    }
    let mut scene = Scene::new(config);
    let ran: Vec<_> = (0..repetitions()).map(|_| scene.wire(args)).collect();
    let mut seen: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for line in scene.finish() {
        seen.entry(line["process.pid"].as_u64().unwrap_or(0))
            .or_default()
            .push(line);
    }
    let mut played = Vec::new();
    for who in ran {
        // A token may be fetched by the one process, and the request sent by the other.
        let mut calls = seen.remove(&u64::from(who.pid)).unwrap_or_default();
        if who.sender != who.pid {
            calls.extend(seen.remove(&u64::from(who.sender)).unwrap_or_default());
        }
        check(args, &who, &calls, expected);
        played.push((who, calls));
    }
    assert!(
        seen.is_empty(),
        "{args:?}: calls of processes that made none: {seen:#?}"
    );
    played
}

fn check(args: &[&str], who: &Who, calls: &[Value], expected: &[Call]) {
    let right = calls.len() == expected.len()
        && calls
            .iter()
            .zip(expected)
            .all(|(seen, expected)| expected.matches(seen));
    assert!(
        right,
        "{args:?} by {who:?}\nexpected {expected:#?}\nbut saw {calls:#?}"
    );
    for call in calls {
        assert_eq!(call["process.executable.name"], "wire-client", "{call}");
        assert_eq!(call["process.user.id"], 0, "{call}");
        let args = call["process.command_args"].to_string();
        assert!(!args.contains("AQAE"), "a token is shown: {args}");
    }
}
