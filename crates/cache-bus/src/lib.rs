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
//! Each guard of the protocol can be taken out, to see that a test notices (`cargo xtask mutations`):
//!
//! | name | what is missing |
//! |---|---|
//! | `accept_old_epoch` | answers of an older epoch are ignored |
//! | `advance_over_gap` | a hint ahead of the cursor does not move it |
//! | `ahead_survives_flush` | a flush forgets what was applied ahead |
//! | `backlog_conflates_all` | an event that each is told of waits for itself |
//! | `backlog_conflates_epochs` | events of one epoch alone stand for each other |
//! | `backlog_critical_waits` | critical events go first |
//! | `backlog_drop_unasked` | the log is asked for what was dropped |
//! | `backlog_gap_unasked` | and for what is missing between hints that wait |
//! | `backlog_keeps_older` | the last event of a key stands for the others |
//! | `backlog_unbounded` | so many hints wait at most |
//! | `entries_unchecked` | the entries of an answer must follow each other |
//! | `epoch_hints_unlimited` | hints of another epoch cause one sync an interval |
//! | `epoch_over_by_number` | a token of an epoch with a lesser number waits for a sync |
//! | `epoch_without_flush` | a new epoch flushes |
//! | `fresh_at_receive` | freshness is the instant at which the sync was sent |
//! | `fresh_below_head` | freshness waits for the head that the answer named |
//! | `gap_without_flush` | a gap flushes |
//! | `unreadable_skipped` | a log entry that cannot be read flushes |
//! | `unreadable_without_groups` | and the group stamps are fetched before anything is fresh |
//! | `update_behind_applied` | what a hint brought is not taken after something later was applied |
//! | `update_behind_own` | an own write counts as applied |
//! | `wrote_jumps` | an own write moves the cursor by one step only |

#[macro_use]
mod mutation;

mod bus;
mod config;
pub mod contract;
mod offset;
mod protocol;
mod receiver;
mod roster;
mod transport;
mod view;

pub use bus::{Bus, BusHealth, PartitionHealth};
pub use config::{BusConfig, BusConfigError};
pub use protocol::{Action, Answer, Cargo, Missing, Protocol, SyncOrder, Told};
pub use receiver::{FlushCause, Receiver, Turn};
pub use roster::Roster;
pub use transport::{
    Description, GroupStamp, Hint, HintStream, LogEntry, Missed, ROSTER_ROWS_MAX, ROSTER_TTL, RosterRow,
    SyncAnswer, Transport, TransportError,
};
pub use view::{Counters, Standing, State, View};
