//! Untrusted text, made fit for a name or a terminal.

pub mod clip;
pub mod escape;
