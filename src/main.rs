//! The `tradelane` program.

fn main() {}
