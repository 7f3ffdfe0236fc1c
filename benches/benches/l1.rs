//! The tier against other caches of the registry: `cargo xtask bench l1`.
//!
//! All do the same work: the same keys in the same order, hashed in what is measured, and the same values (the
//! very same allocations, so that the layout of the heap is not what is compared). Rounds are interleaved.
//! Bytes an entry are counted by the program `l1_memory`, instructions by `l1_instructions`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use edgecache_benches::l1::{FENCE_NS_MAX, NAMES, Pace, fences, json, markdown, rows};

fn main() -> Result<()> {
    // Cargo says `--bench`, and `--test` if the benchmarks are to be tried only.
    let mut args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let mut take = |option: &str| {
        let before = args.len();
        args.retain(|arg| arg != option);
        args.len() < before
    };
    let short = [take("--short"), take("--quick"), take("--test")].contains(&true);
    let (as_json, instructions) = (take("--json"), take("--instructions"));
    if let Some(unknown) = args.iter().find(|arg| arg.starts_with('-')) {
        anyhow::bail!(
            "unknown option {unknown}; there are --short, --json, --instructions and rows: {}",
            NAMES.join(", ")
        );
    }
    if instructions {
        return run(env!("CARGO_BIN_EXE_l1_instructions"), &[]).map(|text| print!("{text}"));
    }
    let pace = if short { Pace::SHORT } else { Pace::FULL };
    let outcomes = rows(pace, &args, |row| eprintln!("{row} …"))?;
    let mut table = markdown(&outcomes);
    if args.is_empty() {
        eprintln!("fences …");
        let [with, without, fence] = fences(pace);
        let verdict = if fence <= FENCE_NS_MAX { "holds" } else { "missed" };
        table = format!(
            "{table}\nA hit takes {with:.1} ns held against the fence and {without:.1} ns without: {fence:.1} ns for \
             flushes and stamps, at most {FENCE_NS_MAX} are allowed: {verdict}.\n"
        );
        eprintln!("bytes …");
        let entries = if short { "5000" } else { "100000" };
        table = format!("{table}\n{}", run(env!("CARGO_BIN_EXE_l1_memory"), &[entries])?);
    }
    if as_json {
        eprintln!("{table}");
        println!("{}", json(&outcomes));
    } else {
        println!("{table}");
    }
    Ok(())
}

/// Runs another program of this package and takes what it prints.
fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| program.to_owned())?;
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{program} ended with {}", output.status);
    String::from_utf8(output.stdout).context("what it prints is text")
}
