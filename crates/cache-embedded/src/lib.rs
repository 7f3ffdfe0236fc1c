//! One in-process server that is Store and Transport at once: the default without Redis.
//!
//! It keeps the same contracts as Redis does: epochs, a bounded log, leases, version floors and stamps; every step is
//! whole under the lock of its partition. It runs no task of its own: what expires leaves a little with every step.
//!
//! ```
//! use std::sync::Arc;
//! use cache_embedded::{EmbeddedConfig, EmbeddedServer};
//! # struct Stopped;
//! # impl cache_events::Clock for Stopped {
//! #     fn now(&self) -> u64 { 1 }
//! #     fn wall(&self) -> u64 { 1_700_000_000_000 }
//! # }
//! # let clock = Stopped;
//! let server = EmbeddedServer::new(EmbeddedConfig { partitions: 4, ..Default::default() }, Arc::new(clock));
//! let store: Arc<dyn cache_l2::Store> = Arc::new(server.clone());
//! let transport: Arc<dyn cache_bus::Transport> = Arc::new(server);
//! assert_eq!(store.partitions(), transport.partitions());
//! ```

#[macro_use]
mod mutation;

mod config;
mod expiring;
mod groups;
mod log;
mod outlets;
mod server;
mod shard;
mod stamps;
mod transport;

pub use config::EmbeddedConfig;
pub use server::{EmbeddedServer, PartitionState};
