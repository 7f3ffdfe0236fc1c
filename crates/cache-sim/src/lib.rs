//! Many nodes, one thread, one seed.
//!
//! Two tools that find out whether the coherence protocol holds, and whether each of its guards is needed:
//!
//! - **Schedules** ([`run`]): two to five real nodes (`cache-tiered` over `cache-bus` and `cache-l1`, as in production) on a
//!   modelled server, network and clocks. Messages are lost, late, repeated and reordered; nodes are cut off, stand still
//!   and die; the server is stopped, restarted, emptied, rolled back and replaced. All of it follows from one seed, to the
//!   last bit, so a violation is replayed by its number.
//! - **The model** ([`model`]): the protocol with everything else left out, explored in every order of steps.
//!
//! `docs/simulation.md` says how to run both and what they found.

#[macro_use]
mod mutation;

mod agenda;
mod campaign;
mod client;
mod clock;
mod desk;
mod inbox;
mod judge;
mod life;
mod link;
pub mod model;
mod nemesis;
mod plan;
mod ports;
mod schedule;
mod server;
mod source;
mod time;
mod trace;
mod weather;
mod wish;
mod world;

pub use campaign::{Campaign, campaign};
pub use judge::Violation;
pub use schedule::{Outcome, run};
pub use trace::Detail;
