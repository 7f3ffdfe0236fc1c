//! Counting instructions with valgrind's callgrind, which must be installed.
//!
//! A program that counts calls itself under valgrind, once for each work with more and with fewer repetitions; the difference by
//! the difference of the repetitions is what one takes, whatever starting and filling took.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Which work this run of the program is to do, and how often, if it is one that is counted.
///
/// # Errors
/// The arguments are no numbers.
pub fn asked_for() -> Result<Option<(usize, u64)>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [work, n] = args.as_slice() else { return Ok(None) };
    Ok(Some((work.parse()?, n.parse()?)))
}

/// Instructions that one repetition of a work of this program takes.
///
/// # Errors
/// Valgrind is not there, or the work failed.
pub fn each(work: usize, few: u64, many: u64) -> Result<f64> {
    Ok((count(work, many)? - count(work, few)?) as f64 / (many - few) as f64)
}

fn count(work: usize, n: u64) -> Result<i64> {
    let own = std::env::current_exe()?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(own);
    let output = valgrind
        .args([work.to_string(), n.to_string()])
        .output()
        .context("cannot start valgrind, which counts the instructions; install the package valgrind")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind ended with {}:\n{told}", output.status);
    let collected =
        told.lines().find_map(|line| line.split_once("Collected :")).context("valgrind tells no count")?;
    Ok(collected.1.trim().parse()?)
}
