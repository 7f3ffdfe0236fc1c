//! Replaying a sequence of requests against caches of several capacities, to see how often each would hit.
//!
//! Ours are the real tier with each of its policies, not models of them; peers are the real crates. What no
//! cache can beat, [`opt`], stands beside them.

mod judge;
pub mod opt;
mod ours;
mod peers;
mod replay;
mod subject;
mod svg;
mod table;
mod trace;

pub use judge::{Judged, judge};
pub use replay::{Capacity, Replay, Row, replay};
pub use subject::{Candidate, Side, Subject, Subjects};
pub use svg::draw;
pub use table::{markdown, table};
pub use trace::{Format, Trace};
