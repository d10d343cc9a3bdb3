//! The migration report in every format, and findings as lines.

pub mod build;
pub mod cloudwatch;
pub mod csv;
mod field;
pub(crate) mod format;
pub mod html;
pub mod json;
pub(crate) mod labels;
pub mod markdown;
pub mod model;
pub(crate) mod next_steps;
pub mod text;
mod view;
