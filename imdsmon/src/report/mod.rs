//! For people.

pub mod escape;
pub mod line;
pub mod summary;
