//! Real servers, a manual clock and faults, for tests; never published.
//!
//! - [`RedisServer`]: a real `redis-server` or `valkey-server` on a free loopback port, with restarts, kills and pauses.
//! - [`RedisReplicated`], [`RedisSentinels`], [`RedisCluster`]: several of them, with failovers and moving slots.
//! - [`FaultProxy`]: a TCP proxy that passes, swallows, delays or resets.
//! - [`ManualClock`]: time that moves when the test says so.
//! - [`FaultyTransport`], [`FaultyStore`]: decorators that lose, repeat, reorder and refuse.

mod fault_proxy;
mod faulty_store;
mod faulty_transport;
mod manual_clock;
mod redis_cluster;
mod redis_replicated;
mod redis_sentinels;
mod redis_server;
mod resp;
mod wait;

pub use fault_proxy::{Fault, FaultProxy};
pub use faulty_store::FaultyStore;
pub use faulty_transport::FaultyTransport;
pub use manual_clock::ManualClock;
pub use redis_cluster::RedisCluster;
pub use redis_replicated::RedisReplicated;
pub use redis_sentinels::{RedisSentinels, Shard};
pub use redis_server::{RedisServer, RedisServerOptions};
pub use resp::Reply;
