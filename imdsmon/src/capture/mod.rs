//! Captures IMDS traffic in the kernel, or replays a recording of it, as a stream of typed events.
//!
//! [`source`] attaches the programs and turns ring-buffer records into
//! [`Event`](crate::event::Event)s; [`recording`] writes and reads them. Token values are blanked
//! here, before any other module gets the bytes. [`crate::http`] parses them.

mod attach;
mod btf;
pub mod cgroup;
mod connections;
mod error;
mod record;
pub(crate) mod recording;
pub(crate) mod redact;
pub(crate) mod socket_owners;
pub(crate) mod source;

pub(crate) use attach::{MAX_RING_BYTES, MIN_RING_BYTES, Options, Snapshot, check_kernel};
pub(crate) use btf::offsets;
pub(crate) use connections::split_arguments;
pub(crate) use error::AttachError;
