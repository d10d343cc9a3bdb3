//! For people.

pub mod escape;
pub mod line;
pub mod model;
pub mod summary;
