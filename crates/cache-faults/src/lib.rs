//! The fault matrix: whole caches over real servers, one fault a row, judged by what readers saw.
//!
//! A row starts a deployment, three nodes on it, each behind proxies of its own where that is possible, and a [storm] of
//! writers and readers over many keys. Then its fault happens, and ends. A row holds if no reader saw a value for longer
//! than the staleness bound after its successor was acknowledged, if all nodes are live again afterwards, and if everybody
//! reads the last value of every key then. [Chaos](chaos) is a storm in which a seed draws the faults. Where a storm would
//! show nothing, a row is a [scene]: a few steps in a fixed order, and what must be so after each.
//!
//! The bound of the nodes here is 1 s ([`storm::BOUND`]), so that faults outlast it soon; what a busy machine may add is
//! 100 ms. Where a build has the switch for it (see `docs/mutations.md`), the *control* of a row takes the guard out on
//! which the row stands, and then readers must see stale values: a row that cannot fail says nothing.

pub mod apart;
pub mod chaos;
pub mod deployment;
mod keys;
pub mod mutation;
pub mod report;
pub mod rows;
pub mod scene;
mod source;
pub mod storm;
