//! A browser for the tests of the dashboard: found, installed where that is ours to do, or asked for.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::redis_server::{install, may_install, on_path};

/// As the testkit looks for it.
const BINARY_VARIABLE: &str = "CHROMIUM_BIN";
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

/// Finds a Chromium, or installs it on Debian as root. Starts nothing: each test starts its own.
pub(crate) fn find_or_install() -> Result<()> {
    if let Some(program) = found() {
        eprintln!("{}", program.display());
        return Ok(());
    }
    if !may_install() {
        bail!(
            "no Chromium. Install it, or name the program in {BINARY_VARIABLE}:\n  \
             Debian: sudo apt-get install chromium\n  Fedora: sudo dnf install chromium\n  macOS: brew install chromium"
        );
    }
    install("chromium")?;
    let program = found().context("chromium was installed, but it is not on the PATH")?;
    println!("{}", program.display());
    Ok(())
}

fn found() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(BINARY_VARIABLE) {
        return Some(PathBuf::from(named)).filter(|file| file.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    NAMES.iter().find_map(|name| on_path(&path, name))
}
