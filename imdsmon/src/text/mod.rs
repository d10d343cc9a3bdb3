//! Untrusted text, made fit for a name or a terminal.

pub(crate) mod clip;
pub mod escape;
pub(crate) mod shell;
