//! Every task of those who build imdsmon.
fn main() {}
