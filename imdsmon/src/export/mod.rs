//! For machines.

pub mod emf;
pub mod json;
pub mod lines;
pub mod log;
pub mod metrics;
pub mod server;
pub mod textfile;
