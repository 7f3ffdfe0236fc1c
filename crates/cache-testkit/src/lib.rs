//! Real servers, a manual clock and faults, for tests; never published.
//!
//! - [`RedisServer`]: a real `redis-server` or `valkey-server` on a free loopback port, with restarts, kills and pauses.
//! - [`RedisReplicated`], [`RedisSentinels`], [`RedisCluster`]: several of them, with failovers and moving slots.
//! - [`PostgresServer`]: a real `postgres` on a free loopback port, with kills and restarts.
//! - [`Browser`]: a headless Chromium with one page, for what a node shows to people.
//! - [`FaultProxy`]: a TCP proxy that passes, swallows, delays, stalls, resets or leads elsewhere.
//! - [`ManualClock`]: time that moves when the test says so. [`JumpingClock`]: real time that jumps when the test says so.
//! - [`pause`], [`resume`]: a child process stands still and goes on.
//! - [`event`]: an event that invalidates something.
//! - [`FaultyTransport`], [`FaultyStore`]: decorators that lose, repeat, reorder, hold back and refuse.

mod browser;
mod certificates;
mod event;
mod fault_proxy;
mod faulty_store;
mod faulty_transport;
mod jumping_clock;
mod launched;
mod manual_clock;
mod postgres_server;
mod process;
mod redis_cluster;
mod redis_replicated;
mod redis_sentinels;
mod redis_server;
mod resp;
mod wait;

pub use browser::Browser;
pub use certificates::{certificates, certificates_for};
pub use event::event;
pub use fault_proxy::{Fault, FaultProxy};
pub use faulty_store::FaultyStore;
pub use faulty_transport::FaultyTransport;
pub use jumping_clock::JumpingClock;
pub use manual_clock::ManualClock;
pub use postgres_server::PostgresServer;
pub use process::{pause, resume, this_program};
pub use redis_cluster::RedisCluster;
pub use redis_replicated::RedisReplicated;
pub use redis_sentinels::{RedisSentinels, Shard};
pub use redis_server::{RedisServer, RedisServerOptions};
pub use resp::Reply;
