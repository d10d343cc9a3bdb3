//! One call, rendered as a line of text or of JSON.

pub mod json;
pub mod text;
