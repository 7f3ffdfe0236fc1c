//! Real servers, a manual clock and faults, for tests; never published.
//!
//! - [`RedisServer`]: a real `redis-server` or `valkey-server` on a free loopback port, with restarts, kills and pauses.
//! - [`FaultProxy`]: a TCP proxy that passes, swallows, delays or resets.
//! - [`ManualClock`]: time that moves when the test says so.
//! - [`FaultyTransport`], [`FaultyStore`]: decorators that lose, repeat, reorder and refuse.

mod fault_proxy;
mod faulty_store;
mod faulty_transport;
mod manual_clock;
mod redis_server;
mod resp;

pub use fault_proxy::{Fault, FaultProxy};
pub use faulty_store::FaultyStore;
pub use faulty_transport::FaultyTransport;
pub use manual_clock::ManualClock;
pub use redis_server::{RedisServer, RedisServerOptions};
pub use resp::Reply;
