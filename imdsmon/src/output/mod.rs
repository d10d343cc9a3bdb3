//! One call, rendered as a line of text or of JSON.

pub(crate) mod json;
pub(crate) mod text;
