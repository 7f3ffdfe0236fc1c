//! Runs schedules by their seeds: `cargo xtask sim --seeds 1000`, and one again, to be read: `--seed 42 --trace`.

use std::process::ExitCode;
use std::time::Instant;

use cache_sim::{Campaign, Detail, Outcome, campaign, run};
use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask sim", about = "Many nodes, one thread, one seed: schedules with faults.")]
struct Args {
    /// How many schedules.
    #[arg(long, default_value_t = 1_000, conflicts_with = "seed")]
    seeds: u64,
    /// The seed of the first.
    #[arg(long, default_value_t = 0, conflicts_with = "seed")]
    first: u64,
    /// One schedule alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints what happens in it.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// One JSON object, and nothing else on the standard output.
    #[arg(long)]
    json: bool,
    /// No schedule behind a violating one.
    #[arg(long)]
    until_violation: bool,
    /// Threads; as many as there are processors if left out.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let began = now();
    let done = match args.seed {
        Some(seed) => one(seed, &args),
        None => {
            let threads =
                args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
            campaign(args.first, args.seeds, threads, args.until_violation)
        }
    };
    let elapsed = began.elapsed().as_secs_f64();
    if args.json {
        let first = done.violating.first().map(|outcome| outcome.seed);
        let object = serde_json::json!({
            "schedules": done.schedules,
            "violations": done.violating.iter().map(|outcome| outcome.violations.len()).sum::<usize>(),
            "first_violating_seed": first,
            "events": done.events,
            "elapsed_s": (elapsed * 1000.0).round() / 1000.0,
        });
        println!("{object}");
    } else {
        tell(&done, elapsed);
    }
    if done.violating.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::disallowed_methods, reason = "the stopwatch of the program; no schedule sees it")]
fn now() -> Instant {
    Instant::now()
}

fn one(seed: u64, args: &Args) -> Campaign {
    let outcome = run(seed, if args.trace { Detail::Lines } else { Detail::Digest });
    if args.trace && !args.json {
        outcome.lines.iter().for_each(|line| println!("{line}"));
    }
    if !args.json {
        println!("seed {seed}: {} messages, digest {:016x}", outcome.events, outcome.digest);
    }
    let events = outcome.events;
    let violating: Vec<Outcome> =
        [outcome].into_iter().filter(|outcome| !outcome.violations.is_empty()).collect();
    Campaign { schedules: 1, events, violating }
}

fn tell(done: &Campaign, elapsed: f64) {
    for outcome in &done.violating {
        println!("seed {}; replay with: cargo xtask sim --seed {} --trace", outcome.seed, outcome.seed);
        for violation in &outcome.violations {
            println!("  at {} ms: {}", violation.at_ms, violation.what);
        }
    }
    println!(
        "{} schedules, {} of them violating, {} messages, {elapsed:.1} s ({:.0} schedules a second)",
        done.schedules,
        done.violating.len(),
        done.events,
        done.schedules as f64 / elapsed.max(0.001),
    );
}
