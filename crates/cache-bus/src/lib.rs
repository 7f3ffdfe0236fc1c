//! The invalidation bus: the port [`Transport`] and the coherence protocol as a pure state machine.
//!
//! | part | what it is |
//! |---|---|
//! | [`Transport`] | the port to what carries invalidations: lossy hints, and the log that makes up for them |
//! | [`Protocol`] | order, gaps, replay, epochs, freshness; no clock, no I/O, no lock |
//! | [`Bus`] | the async shell around it: subscription, syncs, timers |
//! | [`View`] | where each partition stands, as atomics for the hit path of the engine |
//! | [`Receiver`] | what the engine implements to keep its own tier coherent |
//!
//! Not here yet: critical events first, and conflation of bulk hints per key. Both belong between a stream and the
//! protocol (`bus/listener.rs`), where a batch is at hand.

#[macro_use]
mod mutation;

mod bus;
mod config;
mod offset;
mod protocol;
mod receiver;
mod transport;
mod view;

pub use bus::{Bus, BusHealth, PartitionHealth};
pub use config::{BusConfig, BusConfigError};
pub use protocol::{Action, Answer, Missing, Protocol, SyncOrder, Told};
pub use receiver::{FlushCause, Receiver};
pub use transport::{GroupStamp, Hint, HintStream, LogEntry, Missed, SyncAnswer, Transport, TransportError};
pub use view::{Counters, Standing, State, View};
