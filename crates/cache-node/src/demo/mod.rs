//! The main job: nodes in one process replay a market, and every read is judged.
//!
//! A ledger is the system of record. One feeder commits what a feed says and announces it, readers on each node read by
//! Zipf and book, and a staleness checker compares each answer with what was acknowledged before the read began. At the
//! end everything that the ledger knows is read on every node and compared with it.

mod audit;
mod drive;
mod offered;
mod propagation;
mod report;
mod sabotage;
mod served;
mod source;
mod world;
mod zipf;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

pub use report::{Bookings, Quantiles, ReadLatency, Report};
pub use sabotage::Sabotage;

/// Replay a GPU market on several nodes and judge every read.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Nodes in this process, each with its own L1.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub nodes: u16,
    /// Use the Redis at this URL; without it, an embedded server.
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
    /// Replay this file of offers; without it, a market made up from the seed.
    #[arg(long, value_name = "FILE")]
    pub feed: Option<PathBuf>,
    /// Readers on each node.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub readers: u16,
    /// Rows of the feed a second, or `max`.
    #[arg(long, default_value = "200", value_name = "N|max")]
    pub speed: Speed,
    /// Seconds; a shorter feed is repeated.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Replay the feed once, from its first row to its last, in its own time: bookings begin and end as it passes.
    #[arg(long, requires = "feed", conflicts_with = "seconds")]
    pub once: bool,
    /// Seed of the market and of the readers.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    pub json: bool,
    /// Serve the dashboard of each node while the feed runs, and go on after the report until Ctrl-C.
    #[arg(long, conflicts_with = "once")]
    pub ui: bool,
    /// Remove a guard, to see that the demo finds it.
    #[arg(long = "break", hide = true, value_name = "GUARD")]
    pub sabotage: Option<Sabotage>,
}

/// How fast the feed is replayed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// Rows a second.
    PerSecond(u32),
    /// As fast as they are acknowledged.
    Max,
}

impl FromStr for Speed {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse() {
            Ok(rows) if rows > 0 => Ok(Self::PerSecond(rows)),
            _ => Err("a whole number of rows a second above 0, or max".into()),
        }
    }
}

/// Reads the time, for measuring and pacing.
#[expect(clippy::disallowed_methods, reason = "the demo measures; nothing in the engine hangs on it")]
pub(crate) fn stopwatch() -> Instant {
    Instant::now()
}

/// What a shell calls a program that a signal ended.
const EXIT_INTERRUPTED: u8 = 130;

/// Runs the demo and prints what it found. 0 = coherent, 1 = not, 2 = it could not run; 130 if `shutdown` ended it. With
/// `--ui` it goes on after that until `shutdown`.
pub async fn run(args: DemoArgs, shutdown: CancellationToken) -> ExitCode {
    match played(&args, &shutdown).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Plays, tells, and goes on serving if that is asked for. Nothing is left behind.
///
/// # Errors
/// If the feed cannot be read, Redis cannot be reached, or a node cannot be started; with the cause and the cure.
async fn played(args: &DemoArgs, shutdown: &CancellationToken) -> anyhow::Result<ExitCode> {
    let feed = source::Feed::open(args.feed.as_deref(), args.seed, args.once)?;
    let world = world::World::start(args).await?;
    for (name, url) in world.urls() {
        // Beside the report, which may be JSON. Whoever started the demo may have closed its end.
        let _ = writeln!(std::io::stderr(), "{name}: {url}");
    }
    let progress = progress(args);
    let judged = async {
        let driven = drive::drive(args, &world, feed, &progress).await;
        progress.set_message("comparing everything on every node with the ledger");
        audit::audit(&world, driven).await
    };
    let report = tokio::select! {
        report = judged => report.map(Some),
        () = shutdown.cancelled() => Ok(None),
    };
    progress.finish_and_clear();
    let code = match report {
        Ok(None) => Ok(ExitCode::from(EXIT_INTERRUPTED)),
        Ok(Some(report)) => tell(args, &report),
        Err(error) => Err(error),
    };
    if args.ui && code.is_ok() && !shutdown.is_cancelled() {
        let _ = writeln!(std::io::stderr(), "The run is over; the nodes go on serving until Ctrl-C.");
        shutdown.cancelled().await;
    }
    world.stop().await;
    code
}

fn tell(args: &DemoArgs, report: &Report) -> anyhow::Result<ExitCode> {
    if args.json {
        println!("{}", serde_json::to_string(report).context("the report cannot be written as JSON")?);
    } else {
        println!("{report}");
    }
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn progress(args: &DemoArgs) -> ProgressBar {
    if args.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(args.seconds);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} s  {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
