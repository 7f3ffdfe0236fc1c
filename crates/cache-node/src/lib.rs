//! A node: configuration, assembly, HTTP, shutdown, and the demo.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | what was typed, and what that means |
//! | [`assembly`] | the one place where policy, store and transport are chosen |
//! | [`http`] | the interface to the outside |
//! | [`events`] | the latest events, for whoever asks or follows |
//! | [`reload`] | reading the configuration again while the node runs |
//! | [`logging`] | the log, by a filter that can change |
//! | [`telemetry`] | what a node remembers of its figures, and when they are alarming |
//! | [`node`] | a node from start to stop |
//! | [`demo`] | nodes in one process replay a market, and every read is judged |
//! | [`cli`] | the command line |

pub mod assembly;
pub mod cli;
pub mod config;
pub mod demo;
mod doctor;
pub mod events;
pub mod http;
pub mod logging;
pub mod memory;
mod metrics;
pub mod node;
mod recent;
mod record;
pub mod reload;
mod roster;
mod schedule;
pub mod telemetry;
