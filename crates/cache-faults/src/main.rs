//! `cargo xtask faults`: runs the fault matrix and prints it.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cache_faults::apart::be_node;
use cache_faults::mutation::{guards_can_be_taken_out, without};
use cache_faults::report::{HEAD, Outcome};
use cache_faults::rows::{self, Row};
use cache_faults::storm::{MARGIN, now};
use clap::Parser;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Runs the fault matrix over real Redis servers (redis-server must be installed).
#[derive(Debug, Parser)]
struct Arguments {
    /// Print one JSON array and nothing else on stdout.
    #[arg(long)]
    json: bool,
    /// Only the rows that CI runs.
    #[arg(long)]
    short: bool,
    /// Only rows whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Also take out the guard of each row that names one, and expect stale reads then. Needs a build with the switch:
    /// `cargo xtask faults --controls`.
    #[arg(long)]
    controls: bool,
    /// Random faults for so many seconds on each kind of deployment, drawn by the seed, instead of the rows. `--only` chooses
    /// among `replica`, `Sentinel` and `Cluster`.
    #[arg(long, value_name = "SECONDS")]
    chaos: Option<u64>,
    /// Seed of the storms and of random faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Be a node on these servers and answer questions: what rows start that stop and kill processes.
    #[arg(long, hide = true, value_name = "URL", requires = "source")]
    node: Option<String>,
    /// The file with what the node loads.
    #[arg(long, hide = true)]
    source: Option<PathBuf>,
    /// How long its loads take at most.
    #[arg(long, hide = true, default_value_t = 5)]
    load_ms: u64,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    anyhow::ensure!(
        !arguments.controls || guards_can_be_taken_out(),
        "this build has no guards that can be taken out: use cargo xtask faults --controls"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let (Some(url), Some(source)) = (&arguments.node, &arguments.source) {
        runtime.block_on(be_node(url, source, arguments.load_ms))?;
        // The thread that reads the input need not end.
        runtime.shutdown_background();
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = |row: &Row| {
        (!arguments.short || row.short)
            && arguments
                .only
                .as_deref()
                .is_none_or(|text| row.fault.to_lowercase().contains(&text.to_lowercase()))
    };
    let all = match arguments.chaos {
        Some(seconds) => rows::chaos(Duration::from_secs(seconds)),
        None => rows::all(),
    };
    let rows: Vec<_> = all.into_iter().filter(chosen).map(Arc::new).collect();
    anyhow::ensure!(!rows.is_empty(), "no row is called so; without --only all of them run");
    if !arguments.json {
        println!("{HEAD}");
    }
    let mut outcomes = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        eprintln!("{}/{}: {}", place + 1, rows.len(), row.fault);
        let began = now();
        let mut outcome = run(&runtime, row, arguments.seed);
        eprintln!("  {:>5.1} s  over", began.elapsed().as_secs_f32());
        outcome.figures().for_each(|figure| eprintln!("{figure}"));
        if let Some(mutation) = row.control.filter(|_| arguments.controls) {
            outcome.control_found = Some(control(&row.fault, mutation, arguments.seed)?);
        }
        if !arguments.json {
            println!("{}", outcome.line());
        } else if let Some(why) = &outcome.why {
            eprintln!("{}: {why}", outcome.fault);
        }
        outcomes.push(outcome);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&outcomes)?);
    }
    if !arguments.json {
        println!();
        outcomes.iter().flat_map(Outcome::figures).for_each(|figure| println!("{figure}"));
    }
    let held = outcomes.iter().filter(|outcome| outcome.ok && outcome.control_found != Some(false)).count();
    eprintln!("{held} of {} rows hold", outcomes.len());
    Ok(if held == outcomes.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a row. If it panics, that is its outcome, and the others run all the same.
fn run(runtime: &Runtime, row: &Arc<Row>, seed: u64) -> Outcome {
    runtime.block_on(async {
        let mut running = JoinSet::new();
        let ran = row.clone();
        running.spawn(async move { ran.run(seed).await });
        match running.join_next().await {
            Some(Ok(outcome)) => outcome,
            Some(Err(panicked)) => row.broken(&panicked.to_string()),
            None => row.broken("it did not run"),
        }
    })
}

/// Whether readers see stale values once the guard is gone. A run that fails in another way has found nothing.
fn control(fault: &str, guard: &str, seed: u64) -> anyhow::Result<bool> {
    let mut command = without(guard)?;
    command.args(["--json", "--only", fault, "--seed", &seed.to_string()]);
    let output = command.stderr(Stdio::null()).output()?;
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("the run without {guard} printed no rows"))?;
    let stale = |row: &serde_json::Value| {
        let (worst, bound) = (row["worst_staleness_ms"].as_u64(), row["bound_ms"].as_u64());
        row["fault"] == fault && worst > bound.map(|bound| bound + MARGIN.as_millis() as u64)
    };
    Ok(rows.as_array().is_some_and(|rows| rows.iter().any(stale)))
}
