//! For people.

pub mod csv;
pub mod cloudwatch;
pub mod escape;
pub mod html;
pub mod json;
pub mod instance;
pub mod line;
pub mod markdown;
pub mod model;
pub mod next_steps;
pub mod summary;
pub mod text;
pub mod words;
