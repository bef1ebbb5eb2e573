//! The `registry-server` program.

fn main() {}
