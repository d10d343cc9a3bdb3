//! Verifies capture end to end: makes known calls and compares them with what was captured.
//!
//! [`probe`] makes the calls, inside the IMDS simulator, and compares. `imdsmon doctor` runs it
//! once ([`doctor`]), the service repeatedly ([`canary`]). [`doctor_filter`] keeps the calls of
//! `imdsmon doctor` out of the service's counts.

pub(crate) mod canary;
pub(crate) mod doctor;
pub(crate) mod doctor_filter;
pub(crate) mod probe;
