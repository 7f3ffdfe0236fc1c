//! Guards taken out one by one: the tests of their crate must notice each.
//!
//! A guard that can be taken out names itself, `mutated!("name")`, and is only there in a build with
//! `--cfg edgecache_mutation` whose environment names it in `EDGECACHE_MUTATION`. All such builds share a target folder of
//! their own, in which only the crates with guards are built anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::steps;

/// Takes out every guard, or those whose name contains `only`, and runs the tests of its crate.
///
/// # Errors
/// Tests that passed without a guard, or did not pass with all of them.
pub(crate) fn run(only: Option<&str>) -> Result<()> {
    let root = steps::root()?;
    let mut guards = BTreeMap::new();
    for folder in folders(&root.join("crates"))? {
        let names = guards_in(&folder.join("src"))?;
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        guards.extend(names.into_iter().map(|guard| (guard, name.clone())));
    }
    guards.retain(|guard, _| only.is_none_or(|only| guard.contains(only)));
    ensure!(
        !guards.is_empty(),
        "no guard has such a name; they are marked mutated!(\"name\") in the sources"
    );

    let mut crates: Vec<&String> = guards.values().collect();
    crates.sort();
    crates.dedup();
    for package in crates {
        println!("{package}, all guards in place");
        ensure!(
            passes(root, package, "")?,
            "the tests of {package} fail with all guards in place: mend that first"
        );
    }
    let mut missed = Vec::new();
    for (guard, package) in &guards {
        let (passed, took) = steps::timed(|| passes(root, package, guard));
        let found = !passed?;
        let verdict = if found { "found" } else { "NOT FOUND" };
        println!("{package}: without {guard}: {verdict} ({:.0} s)", took.as_secs_f64());
        if !found {
            missed.push(guard.as_str());
        }
    }
    match missed.as_slice() {
        [] => Ok(()),
        missed => bail!("no test fails without: {}", missed.join(", ")),
    }
}

/// Whether the tests of a package pass with a guard taken out. A build that fails is an error.
fn passes(root: &Path, package: &str, guard: &str) -> Result<bool> {
    let cargo = |args: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(args).args(["-p", package, "--lib", "--tests"]).current_dir(root);
        command.env("CARGO_TARGET_DIR", root.join("target").join("mutants"));
        command.env("RUSTFLAGS", "--cfg edgecache_mutation").env("EDGECACHE_MUTATION", guard);
        command
    };
    let built = cargo(&["test", "--quiet", "--no-run"])
        .stdout(Stdio::null())
        .status()
        .context("cannot start cargo")?;
    ensure!(built.success(), "{package} does not build without {guard:?}");
    let quiet = || Stdio::null();
    Ok(cargo(&["test", "--quiet"]).stdout(quiet()).stderr(quiet()).status()?.success())
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
}
