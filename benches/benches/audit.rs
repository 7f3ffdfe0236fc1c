//! What the auditor adds to a hit: `cargo xtask bench audit`. Counted by the program `audit_instructions`, which calls itself
//! under valgrind.

use std::process::Command;

use anyhow::{Result, ensure};

fn main() -> Result<()> {
    // Cargo says `--bench`, and `--test` if the benchmarks are to be tried only.
    let args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let status = Command::new(env!("CARGO_BIN_EXE_audit_instructions")).args(args).status()?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}
