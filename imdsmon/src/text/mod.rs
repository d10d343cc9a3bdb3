//! Text for names, terminals and shells, and the form of system errors.

pub(crate) mod clip;
pub mod escape;
pub(crate) mod io_error;
pub(crate) mod shell;
