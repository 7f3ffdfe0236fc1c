//! A real Redis for one test.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use tempfile::TempDir;

use crate::launched::Launched;
use crate::process::{pause, resume};
use crate::resp::{self, Reply};

/// Names the server program, if it is not `redis-server` or `valkey-server` on the PATH.
const BINARY_VARIABLE: &str = "REDIS_SERVER_BIN";

/// How a [`RedisServer`] is started.
#[derive(Debug, Clone, Default)]
pub struct RedisServerOptions {
    /// Password of the default user.
    pub password: Option<String>,
    /// Further arguments, for example `--maxmemory 10mb`.
    pub args: Vec<String>,
    /// Serve TLS on a second port as well, with these PEM files: certificate, key, CA.
    pub tls: Option<[PathBuf; 3]>,
    /// Listen here; `None` = on a free port.
    pub port: Option<u16>,
    /// Serve TLS here; `None` = on a free port.
    pub tls_port: Option<u16>,
    /// Files that are put into its folder before the start: name and content.
    pub files: Vec<(String, String)>,
    /// Run as Sentinel, with the file `sentinel.conf` among `files`.
    pub sentinel: bool,
}

/// A real server on a free port of 127.0.0.1, in a folder of its own, without persistence. It ends with this value.
#[derive(Debug)]
pub struct RedisServer {
    options: RedisServerOptions,
    folder: TempDir,
    port: u16,
    tls_port: Option<u16>,
    running: Option<Launched>,
}

impl RedisServer {
    /// Starts a server.
    ///
    /// # Panics
    /// If there is no server program (the message says what to install) or it does not start.
    pub fn start() -> Self {
        Self::start_with(RedisServerOptions::default())
    }

    /// Starts a server with options.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with(options: RedisServerOptions) -> Self {
        match Self::try_start_with(options) {
            Ok(server) => server,
            Err(log) => panic!("the Redis server did not start:\n{log}"),
        }
    }

    /// Starts a server with options; the error is what it wrote to its log.
    pub(crate) fn try_start_with(options: RedisServerOptions) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, content) in &options.files {
            std::fs::write(folder.path().join(name), content).expect("a file in a folder of ours");
        }
        let tls_port = options.tls.as_ref().map(|_| options.tls_port.unwrap_or_else(free_port));
        let fixed = options.port;
        let port = fixed.unwrap_or_else(free_port);
        let mut server = Self { options, folder, port, tls_port, running: None };
        // Another process may take the port between its choice and its use.
        for attempt in 0.. {
            match server.launch() {
                Ok(()) => break,
                Err(log) if attempt < 5 && fixed.is_none() && log.contains("Address already in use") => {
                    server.port = free_port();
                    server.tls_port = server.tls_port.map(|_| free_port());
                }
                Err(log) => return Err(log),
            }
        }
        Ok(server)
    }

    /// Whether the process runs.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Where it listens with TLS.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_port.map(|port| (Ipv4Addr::LOCALHOST, port).into())
    }

    /// Where others are to find it: with TLS where it speaks that.
    pub(crate) fn told_addr(&self) -> SocketAddr {
        self.tls_addr().unwrap_or_else(|| self.addr())
    }

    /// `redis://` URL, with the password.
    pub fn url(&self) -> String {
        match &self.options.password {
            Some(password) => format!("redis://:{password}@{}", self.addr()),
            None => format!("redis://{}", self.addr()),
        }
    }

    /// The folder in which it runs and saves.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the section of `INFO` says about a field; empty if it says nothing, or nobody answers.
    pub fn info(&self, section: &str, field: &str) -> String {
        let told = self.try_command(&[b"INFO", section.as_bytes()]);
        let Ok(Reply::Bytes(text)) = told else { return String::new() };
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    }

    /// The process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child().id())
    }

    /// Sends one command on a new connection.
    ///
    /// # Panics
    /// If there is no answer, or an error.
    pub fn command(&self, parts: &[&str]) -> Reply {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        self.command_bytes(&parts)
    }

    /// Sends one command on a new connection that logs in with this password.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn command_as(&self, password: &str, parts: &[&str]) -> Reply {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        resp::call(self.addr(), &[&[b"AUTH", password.as_bytes()], &parts]).expect("an answer")
    }

    /// Sends one command of bytes on a new connection.
    ///
    /// # Panics
    /// If there is no answer, or an error.
    pub fn command_bytes(&self, parts: &[&[u8]]) -> Reply {
        match self.try_command(parts) {
            Ok(Reply::Error(error)) => panic!("{}: {error}", String::from_utf8_lossy(parts[0])),
            Ok(reply) => reply,
            Err(error) => panic!("{}: {error}", String::from_utf8_lossy(parts[0])),
        }
    }

    /// Sends one command on a new connection.
    ///
    /// # Errors
    /// If there is no answer; an error of the server is an answer.
    pub fn try_command(&self, parts: &[&[u8]]) -> std::io::Result<Reply> {
        match &self.options.password {
            Some(password) => resp::call(self.addr(), &[&[b"AUTH", password.as_bytes()], parts]),
            None => resp::call(self.addr(), &[parts]),
        }
    }

    /// Writes all data to disk; a later [`revive`](Self::revive) finds it as it is now.
    pub fn save(&self) {
        self.command(&["SAVE"]);
    }

    /// Ends the process with SIGKILL: nothing is saved, connections break.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it again on the same port, with the data of the last [`save`](Self::save), if there was one.
    ///
    /// # Panics
    /// If it does not start.
    pub fn revive(&mut self) {
        self.kill();
        if let Err(log) = self.launch() {
            panic!("the Redis server did not start again:\n{log}");
        }
    }

    /// Kills it and starts it without data.
    pub fn restart_empty(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(self.folder.path().join("dump.rdb"));
        self.revive();
    }

    /// Saves, kills, and starts it with its data.
    pub fn restart_with_data(&mut self) {
        self.save();
        self.revive();
    }

    /// Stops the process (SIGSTOP): connections stay open and nothing is answered.
    pub fn pause(&self) {
        pause(self.child());
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&self) {
        resume(self.child());
    }

    fn child(&self) -> &Child {
        self.running.as_ref().expect("the server runs").child()
    }

    /// Starts the process and reads its log until it is ready; the log is the error.
    fn launch(&mut self) -> Result<(), String> {
        let mut command = Command::new(binary());
        if self.options.sentinel {
            command.arg(self.folder.path().join("sentinel.conf")).arg("--sentinel");
        }
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "notice"])
            .arg("--dir")
            .arg(self.folder.path());
        if let Some(password) = &self.options.password {
            command.args(["--requirepass", password]);
        }
        if let (Some([cert, key, ca]), Some(port)) = (&self.options.tls, self.tls_port) {
            command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", "optional"]);
            command.arg("--tls-cert-file").arg(cert).arg("--tls-key-file").arg(key);
            command.arg("--tls-ca-cert-file").arg(ca);
        }
        command.args(&self.options.args);
        self.running = Some(Launched::start(command, &["Ready to accept connections", "Sentinel ID is"])?);
        Ok(())
    }

    /// What the server wrote to its log since it was started last.
    pub fn log(&self) -> String {
        self.running.as_ref().map(Launched::log).unwrap_or_default()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    free_ports(1)[0]
}

/// Ports of which no two are the same.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    // All are held until the last is known.
    let held: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback"))
        .collect();
    held.iter().map(|listener| listener.local_addr().expect("its address").port()).collect()
}

fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os(BINARY_VARIABLE) {
        return path.into();
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let programs = ["redis-server", "valkey-server"];
    std::env::split_paths(&folders)
        .flat_map(|folder| programs.map(|program| folder.join(program)))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!(
                "these tests need a real server: install redis-server or valkey-server (Debian: apt-get install \
                 redis-server; macOS: brew install redis), or name one in {BINARY_VARIABLE}"
            )
        })
}
