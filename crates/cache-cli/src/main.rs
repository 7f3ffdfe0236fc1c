//! `cachectl`: asks nodes how they are, and tells them what has become untrue.
//!
//! | module | what it is |
//! |---|---|
//! | [`arguments`] | what can be typed |
//! | [`client`], [`tls`] | one node over HTTP, its problems told with their cures |
//! | [`failure`] | what can go wrong, and the exit code of each |
//! | [`screen`] | tables for people, JSON for programs |
//! | [`stream`] | server-sent events |
//! | [`commands`] | one file for each command |

mod arguments;
mod ask;
mod client;
mod commands;
mod failure;
mod screen;
mod stream;
mod tls;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::Cli;
use crate::failure::{Failure, Verdict};

fn main() -> ExitCode {
    match commands::run(Cli::parse()) {
        Ok(Verdict::Right) => ExitCode::SUCCESS,
        Ok(Verdict::Wrong) => ExitCode::from(failure::EXIT_WRONG),
        // Whoever read us has seen enough.
        Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell if stderr is closed.
            let _ = writeln!(std::io::stderr(), "cachectl: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
