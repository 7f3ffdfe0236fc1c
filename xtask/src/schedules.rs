//! The programs of `cache-sim`: schedules from seeds, and the model. They are built in a profile of their own, `sim`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::steps::{self, Command, Step};

/// Schedules for which a guard may stay undiscovered.
const SEEDS: u64 = 4_000;
/// Guards of which those that show at all show soon, by how their names begin; tests and explorations of their crates find
/// the others. (What the queue of hints drops and in which order is no matter of staleness: the log has it all.)
const SHOWN_SOON: &[&str] = &["l1_", "backlog_"];
const SEEDS_SOON: u64 = 300;
/// Schedules with all guards in place.
const SEEDS_BEFORE: u64 = 500;

/// Crates of whose guards schedules can miss one: the nodes are made of them, or the server.
const SIMULATED: &[&str] = &["cache-bus", "cache-l1", "cache-tiered", "cache-sim"];

/// The line that runs a program of `cache-sim`.
pub(crate) fn program(name: &str, args: &[String]) -> Result<Command> {
    let manifest = steps::root()?.join("Cargo.toml").display().to_string();
    let mut command = Command::cargo(["run", "--profile", "sim", "--manifest-path", manifest.as_str()]);
    command.push(["-p", "cache-sim", "--bin", name, "--"]);
    command.push(args.iter().map(String::as_str));
    Ok(command)
}

/// A step of `ci`.
pub(crate) fn step(name: &'static str, program: &str, args: &[&str]) -> Step {
    let mut command = Command::cargo(["run", "--profile", "sim", "-p", "cache-sim", "--bin", program, "--"]);
    command.push(args.iter().copied());
    Step::command(name, command)
}

/// Schedules of nodes from which a guard was taken.
pub(crate) struct Schedules(PathBuf);

/// What the schedules say about a guard.
pub(crate) struct Found {
    /// How many schedules it took.
    pub(crate) schedules: u64,
    pub(crate) took: Duration,
}

impl Schedules {
    /// Builds them.
    pub(crate) fn build(flags: &str) -> Result<Self> {
        println!("schedules: building with {flags}");
        let root = steps::root()?;
        let target = steps::target()?.join("mutations");
        let status = std::process::Command::new("cargo")
            .args(["build", "--quiet", "--profile", "sim", "-p", "cache-sim", "--bin", "sim"])
            .current_dir(root)
            .env("CARGO_TARGET_DIR", &target)
            .env("RUSTFLAGS", flags)
            .status()
            .context("cannot start cargo")?;
        ensure!(status.success(), "cache-sim does not build with {flags}");
        Ok(Self(target.join("sim").join("sim")))
    }

    /// Whether guards of the crate play a part in them.
    pub(crate) fn know(package: &str) -> bool {
        SIMULATED.contains(&package)
    }

    /// Runs schedules without the guard until one of them breaks a promise; nothing if none does. Without a name: with all
    /// guards in place. Several names, with commas between them: without all of these.
    pub(crate) fn find(&self, guard: &str) -> Result<Option<Found>> {
        let seeds = match guard {
            "" => SEEDS_BEFORE,
            guard if SHOWN_SOON.iter().any(|of| guard.starts_with(of)) => SEEDS_SOON,
            _ => SEEDS,
        };
        let seeds = seeds.to_string();
        let mut command = std::process::Command::new(&self.0);
        command.args(["--json", "--until-violation", "--seeds", &seeds]);
        command.env("EDGECACHE_MUTATION", guard).stderr(Stdio::null());
        let (output, took) = steps::timed(|| command.output());
        let output = output.with_context(|| self.0.display().to_string())?;
        if output.status.success() {
            return Ok(None);
        }
        // A schedule that cannot even end has found it as well.
        let said = String::from_utf8_lossy(&output.stdout);
        let schedules = number(&said, "first_violating_seed").map_or(1, |seed| seed + 1);
        Ok(Some(Found { schedules, took }))
    }
}

/// A number in a flat JSON object.
fn number(object: &str, name: &str) -> Option<u64> {
    let (_, rest) = object.split_once(&format!("\"{name}\":"))?;
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_what_the_program_says() {
        let said = r#"{"elapsed_s":0.5,"first_violating_seed":17,"schedules":18}"#;
        assert_eq!(number(said, "first_violating_seed"), Some(17));
        assert_eq!(number(r#"{"first_violating_seed":null}"#, "first_violating_seed"), None);
        assert_eq!(number(said, "seeds"), None);
    }

    #[test]
    fn the_arguments_reach_the_program() {
        let command = program("sim", &["--seeds".to_owned(), "9".to_owned()]).unwrap();
        assert_eq!(command.args.last().map(String::as_str), Some("9"));
        assert!(command.args.iter().any(|arg| arg == "cache-sim"));
    }
}
