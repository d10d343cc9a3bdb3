//! For people: findings as lines, and the migration report in every format.

pub mod build;
pub mod cloudwatch;
pub mod csv;
pub mod escape;
pub mod figures;
pub mod html;
pub mod instance;
pub mod json;
pub mod line;
pub mod markdown;
pub mod model;
pub mod next_steps;
pub mod text;
pub mod words;
