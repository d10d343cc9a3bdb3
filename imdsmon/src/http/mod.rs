//! From bytes to calls.

pub mod call;
