//! Proof that calls are captured: imdsmon makes some of its own and compares what it captured.
//!
//! [`doctor`] does it once, for `imdsmon doctor`; [`canary`] repeats it while the service runs.

pub mod canary;
pub mod doctor;
pub mod doctor_filter;
