//! Guards taken out one by one: the tests of their crate must notice each.
//!
//! A guard that can be taken out names itself, `mutated!("name")`, and can only be in a build with
//! `--cfg edgecache_mutation`, when the environment names it in `EDGECACHE_MUTATION`. Such builds have target folders of
//! their own. Where a crate has explorations (`--cfg edgecache_shuttle`), they run as well, and the guards whose name
//! contains `race` must be found by them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cargo_metadata::Message;

use crate::schedules::Schedules;
use crate::steps;

/// A run of tests without a guard that lasts longer counts as found: something waits for ever.
const HANGS_AFTER: Duration = Duration::from_secs(180);
/// Explored orders a test: of the code as it is, and without a guard. Guards that are missing mostly show after a few; where
/// they do not, as many are tried as of the code as it is.
const ROUNDS: &str = "2000";
const ROUNDS_SHORT: &str = "400";
/// Random cases a test of properties where the usual is 256; some files ask for a multiple.
const CASES_SHORT: &str = "64";

/// Crates with explorations, and the file of their tests.
const EXPLORED: &[(&str, &str)] = &[("cache-l1", "races")];

/// Guards of which each covers for the other, so that no schedule misses one alone: taken out together. Their own tests
/// find each.
const TOGETHER: &[(&str, &str)] = &[("trim_unnoticed", "entries_unchecked")];

/// Takes out every guard, or those of `package` and those whose name contains `only`, and runs the tests of its crate. `short`: fewer random
/// cases, and of tests and explorations those alone that have to find the guard.
///
/// # Errors
/// Tests that passed without a guard, or did not pass with all of them.
pub(crate) fn run(only: Option<&str>, package: Option<&str>, short: bool) -> Result<()> {
    let guards = guards(only, package)?;
    ensure!(!guards.is_empty(), "no such guard; they are marked mutated!(\"name\") in the sources");
    let mut suites = BTreeMap::new();
    for package in guards.values() {
        if !suites.contains_key(package) {
            suites.insert(package.clone(), Suites::build(package, short)?);
        }
    }
    for (package, suites) in &mut suites {
        println!("{package}, all guards in place");
        for suite in suites.tests.iter_mut().chain(&mut suites.explorations) {
            let (found, took) = steps::timed(|| suite.run("", if short { ROUNDS_SHORT } else { ROUNDS }));
            suite.takes = took;
            let found = found?;
            ensure!(
                found.is_none(),
                "{package} fails with all guards in place: {}; mend that first",
                found.unwrap_or_default()
            );
        }
    }
    // The short form asks those alone that have to find a guard.
    let schedules = match !short && guards.values().any(|package| Schedules::know(package)) {
        true => Some(Schedules::build(SWITCH)?),
        false => None,
    };
    if let Some(schedules) = &schedules {
        let found = schedules.find("")?;
        ensure!(found.is_none(), "a schedule goes wrong with all guards in place: mend that first");
    }
    for suites in suites.values_mut() {
        // What is quick is asked first.
        suites.tests.sort_by_key(|suite| suite.takes);
    }
    println!("\n{:<10} {:<34} {:<60} {:>7}", "crate", "without", "is found by", "after");
    let mut missed = Vec::new();
    for (guard, package) in &guards {
        let suites = &suites[package];
        let must_explore = guard.contains("race");
        let mut found = false;
        if let Some(schedules) = schedules.as_ref().filter(|_| Schedules::know(package)) {
            let schedule = schedules.find(guard)?;
            let took = schedule.as_ref().map_or(0.0, |found| found.took.as_secs_f64());
            let verdict = match &schedule {
                Some(found) => format!("simulation, in {} schedules", found.schedules),
                None => "no simulation".to_owned(),
            };
            println!("{package:<10} {guard:<34} {verdict:<60} {took:>5.1} s");
            found = schedule.is_some() && !must_explore;
        }
        for (kind, suite) in [("test", &suites.tests), ("exploration", &suites.explorations)] {
            let of_races = kind == "exploration";
            // Each guard has one place where it has to be found; the other is asked where there is time.
            if suite.is_empty() || of_races != must_explore && (short || found) {
                continue;
            }
            let (by, took) = steps::timed(|| match first(suite, guard, ROUNDS_SHORT) {
                // Orders are tried by chance: a few may all miss what more of them find.
                Ok(None) if of_races => first(suite, guard, ROUNDS),
                by => by,
            });
            let by = by?;
            let verdict = by.as_ref().map_or("nothing".to_owned(), |by| format!("{kind} {by}"));
            println!("{package:<10} {guard:<34} {verdict:<60} {:>5.1} s", took.as_secs_f64());
            // What is to be found by exploring is not found by luck.
            found = if must_explore { by.is_some() && of_races } else { found || by.is_some() };
        }
        if !found {
            missed.push(guard.as_str());
        }
    }
    for (one, other) in
        TOGETHER.iter().filter(|(one, other)| guards.contains_key(*one) || guards.contains_key(*other))
    {
        let Some(schedules) = &schedules else { continue };
        let schedule = schedules.find(&format!("{one},{other}"))?;
        let took = schedule.as_ref().map_or(0.0, |found| found.took.as_secs_f64());
        let verdict = match &schedule {
            Some(found) => format!("simulation, in {} schedules", found.schedules),
            None => "nothing".to_owned(),
        };
        println!("{:<10} {one:<34} {verdict:<60} {took:>5.1} s\n{:<10} and {other}", "both", "");
        if schedule.is_none() {
            missed.push(one);
        }
    }
    println!("\n{} guards, {} not found", guards.len(), missed.len());
    ensure!(missed.is_empty(), "nothing fails without: {}", missed.join(", "));
    Ok(())
}

/// Explores the orders in which the threads of a crate can take turns.
///
/// # Errors
/// An order in which something that must hold does not.
pub(crate) fn explore(rounds: Option<u32>) -> Result<()> {
    for &(package, tests) in EXPLORED {
        let rounds = rounds.map_or(ROUNDS.to_owned(), |rounds| rounds.to_string());
        let status = cargo(&["test"], package, &["--test", tests], EXPLORATION)?
            .args(["--", "--nocapture"])
            .env("EDGECACHE_ROUNDS", rounds)
            .status()?;
        ensure!(status.success(), "an exploration of {package} failed");
    }
    Ok(())
}

/// Crates whose guards the tests of another one find as well.
const ALSO_FOUND_IN: &[(&str, &str)] = &[("cache-tiered", "cache-sim")];
/// Crates whose guards are taken out in CI.
const IN_CI: &[&str] = &["cache-bus", "cache-l1"];

/// The short form for CI: the crates whose tests are quick.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_in_ci() -> Result<()> {
    IN_CI.iter().try_for_each(|package| run(None, Some(package), true))
}

/// All test programs of a crate.
struct Suites {
    tests: Vec<Suite>,
    explorations: Vec<Suite>,
}

struct Suite {
    program: PathBuf,
    folder: PathBuf,
    short: bool,
    /// With all guards in place.
    takes: Duration,
}

/// What makes guards removable.
pub(crate) const SWITCH: &str = "--cfg edgecache_mutation";
const EXPLORATION: &str = "--cfg edgecache_mutation --cfg edgecache_shuttle";

impl Suites {
    fn build(package: &str, short: bool) -> Result<Self> {
        let explored = EXPLORED.iter().find(|(explored, _)| *explored == package);
        let explorations = match explored {
            Some((_, tests)) => Suite::build(package, &["--test", tests], EXPLORATION, short)?,
            None => Vec::new(),
        };
        let mut tests = Suite::build(package, &["--lib", "--tests"], SWITCH, short)?;
        for (_, other) in ALSO_FOUND_IN.iter().filter(|(of, _)| *of == package) {
            tests.extend(Suite::build(other, &["--lib", "--tests"], SWITCH, short)?);
        }
        Ok(Self { tests, explorations })
    }
}

impl Suite {
    fn build(package: &str, which: &[&str], flags: &str, short: bool) -> Result<Vec<Self>> {
        println!("{package}: building with {flags}");
        let mut building =
            cargo(&["test", "--quiet", "--no-run", "--message-format=json"], package, which, flags)?
                .stdout(Stdio::piped())
                .spawn()
                .context("cannot start cargo")?;
        let output = building.stdout.take().context("no output of cargo")?;
        let folder = steps::root()?.join("crates").join(package);
        let mut suites = Vec::new();
        for message in Message::parse_stream(BufReader::new(output)) {
            if let Message::CompilerArtifact(artifact) = message?
                && artifact.profile.test
                && let Some(program) = artifact.executable
            {
                suites.push(Self {
                    program: program.into_std_path_buf(),
                    folder: folder.clone(),
                    short,
                    takes: Duration::ZERO,
                });
            }
        }
        ensure!(building.wait()?.success(), "{package} does not build with {flags}");
        Ok(suites)
    }

    /// The first test that fails without the guard.
    fn run(&self, guard: &str, rounds: &str) -> Result<Option<String>> {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.folder).stdout(Stdio::piped()).stderr(Stdio::null());
        command.env("EDGECACHE_MUTATION", guard).env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true");
        // That it fails is enough: nobody reads the smallest case.
        command.env("PROPTEST_MAX_SHRINK_ITERS", "0");
        command.env("EDGECACHE_ROUNDS", rounds);
        if self.short {
            command.env("PROPTEST_CASES", CASES_SHORT);
        }
        let mut running = command.spawn().with_context(|| self.program.display().to_string())?;
        let output = running.stdout.take().context("no output of a test program")?;
        let (say, failed) = sync_channel(1);
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            let failure = lines.filter_map(|line| failed_test(&line)).next();
            // Nobody listens if the program was too slow.
            let _ = say.send(failure);
        });
        let failure = match failed.recv_timeout(HANGS_AFTER) {
            Ok(Some(test)) => Some(test),
            Ok(None) => None,
            Err(RecvTimeoutError::Timeout) => Some("one that never ends".to_owned()),
            Err(RecvTimeoutError::Disconnected) => None,
        };
        // With a failure the others need not end; without one it has ended.
        if failure.is_some() {
            running.kill()?;
        }
        let status = running.wait()?;
        let _ = reader.join();
        Ok(failure.or_else(|| (!status.success()).then(|| format!("its end, {status}"))))
    }
}

fn first(suites: &[Suite], guard: &str, rounds: &str) -> Result<Option<String>> {
    for suite in suites {
        if let Some(found) = suite.run(guard, rounds)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The test that such a line of a test program says to have failed.
fn failed_test(line: &str) -> Option<String> {
    let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
    Some(name.rsplit("::").next().unwrap_or(name).trim_end_matches(" - should panic").to_owned())
}

fn cargo(command: &[&str], package: &str, which: &[&str], flags: &str) -> Result<Command> {
    let root = steps::root()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let folder = if flags == EXPLORATION { "explorations" } else { "mutations" };
    let mut cargo = Command::new("cargo");
    cargo.args(command).args(["-p", package]).args(which).current_dir(root);
    cargo.env("CARGO_TARGET_DIR", target.join(folder)).env("RUSTFLAGS", flags);
    Ok(cargo)
}

/// Guards and their crates.
pub(crate) fn guards(only: Option<&str>, package: Option<&str>) -> Result<BTreeMap<String, String>> {
    let mut guards = BTreeMap::new();
    for folder in folders(&steps::root()?.join("crates"))? {
        let names = guards_in(&folder.join("src"))?;
        let package = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        guards.extend(names.into_iter().map(|guard| (guard, package.clone())));
    }
    guards.retain(|guard, of| {
        only.is_none_or(|only| guard.contains(only)) && package.is_none_or(|package| package == of)
    });
    Ok(guards)
}

/// The names in `mutated!("…")`.
fn guards_in(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        open.extend(folders(&folder)?);
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                names.extend(guards_of(&fs::read_to_string(&path)?));
            }
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn guards_of(source: &str) -> Vec<String> {
    let marked = source.split("mutated!(\"").skip(1);
    marked.filter_map(|rest| rest.split_once("\")")).map(|(name, _)| name.to_owned()).collect()
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.is_dir()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_are_found_by_their_mark() {
        let source = "if mutated!(\"one\") || mutated!(\"two\") {}\nmutated!($name)";
        assert_eq!(guards_of(source), ["one", "two"]);
    }

    #[test]
    fn a_failed_test_is_read_from_what_its_program_says() {
        assert_eq!(failed_test("test fence::tests::a_stamp ... FAILED").as_deref(), Some("a_stamp"));
        assert_eq!(failed_test("test fence::tests::a_stamp ... ok"), None);
        assert_eq!(failed_test("thread panicked: test x ... FAILED"), None);
    }
}
