//! The tier against other caches of the registry: what both `bench l1` and the program that counts its bytes
//! need.

mod caches;
mod contest;
mod fences;
mod report;
mod rows;

pub use caches::{Cache, Key, NOW, Ours, Value, value};
pub use contest::{Contestant, FALLS_BEHIND, Lane, Lap, Pace, Record, contest, contestants};
pub use fences::{FENCE_NS_MAX, fences};
pub use report::{Figure, Outcome, json, markdown};
pub use rows::{NAMES, rows, zipf};
