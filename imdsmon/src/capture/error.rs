//! Why nothing could be attached: each error is one sentence that names the remedy.

use std::{error::Error, io};

use super::cgroup::CgroupError;

/// Why nothing could be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Capabilities that are missing; empty if there are all, but of another user namespace.
    #[error("no permission to watch: {}; run as root, or grant CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON", lacking(.0))]
    Permission(Vec<&'static str>),
    /// Out of descriptors.
    #[error("too many open files; allow at least 64, for example with `ulimit -n 1024`")]
    Descriptors,
    /// The kernel is too old.
    #[error("this kernel ({0}) is too old: imdsmon needs Linux 5.10 or later")]
    Kernel(String),
    /// No cgroup v2 root.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The kernel refuses a program.
    #[error(
        "the kernel refuses the program `{0}` ({1}); IMDSMON_LOG=debug shows the verifier's words, \
         which belong into a bug report"
    )]
    Program(&'static str, io::Error),
    /// The object cannot be loaded.
    #[error("cannot load the BPF object: {0}")]
    Object(String),
    /// The ring buffer cannot be used.
    #[error("cannot read the ring buffer: {0}")]
    Ring(io::Error),
}

fn lacking(missing: &[&str]) -> String {
    if missing.is_empty() {
        "this is root in a user namespace of its own, not on the host".into()
    } else {
        format!("{} missing", missing.join(", "))
    }
}

/// Bits of `CAP_SYS_ADMIN`, which stands for the others, and of what is needed (capability.h).
const SYS_ADMIN: u32 = 21;
const NEEDED: [(u32, &str); 3] = [(39, "CAP_BPF"), (12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON")];

/// Whether a set of capabilities, as `/proc/PID/status` shows it, has this one.
#[must_use]
pub fn has_capability(set: u64, bit: u32) -> bool {
    let has = |bit: u32| set & (1 << bit) != 0;
    has(bit) || (has(SYS_ADMIN) && NEEDED.iter().any(|(needed, _)| *needed == bit))
}

/// Says which capability is missing before the kernel says less clearly that one is.
pub fn check_capabilities() -> Result<(), AttachError> {
    let Ok(status) = procfs::process::Process::myself().and_then(|me| me.status()) else {
        return Ok(()); // without /proc the kernel will have to say it
    };
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(bit, _)| !has_capability(status.capeff, *bit))
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(AttachError::Permission(missing))
    }
}

/// What the operating system said, if it is behind the error.
fn os_error(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(code) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
        {
            return Some(code);
        }
        cause = error.source();
    }
    None
}

fn known(error: &(dyn Error + 'static)) -> Option<AttachError> {
    match os_error(error)? {
        libc::EPERM | libc::EACCES => Some(AttachError::Permission(Vec::new())),
        libc::EMFILE | libc::ENFILE => Some(AttachError::Descriptors),
        _ => None,
    }
}

/// The object, or one of its maps, was refused.
pub fn object(error: &(dyn Error + 'static)) -> AttachError {
    known(error).unwrap_or_else(|| AttachError::Object(error.to_string()))
}

/// A program was refused. The verifier's words may be thousands of lines.
pub fn program(name: &'static str, error: &(dyn Error + 'static)) -> AttachError {
    tracing::debug!(program = name, %error, "refused");
    known(error).unwrap_or_else(|| {
        let code = os_error(error).map_or_else(
            || io::Error::other(error.to_string()),
            io::Error::from_raw_os_error,
        );
        AttachError::Program(name, code)
    })
}

impl From<io::Error> for AttachError {
    fn from(error: io::Error) -> Self {
        known(&error).unwrap_or(Self::Ring(error))
    }
}
