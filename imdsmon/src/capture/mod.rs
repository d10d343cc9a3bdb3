//! From the kernel, or from a recording of it, to typed events.
//!
//! [`live`] loads and attaches the programs and turns the ring buffer into [`event::Event`]s;
//! [`recording`] writes them down and reads them back. Token values are blanked here, before
//! anything else sees the bytes. What the bytes mean is the business of [`crate::http`].

mod attach;
mod btf;
pub mod bytes;
pub mod cgroup;
mod error;
pub mod event;
pub mod holders;
pub mod live;
mod record;
pub mod recording;
pub mod redact;
mod session;

pub use attach::{MAX_RING_BYTES, MIN_RING_BYTES, Options, Snapshot, check_kernel};
pub use btf::{BtfError, offsets};
pub use error::{AttachError, has_capability};
pub use session::split_arguments;
