//! The service under test: `imdsmon run` as a process of its own, with a service manager that
//! listens.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::watch::signal_to;

/// How long the service may take to get ready, to answer or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `imdsmon run`.
pub struct Service {
    child: Child,
    manager: UnixDatagram,
    told: Vec<String>,
    place: PathBuf,
}

impl Service {
    /// Starts the service with its store in `place`, and waits until it says that it is ready.
    ///
    /// # Panics
    ///
    /// If it does not get there.
    #[must_use]
    pub fn start(place: &Path, args: &[&str]) -> Self {
        Self::try_start(place, args).unwrap_or_else(|said| panic!("it did not start: {said}"))
    }

    /// The same, but a service that ends instead gives what it said.
    ///
    /// # Panics
    ///
    /// If it neither starts nor ends.
    pub fn try_start(place: &Path, args: &[&str]) -> Result<Self, String> {
        let mut command = Command::new(crate::program("imdsmon"));
        command.stdin(Stdio::null());
        Self::await_ready(command, place, args)
    }

    /// Starts the service with a socket that is open already, as systemd passes one on
    /// (`sd_listen_fds(3)`).
    ///
    /// # Panics
    ///
    /// If it does not get there.
    #[must_use]
    pub fn activate(place: &Path, args: &[&str], socket: TcpListener) -> Self {
        // Only the process itself knows its id before it is the service.
        let script = r#"export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" "$@" 3<&0 </dev/null"#;
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .arg(crate::program("imdsmon"))
            .stdin(OwnedFd::from(socket));
        Self::await_ready(command, place, args)
            .unwrap_or_else(|said| panic!("it did not start: {said}"))
    }

    fn await_ready(mut command: Command, place: &Path, args: &[&str]) -> Result<Self, String> {
        let socket = place.join("notify");
        drop(fs::remove_file(&socket));
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(place.join("stderr"))
            .unwrap();
        let before = said(place).len();
        let child = command
            .args(["run", "--store"])
            .arg(place.join("store"))
            .args(args)
            .env("NOTIFY_SOCKET", &socket)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        // It holds what was passed on.
        drop(command);
        let mut service = Self {
            child,
            manager,
            told: Vec::new(),
            place: place.into(),
        };
        let until = Instant::now() + PATIENCE;
        loop {
            if service.told().iter().any(|state| state == "READY=1") {
                return Ok(service);
            }
            if service.child.try_wait().unwrap().is_some() {
                return Err(said(place).split_off(before));
            }
            assert!(Instant::now() < until, "not ready: {}", said(place));
        }
    }

    /// The states that the service manager was notified of, since the start.
    pub fn told(&mut self) -> &[String] {
        let mut buffer = [0; 4096];
        while let Ok(len) = self.manager.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            self.told.extend(text.lines().map(str::to_owned));
        }
        &self.told
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that services in this place have written to standard error.
    #[must_use]
    pub fn said(&self) -> String {
        said(&self.place)
    }

    /// Waits until the service has written something.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn says(&self, what: &str) {
        eventually(&format!("it says {what:?}"), || {
            self.said().contains(what).then_some(())
        });
    }

    /// Asks it to read its configuration again.
    pub fn reload(&self) {
        signal_to(self.pid(), "-HUP");
    }

    /// Ends it as systemd does.
    ///
    /// # Panics
    ///
    /// If it does not end.
    #[must_use]
    pub fn stop(mut self) -> ExitStatus {
        signal_to(self.pid(), "-TERM");
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "it does not stop: {}", self.said());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as no program can foresee.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

/// What `imdsmon report` says of the store in `place`, as JSON.
///
/// # Panics
///
/// If it fails.
#[must_use]
pub fn report(place: &Path, args: &[&str]) -> Value {
    try_report(place, args).unwrap_or_else(|said| panic!("no report: {said}"))
}

/// The same, or what it says instead.
///
/// # Panics
///
/// If it cannot be run.
pub fn try_report(place: &Path, args: &[&str]) -> Result<Value, String> {
    let output = Command::new(crate::program("imdsmon"))
        .args(["report", "--format", "json", "--store"])
        .arg(place.join("store"))
        .args(args)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout)
        .map_err(|_no_json| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Asks again and again until there is an answer.
///
/// # Panics
///
/// If there is none in time.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(response) = ask() {
            return response;
        }
        assert!(Instant::now() < until, "in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn said(place: &Path) -> String {
    let bytes = fs::read(place.join("stderr")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
