//! The in-process tier: concurrent, bounded, expiring, fenced.
//!
//! [`L1`] maps keys to values in this process. It is synchronous, reads no clock (`now` is an argument:
//! logical milliseconds that do not go back), hashes no key ([`Address`] brings the hashes) and knows no key
//! type.
//!
//! What it promises, beside being a bounded map:
//!
//! - **An insert loses to every invalidation since its [`Snapshot`]**, so a slow load never puts back what an
//!   invalidation removed.
//! - **A flush is O(1), and so is the stamp of a group**: [`Fence`] keeps both for all tiers of a node, and a
//!   hit compares one number.
//! - **Its bounds hold at every moment**, in entries and in bytes with overhead, over all shards together.
//! - **Nothing is dropped under a lock**: what leaves is handed out as [`Left`], with its cause.
//! - **Expired entries are never served**, and found by a timing wheel instead of a scan.
//! - **A hit** takes one lock shared and allocates nothing. What it reads of an entry lies together, apart from
//!   what only changes need.
//!
//! Which entry leaves for room is decided by a [`cache_policy::Policy`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use cache_l1::{Address, Config, Fence, L1, Meta, Origin};
//! use cache_policy::{PolicyKind, build};
//!
//! let fence = Arc::new(Fence::new(1));
//! let config = Config { entries_max: 1_000, bytes_max: 1 << 20, shards: None, own_group: 1 };
//! let l1: L1<Arc<str>, Arc<Vec<u8>>> = L1::new(config, fence, |hint| build(PolicyKind::Sieve, hint));
//!
//! // The caller hashes; both numbers stand for well-mixed 64-bit hashes.
//! let at = Address::variant(0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0);
//! let key: Arc<str> = "gpu-1?region=us-east".into();
//! let now = 5_000;
//!
//! // A load: snapshot first, then the I/O, then the insert.
//! let snapshot = l1.snapshot(&at);
//! let origin = Origin { epoch: 7, seq: 41 };
//! let meta = Meta { origin, hard_expiry: now + 30_000, weight: 120, ..Meta::default() };
//! let inserted = l1.insert(key.clone(), Arc::new(vec![1, 2, 3]), &at, meta.clone(), &snapshot, now);
//! assert!(inserted.stored());
//! assert_eq!(*l1.get("gpu-1?region=us-east", &at, now).expect("a hit").value, [1, 2, 3]);
//!
//! // An event newer than the value drops it, and whatever was being loaded meanwhile is refused.
//! assert!(l1.invalidate_key("gpu-1?region=us-east", &at, Origin { epoch: 7, seq: 42 }).is_some());
//! assert!(!l1.insert(key, Arc::new(vec![1, 2, 3]), &at, meta, &snapshot, now).stored());
//! assert!(l1.get("gpu-1?region=us-east", &at, now).is_none());
//! ```

#[macro_use]
mod mutation;

#[cfg(not(edgecache_shuttle))]
mod atomic;
mod budget;
mod cache;
mod curve;
mod entry;
mod fence;
#[cfg(not(edgecache_shuttle))]
mod gate;
#[cfg(edgecache_shuttle)]
#[path = "gate_explored.rs"]
mod gate;
mod index;
mod inspect;
mod invalidate;
mod lend;
mod listen;
mod pool;
mod pressure;
mod room;
mod shed;
mod shelf;
mod sliding;
mod slots;
mod sync;
mod table;
mod tally;
mod times;
#[cfg(not(edgecache_shuttle))]
mod turns;
mod watch;
mod wheel;
mod words;

pub use cache::{Config, L1};
pub use cache_policy::{BoxedFamily, Family, Policy};
pub use curve::{Curve, KEYS_WATCHED};
pub use fence::{Fence, GROUPS_MAX};
pub use inspect::Standing;
pub use pool::{Borrower, Pool};
pub use pressure::{MemoryPressure, MemoryReading, PressureConfig};
pub use words::{
    Address, Cause, Departed, Facts, Groups, Hit, Inserted, Left, Meta, Origin, Refusal, Snapshot, Stats,
};
