//! A real PostgreSQL for one test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use tempfile::TempDir;

use crate::launched::Launched;
use crate::process::{pause, resume};
use crate::redis_server::free_ports;
use crate::wait::until;

/// Names the folder with `initdb` and `postgres`, if it is none of those where packages put them.
const FOLDER_VARIABLE: &str = "POSTGRES_BIN_DIR";
/// The user of the database, without a password on loopback.
const USER: &str = "postgres";

/// A real server on a free port of 127.0.0.1, in a folder of its own. It ends with this value.
///
/// Nothing is forced to disk unless [`durable`](PostgresServer::start_durable) was asked for: what a killed *process*
/// has committed survives either way, which is what tests kill.
#[derive(Debug)]
pub struct PostgresServer {
    folder: TempDir,
    port: u16,
    durable: bool,
    running: Option<Launched>,
}

impl PostgresServer {
    /// Starts a server.
    ///
    /// # Panics
    /// If there are no server programs (the message says what to install) or it does not start.
    pub fn start() -> Self {
        Self::start_with(false)
    }

    /// Starts a server that forces each commit to disk, as one in production does: for measurements.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_durable() -> Self {
        Self::start_with(true)
    }

    fn start_with(durable: bool) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut server = Self { folder, port: free_ports(1)[0], durable, running: None };
        server.init();
        for attempt in 0.. {
            match server.launch() {
                Ok(()) => break,
                // Another process may take the port between its choice and its use.
                Err(log) if attempt < 5 && log.contains("Address already in use") => {
                    server.port = free_ports(1)[0];
                }
                Err(log) => panic!("the PostgreSQL server did not start:\n{log}"),
            }
        }
        server
    }

    /// `postgres://` URL of a database. There is `postgres` from the start.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// `postgres://` URL of the database `postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child().id())
    }

    /// Ends the process with SIGKILL: connections break, and what was not committed is gone.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it again on the same port, with all that was committed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn revive(&mut self) {
        self.kill();
        until("the PostgreSQL server starts again", || match self.launch() {
            Ok(()) => true,
            // Children of the killed process are about to notice, and to end.
            Err(log) if log.contains("still in use") || log.contains("Address already in use") => false,
            Err(log) => panic!("the PostgreSQL server did not start again:\n{log}"),
        });
    }

    /// Stops the process that accepts connections (SIGSTOP). Those that are open go on.
    pub fn pause(&self) {
        pause(self.child());
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&self) {
        resume(self.child());
    }

    /// What the server wrote to its log since it was started last.
    pub fn log(&self) -> String {
        self.running.as_ref().map(Launched::log).unwrap_or_default()
    }

    fn child(&self) -> &Child {
        self.running.as_ref().expect("the server runs").child()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn init(&self) {
        let data = self.data();
        std::fs::create_dir(&data).expect("a folder in a folder of ours");
        if is_root() {
            // The server refuses to run as root, so another user must get at the folder.
            run(Command::new("chown").arg(format!("{}:", other_user())).arg(self.folder.path()).arg(&data));
        }
        let mut init = program("initdb");
        init.args(["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "-U", USER]).arg("-D");
        run(init.arg(&data));
    }

    /// Starts the process and reads its log until it is ready; the log is the error.
    fn launch(&mut self) -> Result<(), String> {
        let mut command = program("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        let folder = format!("unix_socket_directories={}", self.folder.path().display());
        let settings = [
            folder.as_str(),
            "listen_addresses=127.0.0.1",
            "max_connections=200",
            "log_min_messages=warning",
            "lc_messages=C",
        ];
        command.args(settings.into_iter().flat_map(|setting| ["-c", setting]));
        if !self.durable {
            command.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
        }
        self.running = Some(Launched::start(command, &["ready to accept connections"])?);
        Ok(())
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("a program that was found starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}:\n{told}", output.status);
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A user that is not root and may own files.
fn other_user() -> &'static str {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let known = |user: &&&str| passwd.lines().any(|line| line.split(':').next() == Some(user));
    ["postgres", "nobody"].iter().find(known).copied().unwrap_or("nobody")
}

/// A program of the server, to be run as somebody who is not root. `setpriv` keeps the process id.
fn program(name: &str) -> Command {
    let path = folder_of_programs().join(name);
    let mut command = match is_root() {
        false => Command::new(path),
        true => {
            let mut command = Command::new("setpriv");
            let user = other_user();
            command.args([format!("--reuid={user}"), "--clear-groups".into(), "--".into()]).arg(path);
            command
        }
    };
    command.current_dir("/");
    command
}

fn folder_of_programs() -> PathBuf {
    let has_both = |folder: &PathBuf| ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file());
    if let Some(folder) = std::env::var_os(FOLDER_VARIABLE) {
        return folder.into();
    }
    let mut folders: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    // Debian keeps them off the PATH, one folder a version.
    let mut versions: Vec<PathBuf> = std::fs::read_dir(Path::new("/usr/lib/postgresql"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    folders.into_iter().find(has_both).unwrap_or_else(|| {
        panic!(
            "these tests need a real PostgreSQL server: install it (Debian: apt-get install postgresql; macOS: \
             brew install postgresql), or name the folder with initdb and postgres in {FOLDER_VARIABLE}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_starts_is_killed_and_comes_back() {
        let mut server = PostgresServer::start();
        let first = server.pid();
        assert!(server.url().starts_with("postgres://postgres@127.0.0.1:"));
        server.revive();
        assert!(server.pid().is_some() && server.pid() != first);
        server.kill();
        assert_eq!(server.pid(), None);
    }
}
