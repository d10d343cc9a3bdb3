//! Proof that capture works: imdsmon makes calls of its own and compares what it captured.
//!
//! [`probe`] makes the calls, inside the IMDS simulator, and compares. [`doctor`] runs it once, in
//! processes of its own, for `imdsmon doctor`; [`canary`] repeats it in a thread of the service.
//! [`doctor_filter`] keeps the former out of the latter's counts.

pub(crate) mod canary;
pub(crate) mod doctor;
pub(crate) mod doctor_filter;
pub(crate) mod probe;
