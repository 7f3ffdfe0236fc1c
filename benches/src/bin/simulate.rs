//! Replays a trace against every policy and peer: `cargo xtask simulate --trace FILE`. See `docs/simulate.md`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use edgecache_benches::simulate::{Capacity, Format, Replay, Subjects, Trace, draw, judge, replay, table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Replays a trace of requests against every policy and peer, and draws the curves.
#[derive(Parser)]
#[command(name = "simulate")]
struct Args {
    /// The trace: 32-bit little-endian numbers or text with a key a line, plain or compressed with zstd.
    #[arg(long, value_name = "FILE", required_unless_present = "all", conflicts_with = "all")]
    trace: Option<PathBuf>,
    /// All traces of a folder, judged by the project's targets.
    #[arg(long, value_name = "DIR")]
    all: Option<PathBuf>,
    /// A policy of ours; may be repeated. All if left out.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    policy: Vec<String>,
    /// A peer; may be repeated. All if left out, `none` for none.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    peer: Vec<String>,
    /// Entries, or percent of the keys; may be repeated. 0.5, 2, 10 and 25 % if left out.
    #[arg(long, value_name = "N|N%", value_delimiter = ',', allow_hyphen_values = true)]
    capacity: Vec<Capacity>,
    /// How the requests are written down.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Decides the hashes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the curves go: a file, or with --all a folder. In target/simulate if left out.
    #[arg(long, value_name = "PATH")]
    svg: Option<PathBuf>,
    /// One JSON object (with --all, an array) instead of tables.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    // 2 stands for what was asked wrongly, as for arguments that do not parse; 1 for what went wrong here.
    let args = Args::parse();
    let asked = match Asked::check(&args) {
        Ok(asked) => asked,
        Err(error) => return failed(&error, 2),
    };
    match run(&args, &asked) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, 1),
    }
}

fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::from(code)
}

struct Asked {
    traces: Vec<Trace>,
    subjects: Subjects,
    capacities: Vec<Capacity>,
}

impl Asked {
    fn check(args: &Args) -> Result<Self> {
        let subjects = Subjects::chosen(&args.policy, &args.peer)?;
        let files = match (&args.trace, &args.all) {
            (_, Some(folder)) => traces_of(folder)?,
            (file, None) => file.iter().cloned().collect(),
        };
        let traces = files.iter().map(|file| Trace::read(file, args.format)).collect::<Result<_>>()?;
        let capacities = match args.capacity.is_empty() {
            true => Capacity::DEFAULT.to_vec(),
            false => args.capacity.clone(),
        };
        Ok(Self { traces, subjects, capacities })
    }
}

/// Every file but hidden ones and documents.
fn traces_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("cannot read the folder {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_file() && !name.starts_with('.') && !name.ends_with(".md") {
            files.push(entry.path());
        }
    }
    ensure!(!files.is_empty(), "there is no trace in the folder {}", folder.display());
    files.sort();
    Ok(files)
}

fn run(args: &Args, asked: &Asked) -> Result<()> {
    let bar = progress(asked.traces.len() * asked.capacities.len() * asked.subjects.iter().count());
    let mut replays = Vec::new();
    for (at, trace) in asked.traces.iter().enumerate() {
        bar.set_message(trace.name.clone());
        // Where no bar is shown (a log), a long run tells how far it is.
        bar.suspend(|| eprintln!("trace {} of {}: {}", at + 1, asked.traces.len(), trace.name));
        replays.push(replay(trace, &asked.subjects, &asked.capacities, args.seed, &|| bar.inc(1))?);
    }
    bar.finish_and_clear();
    for replay in &replays {
        let path = svg_path(args, replay);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        std::fs::write(&path, draw(replay)?)
            .with_context(|| format!("cannot write {}; name another place with --svg", path.display()))?;
        eprintln!("curves: {}", path.display());
    }
    let text = match (args.json, &args.all) {
        (true, Some(_)) => serde_json::to_string(&replays)? + "\n",
        (true, None) => serde_json::to_string(replays.first().context("a trace")?)? + "\n",
        (false, None) => replays.iter().map(table).collect(),
        (false, Some(_)) => {
            let tables: Vec<String> = replays.iter().map(table).collect();
            format!("{}\n{}", tables.join("\n"), judge(&replays))
        }
    };
    std::io::stdout().lock().write_all(text.as_bytes()).context("cannot write the result")
}

fn svg_path(args: &Args, replay: &Replay) -> PathBuf {
    let name = format!("{}.svg", replay.trace);
    match (&args.svg, &args.all) {
        (Some(file), None) => file.clone(),
        (Some(folder), Some(_)) => folder.join(name),
        (None, _) => Path::new("target/simulate").join(name),
    }
}

/// Shown on a terminal only.
fn progress(cells: usize) -> ProgressBar {
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(Some(cells as u64), target);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {elapsed}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
