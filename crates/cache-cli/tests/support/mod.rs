//! Nodes to be asked, and the real program that asks them.
#![allow(dead_code, reason = "each test crate uses its part")]

#[path = "../../../cache-node/tests/support/started.rs"]
mod started;

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use cache_node::node::Node;
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

pub(crate) use started::{LONG, stopwatch};
use started::{Started, configured};

/// A node in this process.
pub(crate) struct Running {
    pub(crate) url: String,
    _node: Started,
}

impl Running {
    pub(crate) fn start(env: &[(&str, &str)]) -> Self {
        Self::start_with(env, None)
    }

    pub(crate) fn start_with(env: &[(&str, &str)], file: Option<PathBuf>) -> Self {
        let running = Self::start_unasked(env, file);
        running.until(&["health"], "a healthy node", |ran| ran.code == 0);
        running
    }

    /// One that may not answer who has nothing to show.
    pub(crate) fn start_unasked(env: &[(&str, &str)], file: Option<PathBuf>) -> Self {
        let (node, ()) = Started::keeping(Node::start(configured(env, file)), |_| ());
        Self { url: node.url.clone(), _node: node }
    }

    /// Asks this node.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Ran {
        cachectl(&[&["--node", self.url.as_str()], arguments].concat())
    }

    /// Asks until the answer is as wanted.
    pub(crate) fn until(&self, arguments: &[&str], what: &str, wanted: impl Fn(&Ran) -> bool) -> Ran {
        let began = stopwatch();
        loop {
            let ran = self.ask(arguments);
            if wanted(&ran) {
                return ran;
            }
            assert!(began.elapsed() < LONG, "{arguments:?} never showed {what}; last was {ran:?}");
        }
    }
}

/// What a run of the program left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// The one JSON document that it wrote.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The same, of a run that found nothing wrong.
    pub(crate) fn good(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        self.json()
    }
}

/// The program, in an environment without settings of this machine.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cachectl"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("NO_COLOR");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CACHECTL_") {
            command.env_remove(name);
        }
    }
    command
}

pub(crate) fn cachectl(arguments: &[&str]) -> Ran {
    ran(command(arguments))
}

pub(crate) fn ran(mut command: Command) -> Ran {
    let output = command.output().expect("the binary starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let code = output.status.code().expect("it ends by itself");
    Ran { code, out: text(output.stdout), err: text(output.stderr) }
}

/// Runs the program at a terminal at which this is typed. Answers the exit code and what was seen.
pub(crate) fn at_terminal(mut command: Command, typed: &str) -> (i32, String) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
    grantpt(&ours).expect("ours");
    unlockpt(&ours).expect("unlocked");
    let name = ptsname(&ours, Vec::new()).expect("a name");
    let theirs = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("its other side");
    let theirs = File::from(theirs);
    let side = || Stdio::from(theirs.try_clone().expect("a handle"));
    let mut child: Child = command.stdin(side()).stdout(side()).stderr(side()).spawn().expect("it starts");
    // The command holds handles too; the last one to go ends the reading.
    drop((command, theirs));
    let mut ours = File::from(ours);
    ours.write_all(typed.as_bytes()).expect("it is typed");
    let mut seen = Vec::new();
    // Linux says EIO where the other side is gone.
    let _ = ours.read_to_end(&mut seen);
    let code = child.wait().expect("it ends").code().expect("by itself");
    (code, String::from_utf8_lossy(&seen).into_owned())
}
