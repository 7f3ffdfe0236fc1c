//! A server for the tests: found, installed where that is ours to do, or asked for.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::steps::Command;

const NAMES: [&str; 2] = ["redis-server", "valkey-server"];
/// Debian asks this script before it starts a service; 101 means no.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Finds `redis-server` or `valkey-server`, or installs the former on Debian as root. Starts nothing: each test
/// starts its own servers.
pub(crate) fn find_or_install() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = || NAMES.iter().find_map(|name| on_path(&path, name));
    if let Some(server) = found() {
        // Beside what a command may print as JSON.
        eprintln!("{}", server.display());
        return Ok(());
    }
    if !may_install() {
        bail!(
            "no redis-server and no valkey-server on the PATH. Install one of them, version 7 or later:\n  \
             Debian, Ubuntu: sudo apt-get install redis-server\n  Fedora: sudo dnf install valkey\n  \
             macOS: brew install redis"
        );
    }
    install("redis-server")?;
    let server = found().context("redis-server was installed, but it is not on the PATH")?;
    println!("{}", server.display());
    Ok(())
}

/// Installs a package on Debian as root. Its service is not started.
pub(crate) fn install(package: &str) -> Result<()> {
    let _quiet = NoServices::begin()?;
    Command::new("apt-get", ["update"]).run()?;
    Command::new("apt-get", ["install", "-y", "--no-install-recommends", package])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run()
}

/// While it lives, packages do not start their services.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        if Path::new(POLICY).exists() {
            // The machine has a policy of its own, usually the same one (containers).
            return Ok(Self { ours: false });
        }
        std::fs::write(POLICY, "#!/bin/sh\nexit 101\n").context(POLICY)?;
        Command::new("chmod", ["755", POLICY]).run()?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = std::fs::remove_file(POLICY)
        {
            eprintln!("{POLICY} stayed behind: {error}");
        }
    }
}

/// Whether packages are ours to install: on Debian, as root.
pub(crate) fn may_install() -> bool {
    Path::new("/etc/debian_version").exists() && is_root()
}

fn is_root() -> bool {
    let output = std::process::Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

pub(crate) fn on_path(path: &std::ffi::OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_the_path_alone() {
        let path = std::env::join_paths(["/nowhere", "/bin", "/usr/bin"]).unwrap();
        assert!(on_path(&path, "sh").is_some());
        assert_eq!(on_path(&path, "no-such-program-anywhere"), None);
        assert_eq!(on_path("".as_ref(), "sh"), None);
    }
}
