//! The vocabulary of edgecache and its bytes.
//!
//! Everything that two nodes must agree on lives here: what a key is and how it is spelled ([`Key`]), what an
//! invalidation covers ([`Scope`]), where in the log something happened ([`Position`]), what an event says
//! ([`CacheEvent`]) and its wire format ([`wire`]). The crate reads no clock and does no I/O; time comes in through
//! the [`Clock`] trait.
//!
//! ```
//! use cache_events::{Key, Namespace};
//!
//! let pricing = Namespace::new("gpu_pricing")?;
//! let key = Key::builder(&pricing, "H100").param("region", "us-east").param("currency", "usd").build()?;
//! assert_eq!(key.to_string(), "gpu_pricing/H100/currency=usd&region=us-east");
//! # Ok::<(), cache_events::NameError>(())
//! ```

mod clock;
mod event;
mod hash;
mod key;
mod names;
mod pattern;
mod position;
mod scope;
mod token;
pub mod wire;

pub use clock::Clock;
pub use event::{CacheEvent, EventId, EventKind, Sequenced};
pub use hash::hash64;
pub use key::{KEY_BYTES_MAX, Key, KeyBuilder, PARAMS_MAX, resource_hash};
pub use names::{NameError, Namespace, NodeId, Tag};
pub use pattern::Pattern;
pub use position::{Partition, Position, Version};
pub use scope::{Group, Scope};
pub use token::{TokenError, WriteToken};
