//! A client, and nodes to be asked: in this process or in one of their own.
#![allow(dead_code, reason = "each test crate uses its part")]

mod started;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use cache_marketplace::{Ledger, MemoryLedger};
use cache_node::assembly::Shared;
use cache_node::config::NodeConfig;
use cache_node::node::Node;
use cache_tiered::TieredCache;
use serde_json::Value;
use ureq::Agent;

pub(crate) use started::{LONG, Started, configured, stopwatch};

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: ureq::http::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The field that the error names.
    pub(crate) fn field(&self) -> &str {
        self.body["field"].as_str().unwrap_or_default()
    }

    /// What the problem says is wrong.
    pub(crate) fn error(&self) -> String {
        self.body["detail"].as_str().unwrap_or_default().to_owned()
    }
}

/// A client of one node.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
}

impl Client {
    pub(crate) fn new(base: &str) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(LONG)).build();
        Self { agent: config.new_agent(), base: base.to_owned(), token: None }
    }

    /// A client over TLS that trusts the authorities in a PEM file alone.
    pub(crate) fn trusting(base: &str, ca: &Path) -> Self {
        let pem = std::fs::read(ca).expect("a CA");
        let roots: Vec<_> = ureq::tls::parse_pem(&pem)
            .filter_map(|item| match item {
                Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        let tls = ureq::tls::TlsConfig::builder()
            .root_certs(ureq::tls::RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(LONG));
        let agent = config.tls_config(tls.build()).build().new_agent();
        Self { agent, base: base.to_owned(), token: None }
    }

    /// The same node over new connections.
    pub(crate) fn fresh(&self) -> Self {
        Self::new(&self.base)
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        self.base.split_once("://").map_or(&self.base, |(_, address)| address)
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub(crate) fn try_ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, ureq::Error> {
        self.run(method, path, headers, body, |text| serde_json::from_str(text).expect(text))
    }

    fn run(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
        read: impl Fn(&str) -> Value,
    ) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut response = match body {
            Some(body) => self.agent.run(request.body(body).expect("a request"))?,
            None => self.agent.run(request.body(()).expect("a request"))?,
        };
        let is_stream =
            response.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream");
        // A stream has no end.
        let text = if is_stream { String::new() } else { response.body_mut().read_to_string()? };
        let body = if text.is_empty() { Value::Null } else { read(&text) };
        Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), body })
    }

    /// Asks a route that may answer anything but JSON.
    pub(crate) fn ask_text(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        // Over a connection of its own: one whose body nobody read is closed behind the answer.
        let alone = Self { token: self.token.clone(), ..self.fresh() };
        alone
            .run(method, path, headers, body, |text| serde_json::from_str(text).unwrap_or(Value::Null))
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Answer {
        self.try_ask(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], None)
    }

    /// An answer that is no JSON: its status and its body.
    pub(crate) fn text(&self, path: &str) -> (u16, String) {
        let mut response = self.agent.get(format!("{}{path}", self.base)).call().expect(path);
        (response.status().as_u16(), response.body_mut().read_to_string().expect(path))
    }

    pub(crate) fn put(&self, path: &str, value: &Value) -> Answer {
        self.ask("PUT", path, &[], Some(value.to_string().as_bytes()))
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, &[], None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[], Some(body.to_string().as_bytes()))
    }

    /// Asks until the answer is as wanted; panics with the last one if it never is. Says how long it took.
    pub(crate) fn until(&self, path: &str, what: &str, wanted: impl Fn(&Answer) -> bool) -> Duration {
        let began = stopwatch();
        loop {
            let last = match self.try_ask("GET", path, &[], None) {
                Ok(answer) if wanted(&answer) => return began.elapsed(),
                other => other,
            };
            assert!(began.elapsed() < LONG, "{path} never showed {what}; the last answer was {last:?}");
            std::thread::yield_now();
        }
    }

    /// Opens a stream of server-sent events; the answer where it is refused.
    pub(crate) fn stream(&self, path: &str, headers: &[(&str, &str)]) -> Result<Sse, Box<Answer>> {
        let config = Agent::config_builder().http_status_as_error(false).build();
        let mut request = ureq::http::Request::builder().uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(()).expect("a request");
        let mut response = config.new_agent().run(request).expect("an answer");
        if response.status() != 200 {
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let text = response.body_mut().read_to_string().expect("a body");
            let body = serde_json::from_str(&text).expect(&text);
            return Err(Box::new(Answer { status, headers, body }));
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let (told, lines) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let lines = BufReader::new(response.into_body().into_reader()).lines();
            // Ends with the stream, or when nobody wants to hear more.
            for line in lines.map_while(Result::ok) {
                if told.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Sse { lines })
    }

    pub(crate) fn until_status(&self, status: &str) {
        self.until("/health", status, |answer| answer.body["status"] == status);
    }
}

/// A stream of server-sent events.
pub(crate) struct Sse {
    lines: std::sync::mpsc::Receiver<String>,
}

/// One of them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct SseEvent {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: Value,
}

impl Sse {
    /// The next event; `None` when the stream has ended.
    pub(crate) fn next(&self) -> Option<SseEvent> {
        let mut event = SseEvent::default();
        loop {
            let line = match self.lines.recv_timeout(LONG) {
                Ok(line) => line,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return None,
                Err(error) => panic!("nothing came: {error}"),
            };
            match line.split_once(": ") {
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("event", name)) => event.event = name.to_owned(),
                Some(("data", data)) => event.data = serde_json::from_str(data).expect(data),
                _ if line.is_empty() && !event.event.is_empty() => return Some(event),
                _ => {}
            }
        }
    }

    /// The next event, which must be a change.
    pub(crate) fn change(&self) -> SseEvent {
        let event = self.next().expect("the stream goes on");
        assert_eq!(event.event, "change", "{event:?}");
        event
    }
}

/// The configuration that a file of this text says.
pub(crate) fn config(text: &str) -> NodeConfig {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    std::fs::write(&file, text).expect("written");
    configured(&[], Some(file))
}

/// A node in this process, over an embedded server. Ends with this value.
pub(crate) struct InProcess {
    pub(crate) node: Started,
    pub(crate) cache: TieredCache,
    pub(crate) client: Client,
}

impl InProcess {
    pub(crate) fn start(config: NodeConfig) -> Self {
        Self::run(Node::start(config)).well()
    }

    /// One that would not answer this client.
    pub(crate) fn start_unasked(config: NodeConfig) -> Self {
        Self::run(Node::start(config))
    }

    /// One with this ledger.
    pub(crate) fn start_on(config: NodeConfig, ledger: Arc<dyn Ledger>) -> Self {
        Self::run(Node::start_on(config, ledger)).well()
    }

    /// One over parts of the test's, with a ledger in memory.
    pub(crate) fn start_over(config: NodeConfig, shared: Shared) -> Self {
        Self::run(Node::start_over(config, Arc::new(MemoryLedger::new()), shared)).well()
    }

    fn run(starting: impl Future<Output = anyhow::Result<Node>>) -> Self {
        let (node, cache) = Started::keeping(starting, |node| node.cache().clone());
        let client = Client::new(&node.url);
        Self { node, cache, client }
    }

    fn well(self) -> Self {
        self.client.until_status("healthy");
        self
    }
}

/// A `cache-node serve` in a process of its own. Ends with this value.
pub(crate) struct Serving {
    child: Child,
    pub(crate) client: Client,
    pub(crate) base: String,
    said: Arc<Mutex<String>>,
    log: Option<JoinHandle<()>>,
}

impl Serving {
    pub(crate) fn start(env: &[(&str, &str)]) -> Self {
        Self::start_with(&["--listen", "127.0.0.1:0"], env)
    }

    pub(crate) fn start_with(arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let mut child = command(arguments, env).spawn().expect("the binary starts");
        let mut errors = BufReader::new(child.stderr.take().expect("piped"));
        let said = Arc::new(Mutex::new(String::new()));
        let log = std::thread::spawn({
            let said = said.clone();
            move || {
                let mut line = String::new();
                while errors.read_line(&mut line).is_ok_and(|read| read > 0) {
                    said.lock().expect("nobody panics here").push_str(&line);
                    line.clear();
                }
            }
        });
        let mut line = String::new();
        let _ = BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line);
        let Some(base) = line.trim().strip_prefix("listening on ") else {
            let _ = child.kill();
            log.join().expect("a log");
            panic!("said {line:?} instead of where it listens: {}", said.lock().expect("whole"));
        };
        Self { client: Client::new(base), base: base.to_owned(), child, said, log: Some(log) }
    }

    /// Waits until its log says something.
    pub(crate) fn until_log(&self, text: &str) {
        let began = stopwatch();
        loop {
            let said = self.said.lock().expect("whole").clone();
            if said.contains(text) {
                return;
            }
            assert!(began.elapsed() < LONG, "the log never said {text:?}: {said}");
            std::thread::yield_now();
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it read its configuration again (SIGHUP), which it does some time later.
    pub(crate) fn hang_up(&self) {
        let sent = Command::new("kill").args(["-HUP", &self.pid().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        let _ = self.child.wait();
    }

    /// Sends SIGTERM and waits; gives the exit status and the log.
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        let sent = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().expect("kill runs");
        assert!(sent.success());
        let status = self.child.wait().expect("it ends");
        if let Some(log) = self.log.take() {
            log.join().expect("a log");
        }
        (status, self.said.lock().expect("whole").clone())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command, in an environment without settings of this machine.
pub(crate) fn command(arguments: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cache-node"));
    // What nodes share is a Redis at most, unless the test names a database.
    if !env.iter().any(|(name, _)| *name == "DATABASE_URL") {
        command.arg("serve").arg("--allow-private-ledger");
    } else {
        command.arg("serve");
    }
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["REDIS_", "CACHE_", "EDGE_NODE_", "DATABASE_URL", "OTEL_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    command.envs(env.iter().copied());
    command
}
