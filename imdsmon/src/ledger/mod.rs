//! Counts and evidence by client: what a verdict is built on, and what a store keeps.
//!
//! Bounded in every direction, and additive: what was counted in two runs can be merged.

pub mod coverage;
pub mod entry;

pub use coverage::Coverage;
pub use entry::{Answer, Cell, Entry, Evidence, How, Sample};
