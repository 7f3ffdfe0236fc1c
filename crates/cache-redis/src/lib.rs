//! Redis as the shared tier ([`RedisStore`]) and as the carrier of invalidations ([`RedisTransport`]).
//!
//! Every write is one Lua script: value, version, log entry and hint in one atomic step, told rule by rule in the files
//! under `src/lua/`. A connection is used only after it has proven that the deployment in Redis is ours and has learnt
//! the epoch. Redis 7.0 or later, or Valkey.
//!
//! | topology | partitions | which master has one | what follows changes |
//! |---|---|---|---|
//! | one server | 1 | the server | – |
//! | Sentinel, one or several masters | 1 or 32 | rendezvous hashing over their names | Sentinels, asked and listened to |
//! | Cluster | 32 | its slot | `MOVED`, and the table of nodes |
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use cache_redis::{RedisConfig, RedisStore, RedisTransport};
//!
//! let config = RedisConfig::from_url("redis://127.0.0.1:6379")?;
//! let store = RedisStore::new(config.clone())?; // connects with the first call
//! let transport = RedisTransport::new(config)?;
//! store.ready().await?; // or now, to learn at once what is wrong
//! # Ok(())
//! # }
//! ```
//!
//! # Rights
//!
//! The least that an ACL user needs, for prefix `ec` and database 0 (add `&cache_invalidation_events` where the public
//! channel is on, and `+select` with another database):
//!
//! ```text
//! ACL SETUSER edge on >secret resetkeys resetchannels ~ec:* &ec:0:* -@all
//!     +evalsha +script|load +mget +get +getrange +set +del +unlink +pttl
//!     +hget +hmget +hset +hdel +hexists +hgetall +xadd +xlen +xrange +xrevrange +xtrim
//!     +xinfo|stream +memory|usage
//!     +publish +subscribe +ping +info +time +scan +dbsize +wait
//! ```
//!
//! In a Cluster also these, on every node:
//!
//! ```text
//! ACL SETUSER edge +spublish +ssubscribe +asking +readonly +cluster|nodes +cluster|info
//! ```
//!
//! `scan` shows the names of all keys of the database; without it only pattern invalidation is refused. `dbsize` is for
//! statistics alone, `wait` for writes that ask for replicas, `cluster|info` for health. [`RedisStore::fail_over`] needs
//! `+cluster|failover` in a Cluster.
//!
//! Sentinels have users of their own. The least there:
//!
//! ```text
//! ACL SETUSER edge on >secret resetchannels &+switch-master -@all
//!     +auth +hello +ping +subscribe +sentinel|get-master-addr-by-name +sentinel|replicas
//! ```
//!
//! and `+sentinel|failover` for requested failovers.

mod apart;
mod config;
mod dial;
mod fault;
mod fleet;
mod health;
mod info;
mod inspect;
mod lanes;
mod layout;
mod link;
mod listening;
mod nodes;
mod placement;
mod replicas;
mod reply;
mod scripts;
mod sentinels;
mod slots;
mod store;
mod subscription;
mod sweep;
mod tags;
mod tap;
mod tls;
mod topology;
mod transport;
mod watch;
mod witness;

pub use config::{ConfigError, PUBLIC_CHANNEL, Pem, RedisConfig, Secret, TlsConfig};
pub use health::{ClusterHealth, MasterHealth, TopologyHealth};
pub use info::{RedisInfo, RedisStats};
pub use inspect::{Asked, Need, ServerFacts};
pub use store::RedisStore;
pub use topology::{Endpoint, SentinelConfig, Topology};
pub use transport::RedisTransport;
