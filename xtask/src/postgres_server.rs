//! The programs of PostgreSQL for the tests: found, installed where that is ours to do, or asked for.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::redis_server::{install, may_install, on_path};

/// As the testkit looks for them.
const FOLDER_VARIABLE: &str = "POSTGRES_BIN_DIR";
/// Where Debian keeps them, one folder a version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Finds `postgres`, or installs it on Debian as root. Starts nothing: each test starts its own servers.
pub(crate) fn find_or_install() -> Result<()> {
    if let Some(server) = found() {
        eprintln!("{}", server.display());
        return Ok(());
    }
    if !may_install() {
        bail!(
            "no PostgreSQL server programs. Install version 13 or later, or name their folder in {FOLDER_VARIABLE}:\n  \
             Debian, Ubuntu: sudo apt-get install postgresql\n  Fedora: sudo dnf install postgresql-server\n  \
             macOS: brew install postgresql"
        );
    }
    install("postgresql")?;
    let server = found().context("postgresql was installed, but postgres is nowhere to be found")?;
    println!("{}", server.display());
    Ok(())
}

fn found() -> Option<PathBuf> {
    let named = std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(folder) = named {
        return Some(folder.join("postgres")).filter(|file| file.is_file());
    }
    let versions = std::fs::read_dir(VERSIONS).into_iter().flatten();
    on_path(&path, "postgres").or_else(|| {
        let files = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin/postgres")));
        files.filter(|file| file.is_file()).max()
    })
}
