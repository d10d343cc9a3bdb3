//! From the kernel, or from a recording of it, to typed events.

pub mod bytes;
pub mod event;
