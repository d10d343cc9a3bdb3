//! Errors that prevent capture. Each is one sentence with the fix.

use std::{error::Error, io};

use rustix::io::Errno;

use super::cgroup::CgroupError;
use crate::capabilities::{self, Capability};

#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// Missing required capabilities; empty if the kernel rejected the programs for another reason.
    #[error("cannot attach BPF programs: {}", reason(.0))]
    Permission(Vec<String>),
    #[error("too many open files; allow at least 64, for example with `ulimit -n 1024`")]
    Descriptors,
    /// Release of a kernel before 5.10.
    #[error("kernel {0} is too old; imdsmon requires Linux 5.10 or later")]
    Kernel(String),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(
        "the kernel rejected BPF program `{0}`: {1}; rerun with IMDSMON_LOG=debug and attach the \
         verifier log to a bug report"
    )]
    Program(&'static str, io::Error),
    /// The kernel rejected the object or one of its maps.
    #[error("cannot load the BPF object: {0}")]
    Object(String),
    #[error("cannot read the ring buffer: {0}")]
    Ring(io::Error),
}

fn reason(missing: &[String]) -> String {
    if missing.is_empty() {
        "the capabilities are those of a user namespace, not of the host; run as root on the host"
            .into()
    } else {
        format!("{} missing; run as root, or grant them", missing.join(", "))
    }
}

/// Names missing capabilities; the kernel's own error does not.
pub(crate) fn check_capabilities() -> Result<(), AttachError> {
    let Ok(missing) = capabilities::missing() else {
        return Ok(()); // The kernel then rejects the first program.
    };
    let missing: Vec<_> = missing
        .filter(|capability| capability.is_required)
        .map(Capability::name)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(AttachError::Permission(missing))
    }
}

/// The `errno` among the causes, if any.
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
    match Errno::from_raw_os_error(os_error(error)?) {
        Errno::PERM | Errno::ACCESS => Some(AttachError::Permission(Vec::new())),
        Errno::MFILE | Errno::NFILE => Some(AttachError::Descriptors),
        _ => None,
    }
}

pub(crate) fn object(error: &(dyn Error + 'static)) -> AttachError {
    known(error).unwrap_or_else(|| AttachError::Object(error.to_string()))
}

/// The verifier log can have thousands of lines: it goes to the debug log only.
pub(crate) fn program(name: &'static str, error: &(dyn Error + 'static)) -> AttachError {
    tracing::debug!(program = name, %error, "the kernel rejected a BPF program");
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
