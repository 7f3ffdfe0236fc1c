//! The switches that change what is built for tests alone: nothing else may set them.
//!
//! With `--cfg edgecache_mutation` guards can be taken out; with `--cfg edgecache_shuttle` a scheduler stands in for the
//! machine's locks. `xtask/src/mutations.rs` passes them to cargo, in target folders of their own. Here every file that a
//! build could read is searched: a switch is only asked for, in the places that are known.

use std::path::Path;

use anyhow::{Context, Result};

use super::Finding;

/// A file that a build or a person could set a switch in.
pub(crate) struct File {
    /// From the root.
    pub(crate) path: String,
    pub(crate) text: String,
}

const MUTATION: &str = "edgecache_mutation";
const SHUTTLE: &str = "edgecache_shuttle";
/// Larger files are no sources.
const BYTES_MAX: u64 = 1 << 20;

/// Where the switch is passed, searched for, or told of.
fn may_name(path: &str) -> bool {
    path == "xtask/src/mutations.rs" || path == "xtask/src/tidy/switches.rs" || is_told(path)
}

fn is_told(path: &str) -> bool {
    path.ends_with(".md")
}

/// Whether a line only asks for a switch, or declares that there is such a one.
fn asks(path: &str, line: &str, switch: &str) -> bool {
    let comment = line.trim_start().starts_with("//");
    let rust = path.starts_with("crates/") && path.ends_with(".rs");
    let line = line.replace(' ', "");
    let cfg = ["#[cfg(", "#![cfg("].iter().any(|start| line.contains(start)) && line.contains(switch);
    match switch {
        _ if path == "Cargo.toml" => line.starts_with("unexpected_cfgs={") && line.contains("check-cfg=["),
        MUTATION => path.ends_with("/src/mutation.rs") && rust && (cfg || comment),
        _ if path.ends_with("Cargo.toml") => line == format!("[target.'cfg({switch})'.dependencies]"),
        _ => rust && (cfg || comment),
    }
}

pub(crate) fn check(files: &[File], flags: &[(String, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for File { path, text } in files {
        for (number, line) in text.lines().enumerate() {
            let place = || format!("{path}:{}", number + 1);
            for switch in [MUTATION, SHUTTLE] {
                if line.contains(switch) && !may_name(path) && !asks(path, line, switch) {
                    findings.push(Finding::new(
                        place(),
                        format!("{switch} is set by `cargo xtask` alone, and asked for only in its places"),
                    ));
                }
            }
            if line.contains("rustc-cfg") && !may_name(path) {
                findings.push(Finding::new(place(), "no build script sets a cfg"));
            }
        }
        if path.ends_with("/src/mutation.rs") && !refuses_release(text) {
            let why =
                "a build without guards must refuse to be a release: compile_error! without debug_assertions";
            findings.push(Finding::new(path, why));
        }
    }
    for (name, value) in flags {
        if value.contains(MUTATION) || value.contains(SHUTTLE) {
            findings.push(Finding::new(name, "the environment sets a switch of the tests"));
        }
    }
    findings
}

fn refuses_release(text: &str) -> bool {
    let condition = format!("#[cfg(all({MUTATION}, not(debug_assertions)))]\ncompile_error!(");
    text.contains(&condition)
}

/// All files of the workspace that are not made by a build.
pub(crate) fn read(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let (path, kind) =
                (entry.as_ref().map(|entry| entry.path()), entry.as_ref().map(|e| e.file_type()));
            let (Ok(path), Ok(Ok(kind))) = (path, kind) else { continue };
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let made = kind.is_dir() && (name == "target" || name.starts_with("target-") || name == ".git");
            let small = || path.metadata().is_ok_and(|data| data.len() <= BYTES_MAX);
            if kind.is_dir() && !made {
                open.push(path);
            } else if kind.is_file() && small() {
                // What is no text sets nothing.
                let Ok(text) = std::fs::read_to_string(&path) else { continue };
                let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                files.push(File { path: relative, text });
            }
        }
    }
    Ok(files)
}

/// What the environment passes to the compiler.
pub(crate) fn flags() -> Vec<(String, String)> {
    let is_flags = |name: &str| name.ends_with("RUSTFLAGS") || name.ends_with("RUSTDOCFLAGS");
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| is_flags(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&[File { path: path.into(), text: text.into() }], &[]).len()
    }

    #[test]
    fn a_switch_that_is_set_is_found_wherever_it_is() {
        for (path, text) in [
            (".cargo/config.toml", "rustflags = [\"--cfg\", \"edgecache_mutation\"]"),
            (".github/workflows/ci.yml", "RUSTFLAGS: --cfg edgecache_shuttle"),
            ("Cargo.toml", "rustflags = \"--cfg edgecache_mutation\""),
            ("crates/a/Cargo.toml", "[target.'cfg(edgecache_mutation)'.dependencies]"),
            ("crates/a/build.rs", "println!(\"cargo::rustc-cfg=anything\");"),
            ("crates/a/src/lib.rs", "#[cfg(edgecache_mutation)]"),
            ("crates/a/src/lib.rs", "if cfg!(edgecache_shuttle) {}"),
            ("docker/Dockerfile", "ENV RUSTFLAGS=\"--cfg edgecache_mutation\""),
        ] {
            assert_eq!(found(path, text), 1, "{path}: {text}");
        }
        let flags = [("CARGO_ENCODED_RUSTFLAGS".into(), "--cfg\u{1f}edgecache_mutation".into())];
        assert_eq!(check(&[], &flags).len(), 1);
    }

    #[test]
    fn who_asks_in_the_known_places_is_left_alone() {
        let refusal = "#[cfg(all(edgecache_mutation, not(debug_assertions)))]\ncompile_error!(\"no\");";
        for (path, text) in [
            ("crates/a/src/mutation.rs", refusal),
            ("crates/a/src/sync.rs", "#[cfg(not(edgecache_shuttle))]\n// edgecache_shuttle"),
            ("crates/a/tests/races.rs", "#![cfg(edgecache_shuttle)]"),
            ("crates/a/Cargo.toml", "[target.'cfg(edgecache_shuttle)'.dependencies]"),
            (
                "Cargo.toml",
                "unexpected_cfgs = { level = \"deny\", check-cfg = [\"cfg(edgecache_mutation)\"] }",
            ),
            ("docs/a.md", "`--cfg edgecache_mutation`"),
        ] {
            assert_eq!(found(path, text), 0, "{path}: {text}");
        }
        assert_eq!(
            found("crates/a/src/mutation.rs", "#[cfg(edgecache_mutation)]"),
            1,
            "it could be released"
        );
    }
}
