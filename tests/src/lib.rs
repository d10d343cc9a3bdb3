//! What the end-to-end tests share: a stage with the simulated IMDS, the real monitor beside it,
//! and stories of the form "when this client does that, these calls come out".

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "what fails here fails a test"
)]

pub mod browser;
pub mod cgroup;
pub mod contract;
pub mod neighbour;
pub mod prometheus;
pub mod report;
pub mod service;
pub mod stage;
pub mod story;
pub mod time;
pub mod verdict;
pub mod watch;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

pub use cgroup::Cgroup;
pub use story::{Call, Scene, Who, optional, play, send};
pub use verdict::Recorded;
pub use watch::Watch;

/// A program of this workspace, as `cargo xtask test` built it.
///
/// # Panics
///
/// If it is not there.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let directory = std::env::var_os("IMDSMON_TEST_BIN_DIR").map_or_else(
        || {
            // target/PROFILE/deps/TEST stands beside target/PROFILE/imdsmon.
            let test = std::env::current_exe().unwrap_or_default();
            test.ancestors()
                .nth(2)
                .map(PathBuf::from)
                .unwrap_or_default()
        },
        PathBuf::from,
    );
    let program = directory.join(name);
    assert!(
        program.exists(),
        "{} is not built: run the tests with `cargo xtask test`",
        program.display()
    );
    program
}

/// The directory of an SDK that `cargo xtask test` installed; `None`, with a message, if it could not.
#[must_use]
pub fn sdk(name: &str) -> Option<PathBuf> {
    let directory = std::env::var_os("IMDSMON_TEST_CLIENTS_DIR").map_or_else(
        || {
            // target/PROFILE/deps/TEST stands two above target/clients.
            let test = std::env::current_exe().unwrap_or_default();
            test.ancestors()
                .nth(3)
                .map(|target| target.join("clients"))
                .unwrap_or_default()
        },
        PathBuf::from,
    );
    let sdk = directory.join(name);
    if sdk.is_dir() {
        return Some(sdk);
    }
    eprintln!("SKIPPED: {name} is not installed: run the tests with `cargo xtask test`");
    None
}

/// A copy of `wire-client` that every user can run, under a name that no other client has.
///
/// # Panics
///
/// If it cannot be made.
#[must_use]
pub fn own_client(name: &str) -> OwnClient {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join(name);
    fs::copy(program("wire-client"), &path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    OwnClient {
        path,
        _directory: directory,
    }
}

/// See [`own_client`]; gone when dropped.
#[derive(Debug)]
pub struct OwnClient {
    /// Where it is.
    pub path: PathBuf,
    _directory: tempfile::TempDir,
}

/// How often each story is played; `cargo xtask test --repeat N` sets it.
#[must_use]
pub fn repetitions() -> usize {
    let wanted = std::env::var("IMDSMON_TEST_REPEAT").ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// Why the end-to-end tests cannot run here, if so. Prints it, so that silence is not taken for
/// success.
#[must_use]
pub fn skipped() -> bool {
    // SAFETY: takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("SKIPPED: end-to-end tests need root");
        return true;
    }
    false
}
