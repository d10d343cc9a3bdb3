//! From the kernel, or from a recording of it, to typed events.
//!
//! [`live`] loads and attaches the programs and turns the ring buffer into [`event::Event`]s;
//! [`recording`] writes them down and reads them back. Token values are blanked here, before
//! anything else sees the bytes. What the bytes mean is the business of [`crate::http`].

mod attach;
mod btf;
pub mod cgroup;
mod connections;
mod error;
mod record;
pub mod recording;
pub mod redact;
pub mod socket_owners;
pub mod source;

pub use attach::{MAX_RING_BYTES, MIN_RING_BYTES, Options, Snapshot, check_kernel};
pub(crate) use btf::offsets;
pub use connections::split_arguments;
pub use error::AttachError;
