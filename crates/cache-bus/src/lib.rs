//! The invalidation bus: the port [`Transport`] and the coherence protocol as a pure state machine.

mod transport;

pub use transport::{GroupStamp, Hint, HintStream, LogEntry, Missed, SyncAnswer, Transport, TransportError};
