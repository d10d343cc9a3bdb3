//! Given this client, expect this verdict in the report.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use imdsmon::sandbox::ImdsConfig;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Scene, program, skipped, watch::lacks};

/// A stage whose calls are recorded, to make a report of.
///
/// The hooks see the whole host, and the report knows clients, not networks. So what runs here
/// carries a name that no other client has.
pub struct Recorded {
    /// The stage.
    pub scene: Scene,
    directory: TempDir,
    tag: &'static str,
}

/// Version and status of each call, in order.
pub type Calls = Vec<(String, Option<u64>)>;

impl Recorded {
    /// Sets the stage and starts the monitor; `None` where that cannot be, or where one of these
    /// programs is missing; a message says so.
    ///
    /// # Panics
    ///
    /// If the stage is not to be had.
    #[must_use]
    pub fn begin(config: ImdsConfig, programs: &[&str]) -> Option<Self> {
        if skipped() {
            return None;
        }
        if lacks(programs) {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut scene = Scene::without_monitor(config);
        let recording = directory.path().join(RECORDING);
        scene.start_monitor(&["--buffer", "16M", "--record", recording.to_str().unwrap()]);
        // No number and no random letters: names that vary from run to run make no client.
        let tag = TAGS[NEXT.fetch_add(1, Ordering::Relaxed)];
        Some(Self {
            scene,
            directory,
            tag,
        })
    }

    /// A directory that is gone afterwards.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A copy of a program under a name of its own.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    pub fn copy(&self, of: &Path) -> PathBuf {
        let name = of.file_stem().unwrap().to_string_lossy();
        let mut copy = self.directory().join(format!("{name}-{}", self.tag));
        if let Some(extension) = of.extension() {
            copy.set_extension(extension);
        }
        fs::copy(of, &copy).unwrap();
        fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
        copy
    }

    /// Runs a client to its end, which must be a good one if it `succeeds`.
    ///
    /// # Panics
    ///
    /// If the end is another.
    pub fn run(&self, command: &mut Command, succeeds: bool) {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), succeeds, "{command:?}: {err}");
    }

    /// Ends the monitor and gives the calls from this stage.
    ///
    /// # Panics
    ///
    /// If it did not end well.
    #[must_use]
    pub fn calls(&mut self) -> Calls {
        let mut calls = self.scene.finish();
        calls.retain(|line| line["event.name"] == "imds.call");
        let call = |call: &Value| {
            let version = call["imds.version"].as_str().unwrap_or("-").to_owned();
            (version, call["http.response.status_code"].as_u64())
        };
        calls.iter().map(call).collect()
    }

    /// What the report says of the one client that there was.
    ///
    /// # Panics
    ///
    /// If there is no report, or another number of such clients in it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let output = Command::new(program("imdsmon"))
            .args(["report", "--format", "json", "--from"])
            .arg(self.directory().join(RECORDING))
            .output()
            .unwrap();
        // The exit status is about the whole host.
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("no report, {error}: {output:?}"));
        let mut clients = report["clients"].as_array().cloned().unwrap_or_default();
        clients.retain(|client| client["client"]["program"].to_string().contains(self.tag));
        assert_eq!(clients.len(), 1, "clients named {}: {report:#}", self.tag);
        Verdict(clients.remove(0))
    }
}

const RECORDING: &str = "recording";

/// Which of the tags comes next.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// One for each stage of a run of tests.
const TAGS: [&str; 32] = [
    "amber", "birch", "cedar", "daisy", "elder", "fern", "grape", "hazel", "iris", "jasmine",
    "kiwi", "lemon", "maple", "nutmeg", "olive", "peach", "quince", "rose", "sage", "thyme",
    "umber", "violet", "willow", "yarrow", "zinnia", "acorn", "basil", "clover", "dill", "ebony",
    "flax", "ginger",
];

/// What the report says of a client.
#[derive(Debug)]
pub struct Verdict(Value);

#[expect(
    clippy::must_use_candidate,
    reason = "they assert; what they give is for more"
)]
impl Verdict {
    /// It is this one, by a rule that has a name.
    ///
    /// # Panics
    ///
    /// If not.
    pub fn is(&self, verdict: &str) -> &Self {
        assert_eq!(self.0["verdict"], verdict, "{:#}", self.0);
        let rule = self.0["rule"].as_str().unwrap_or_default();
        assert!(!rule.is_empty(), "no rule: {:#}", self.0);
        self
    }

    /// Whether a client must change before IMDSv2 is required.
    ///
    /// # Panics
    ///
    /// If the report says the opposite.
    pub fn needs_action(&self, needs: bool) -> &Self {
        assert_eq!(self.0["needs_action"], needs, "{:#}", self.0);
        self
    }

    /// The remedy names this, in words or in a command.
    ///
    /// # Panics
    ///
    /// If not.
    pub fn remedy_names(&self, words: &str) -> &Self {
        let remedy = self.0["remedy"].to_string();
        assert!(remedy.contains(words), "no {words} in {:#}", self.0);
        self
    }

    /// Whether a command of the remedy has these words.
    ///
    /// # Panics
    ///
    /// If the opposite is true.
    pub fn remedy_has_command(&self, words: &str, has: bool) -> &Self {
        let commands = self.0["remedy"]["commands"].to_string();
        assert_eq!(commands.contains(words), has, "{words} in {:#}", self.0);
        self
    }
}
