//! Proof that capture works: imdsmon makes calls of its own and compares what it captured.
//!
//! [`probe`] makes the calls, inside the IMDS simulator, and compares. [`doctor`] runs it once, in
//! processes of its own, for `imdsmon doctor`; [`canary`] repeats it in a thread of the service.
//! [`doctor_filter`] keeps the former out of the latter's counts.

pub mod canary;
pub mod doctor;
pub mod doctor_filter;
pub mod probe;
