//! The `imdsmon` command.
fn main() {}
