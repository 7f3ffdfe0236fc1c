//! A node: configuration, assembly, HTTP, shutdown, and the demo.
