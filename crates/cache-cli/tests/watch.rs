//! Following events, and asking for those of late: what comes, in which form, and what happens when the stream is lost.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus};

use cache_testkit::RedisServer;
use serde_json::{Value, json};
use support::{Running, at_terminal, cachectl, command};

/// A `cachectl watch` that runs.
struct Watching {
    child: Child,
    out: BufReader<ChildStdout>,
    notes: BufReader<ChildStderr>,
}

impl Watching {
    /// Returns once it follows the first node.
    fn start(nodes: &[&Running], arguments: &[&str]) -> Self {
        let mut all: Vec<&str> = nodes.iter().flat_map(|node| ["--node", node.url.as_str()]).collect();
        all.push("watch");
        all.extend(arguments);
        let mut child = command(&all).spawn().expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let notes = BufReader::new(child.stderr.take().expect("piped"));
        let mut watching = Self { child, out, notes };
        watching.noted("following");
        watching
    }

    /// Waits for a note.
    fn noted(&mut self, what: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.notes.read_line(&mut line).expect("text") > 0, "never noted {what}");
            if line.contains(what) {
                return line;
            }
        }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("text");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn end(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.notes.read_to_string(&mut rest).expect("text");
        (self.child.wait().expect("it ends"), rest)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn invalidate(node: &Running, tag: &str) {
    node.ask(&["invalidate", "--tag", tag, "--reason", "a test"]).good();
}

#[test]
fn changes_are_followed_as_lines_of_json_and_filtered() {
    let node = Running::start(&[]);
    let mut all = Watching::start(&[&node], &["--count", "2"]);
    let mut of_type = Watching::start(&[&node], &["--cache-type", "inventory", "--count", "1"]);
    node.ask(&["invalidate", "session", "s", "--reason", "a test"]).good();
    node.ask(&["put", "inventory", "w", "--value", "1"]).good();
    let first = all.line();
    assert_eq!((&first["event"], &first["data"]["reason"]), (&json!("change"), &json!("a test")), "{first}");
    assert_eq!(first["data"]["event_type"], "manual_invalidation");
    let second = all.line();
    assert_ne!(second["data"]["position"], first["data"]["position"]);
    assert_eq!(of_type.line(), second, "the other cache type does not matter");
    for watching in [all, of_type] {
        let (status, rest) = watching.end();
        assert!(status.success(), "{rest}");
    }
    // The same events, of late, newest first; and from a position on.
    let late = node.ask(&["events", "--limit", "2"]).good();
    assert_eq!(late["events"][1], first["data"], "{late}");
    let position = first["data"]["position"].as_str().expect("text").to_owned();
    let mut again = Watching::start(&[&node], &["--since", &position, "--count", "1"]);
    assert_eq!(again.line(), second);
    drop(again);
    let table = node.ask(&["--table", "events"]);
    assert!(table.out.contains("manual_invalidation") && table.out.contains("POSITION"), "{table:?}");
}

#[test]
fn a_lost_stream_goes_on_at_the_next_node_without_a_gap() {
    let redis = RedisServer::start();
    let node = |name: &str| Running::start(&[("REDIS_URL", &redis.url()), ("EDGE_NODE_ID", name)]);
    let (a, b) = (node("a"), node("b"));
    let mut watching = Watching::start(&[&a, &b], &["--count", "2"]);
    invalidate(&b, "first");
    let first = watching.line();
    assert_eq!(first["data"]["source_node"], "b");
    drop(a);
    let lost = watching.noted("connecting again");
    assert!(lost.contains("http://"), "{lost}");
    // Perhaps before it follows again: then the memory of the other node has it.
    invalidate(&b, "second");
    let second = watching.line();
    assert!(second["data"]["scopes"].to_string().contains("second"), "{second}");
    let (status, rest) = watching.end();
    assert!(status.success() && rest.contains(&b.url), "{rest}");
}

#[test]
fn what_cannot_be_followed_is_told_by_the_exit_code() {
    let node = Running::start(&[("CACHE_AUTH_TOKEN", "secret")]);
    assert_eq!(node.ask(&["watch"]).code, 4);
    let as_me = |arguments: &[&str]| node.ask(&[&["--token", "secret", "watch"], arguments].concat());
    assert_eq!(as_me(&["--cache-type", "gpu_prices"]).code, 2);
    assert_eq!(as_me(&["--since", "yesterday"]).code, 2);
    assert_eq!(cachectl(&["--node", "http://127.0.0.1:1", "watch"]).code, 3);
    let one = Running::start(&[]);
    let mut watching = Watching::start(&[&one], &["--once"]);
    drop(one);
    let told = watching.noted("--once");
    assert!(told.contains("connects again"), "{told}");
    assert_eq!(watching.end().0.code(), Some(3));
}

#[test]
fn a_terminal_sees_a_line_for_each_change() {
    let node = Running::start(&[]);
    invalidate(&node, "first");
    let position = node.ask(&["events"]).good()["events"][0]["position"].as_str().expect("text").to_owned();
    invalidate(&node, "second");
    let (code, seen) =
        at_terminal(command(&["--node", &node.url, "watch", "--since", &position, "--count", "1"]), "");
    assert!(code == 0 && seen.contains("manual_invalidation") && seen.contains("(a test)"), "{seen}");
}
