//! The vocabulary and its bytes, from outside: what must never change, what always holds, what hostile bytes do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod golden;
mod hostile_bytes;
mod json_form;
mod keys;
mod limits;
mod patterns;
mod samples;
mod tokens;
