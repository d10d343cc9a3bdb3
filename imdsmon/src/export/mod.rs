//! For machines.

pub mod json;
