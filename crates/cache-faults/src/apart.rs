//! A node in a process of its own, which can be stopped and killed: this program, started once more.
//!
//! It is asked by lines on its standard input, `<id> get <number>` or `<id> live`, and answers `<id> <answer>`. What it
//! loads comes from the file of the source (`source.rs`). It ends with its input.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use cache_testkit::{pause, resume};
use cache_tiered::{CoarseClock, Loaded, TieredCache};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::deployment::{Setup, connected};
use crate::keys::{handle, key, tag};
use crate::mutation::this_program;
use crate::source::Copy;

/// Questions that wait.
const ASKED_MAX: usize = 4_096;

/// A node elsewhere. Its process ends with this value.
pub struct Apart {
    child: Mutex<Child>,
    asks: Mutex<ChildStdin>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<String>>>>,
    asked: AtomicU64,
    listener: Option<JoinHandle<()>>,
}

impl Apart {
    /// Starts one on these servers. A load there takes up to so many milliseconds.
    ///
    /// # Errors
    /// If the program cannot be started once more.
    pub fn start(url: &str, source: &Path, load_ms_max: u64) -> anyhow::Result<Self> {
        let mut command = this_program()?;
        command.args(["--node", url, "--load-ms", &load_ms_max.to_string(), "--source"]).arg(source);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let asks = child.stdin.take().context("its input is piped")?;
        let answers = child.stdout.take().context("its output is piped")?;
        let waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<String>>>> = Arc::default();
        let listening = waiting.clone();
        let listener = std::thread::spawn(move || {
            for line in BufReader::new(answers).lines().map_while(Result::ok) {
                let Some((id, answer)) = line.split_once(' ') else { continue };
                let asker = id.parse().ok().and_then(|id: u64| listening.lock().remove(&id));
                // Who asked may have gone.
                asker.map(|asker| asker.send(answer.to_owned()));
            }
            // Nobody will answer any more.
            listening.lock().clear();
        });
        let child = Mutex::new(child);
        Ok(Self {
            child,
            asks: Mutex::new(asks),
            waiting,
            asked: AtomicU64::new(0),
            listener: Some(listener),
        })
    }

    async fn ask(&self, what: &str) -> Option<String> {
        let id = self.asked.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().insert(id, sender);
        writeln!(self.asks.lock(), "{id} {what}").ok()?;
        answer.await.ok()
    }

    /// The version of a key as that node sees it; `None` if it has no answer or is no more.
    pub async fn get(&self, number: usize) -> Option<u64> {
        self.ask(&format!("get {number}")).await?.parse().ok()
    }

    /// Whether it is live.
    pub async fn live(&self) -> bool {
        self.ask("live").await.as_deref() == Some("true")
    }

    /// Stops its process.
    pub fn pause(&self) {
        pause(&self.child.lock());
    }

    /// Lets its process go on.
    pub fn resume(&self) {
        resume(&self.child.lock());
    }

    /// Ends its process with SIGKILL.
    pub fn kill(&self) {
        let mut child = self.child.lock();
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.kill();
        self.listener.take().map(JoinHandle::join);
    }
}

/// Is such a node, until the input ends.
///
/// # Errors
/// If it cannot start.
pub async fn be_node(url: &str, source: &Path, load_ms_max: u64) -> anyhow::Result<()> {
    let source = Arc::new(Copy::open(source)?);
    let node = connected(url, "node-apart", &Setup::default(), Arc::new(CoarseClock::new()))?;
    let (sender, mut asks) = mpsc::channel(ASKED_MAX);
    // Ends with the process: nothing interrupts a read of the standard input.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let mut answering = JoinSet::new();
    while let Some(line) = asks.recv().await {
        while answering.try_join_next().is_some() {}
        answering.spawn(answer(node.clone(), source.clone(), load_ms_max, line));
    }
    node.stop().await;
    Ok(())
}

async fn answer(node: TieredCache, source: Arc<Copy>, load_ms_max: u64, line: String) {
    let mut words = line.split(' ');
    let (Some(id), Some(verb)) = (words.next(), words.next()) else { return };
    let answer = match (verb, words.next().and_then(|number| number.parse().ok())) {
        ("get", Some(number)) => {
            let load = move || async move {
                let version = source.version(number).map_err(|error| error.to_string())?;
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=load_ms_max.max(1)))).await;
                Ok(Loaded::new(version).versioned(cache_events::Version(version)).tagged(tag(number)))
            };
            let answer = handle(&node).get_or_load(&key(number), load).await;
            let version = answer.ok().and_then(|answer| answer.value);
            version.map_or("none".to_owned(), |version| version.to_string())
        }
        _ => node.health().live.to_string(),
    };
    // If nobody listens, the input ends soon.
    let _ = writeln!(std::io::stdout().lock(), "{id} {answer}");
}
