//! The binary of a node.
fn main() {}
