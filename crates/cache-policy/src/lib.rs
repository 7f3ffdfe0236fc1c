//! Eviction policies: which entry leaves.
//!
//! A policy decides, the store acts. A policy sees slots (small integers that the store gives out and takes
//! back), 64-bit hashes, weights and an opaque deadline. It never sees a key, a value, a clock or a lock. The
//! store calls
//!
//! - [`Policy::touched`] for a hit, through `&self` under a shared lock: atomics only,
//! - everything else through `&mut self` under its exclusive lock.
//!
//! What is here: eight policies, each a file with its paper cited; [`PolicyKind`] to choose by name; [`Family`],
//! which makes one policy for each shard of a cache; and [`contract`], which any other implementation runs in
//! its own tests.
//!
//! ```
//! use cache_policy::contract::Held;
//! use cache_policy::{Newcomer, Policy, Sieve};
//!
//! // What a store keeps for a policy.
//! let mut held = Held::new(|slot| u64::from(slot));
//! let mut policy = Sieve::new(3);
//! for slot in 0..3 {
//!     held.insert(&mut policy, slot, Newcomer { hash: u64::from(slot), weight: 1, deadline: u64::MAX });
//! }
//! held.touch(&policy, 0);
//! // 0 is the oldest but was hit, so it gets its second chance.
//! assert_eq!(policy.evict(&mut held), Some(1));
//! ```

mod auto;
pub mod contract;
mod family;
mod fifo;
mod ghost;
mod hit_buffer;
mod kind;
mod lfu;
mod list;
mod lru;
mod oldest_expiry;
mod policy;
mod s3_fifo;
mod sieve;
mod sketch;
mod w_tiny_lfu;
mod weight;

pub use auto::{Auto, AutoFamily};
pub use family::{BoxedFamily, Family, boxed};
pub use fifo::Fifo;
pub use kind::{PolicyKind, UnknownPolicy, build};
pub use lfu::Lfu;
pub use lru::Lru;
pub use oldest_expiry::OldestExpiry;
pub use policy::{MARK_MAX, Newcomer, Policy, Residents, Touch};
pub use s3_fifo::S3Fifo;
pub use sieve::Sieve;
pub use w_tiny_lfu::WTinyLfu;
