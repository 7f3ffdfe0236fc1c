//! Explores the model of the protocol: `cargo xtask model`, with more of everything `--large`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cache_sim::model::Protocol;
use clap::Parser;
use stateright::{Checker, HasDiscoveries, Model};

#[derive(Parser)]
#[command(name = "cargo xtask model", about = "The protocol, explored in every order of its steps.")]
struct Args {
    /// More writes, loads, hints and faults: minutes, and gigabytes.
    #[arg(long)]
    large: bool,
    /// Threads; as many as there are processors if left out.
    #[arg(long)]
    threads: Option<usize>,
    /// Only configurations whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Each configuration is left after so long, and says how many states held until then.
    #[arg(long)]
    minutes: Option<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let mut right = true;
    println!("{:<48} {:>12} {:>8}  says", "all guards in place", "states", "seconds");
    let limit = args.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let chosen = |protocol: &Protocol| args.only.as_deref().is_none_or(|text| protocol.name.contains(text));
    let all = if args.large { Protocol::large() } else { Protocol::small() };
    for protocol in all.into_iter().filter(chosen) {
        let seen = explore(protocol, threads, limit);
        // What works at least once is not a protocol that refuses everything.
        let holds = seen.found.keys().eq(["it works"].iter());
        right &= holds && seen.whole;
        seen.tell(
            &protocol,
            match (holds, seen.whole) {
                (true, true) => "holds",
                (true, false) => "holds as far as it came: STOPPED",
                (false, _) => "VIOLATED",
            },
        );
    }
    println!("\n{:<48} {:>12} {:>8}  says", "without a guard", "states", "seconds");
    for protocol in Protocol::mutations().into_iter().filter(chosen) {
        let seen = explore(protocol, threads, limit);
        let broken: Vec<&str> = seen.found.keys().copied().filter(|name| *name != "it works").collect();
        right &= !broken.is_empty();
        let says =
            if broken.is_empty() { "NOT FOUND".to_owned() } else { format!("breaks {}", broken.join(", ")) };
        seen.tell(&protocol, &says);
    }
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What an exploration showed.
struct Seen {
    states: usize,
    seconds: f64,
    /// Nothing was left to explore, or all that was looked for was found.
    whole: bool,
    /// The steps to each discovery.
    found: BTreeMap<&'static str, String>,
}

impl Seen {
    fn tell(&self, protocol: &Protocol, says: &str) {
        println!("{:<48} {:>12} {:>8.1}  {says}", protocol.name, self.states, self.seconds);
        for (name, steps) in self.found.iter().filter(|(name, _)| **name != "it works") {
            println!("    {name}: {steps}");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the stopwatch of the program")]
fn explore(protocol: Protocol, threads: usize, limit: Option<Duration>) -> Seen {
    let began = Instant::now();
    let mut checker = protocol.checker().threads(threads);
    if protocol.without.is_some() {
        checker = checker.finish_when(HasDiscoveries::AnyFailures);
    }
    if let Some(limit) = limit {
        checker = checker.timeout(limit);
    }
    let checker = checker.spawn_bfs().join();
    let took = began.elapsed();
    let told = |steps: Vec<_>| steps.iter().map(|step| format!("{step:?}")).collect::<Vec<_>>().join("; ");
    let found =
        checker.discoveries().into_iter().map(|(name, path)| (name, told(path.into_actions()))).collect();
    let whole = limit.is_none_or(|limit| took < limit);
    Seen { states: checker.unique_state_count(), seconds: took.as_secs_f64(), whole, found }
}
