//! For machines.
//!
//! [`log`] takes findings as they come. [`metrics`] and [`emf`] take what the ledger counted since
//! the last time, the same deltas as the store; neither has a clock or wakes up by itself.

pub mod emf;
pub mod lines;
pub mod log;
pub mod metrics;
pub mod server;
pub mod textfile;
