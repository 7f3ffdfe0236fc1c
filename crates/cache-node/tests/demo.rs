//! The demo as a user runs it: what it prints, what it finds, and how it ends.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use cache_testkit::RedisServer;
use serde_json::Value;

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cache-node"))
        .arg("demo")
        .args(arguments)
        .env_remove("REDIS_URL")
        .output()
        .expect("the binary runs")
}

fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim()).unwrap_or_else(|error| {
        panic!("one JSON object and nothing else, not {text:?}: {error}\n{}", stderr(output))
    })
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn number(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("{field} in {report}"))
}

/// What must hold of every run without a broken guard.
fn coherent(output: &Output, transport: &str) -> Value {
    let report = report(output);
    assert_eq!(output.status.code(), Some(0), "{report}\n{}", stderr(output));
    assert_eq!(report["transport"], transport);
    for field in ["lost_events", "wrong_at_end", "stale_reads", "errors"] {
        assert_eq!(number(&report, field), 0, "{field} in {report}");
    }
    assert_eq!(report["bookings"]["double"], 0);
    let published = number(&report, "events_published");
    assert!(published > 0 && number(&report, "reads") > 1_000, "{report}");
    let applied = report["events_applied"].as_object().expect("an object");
    assert_eq!(applied.len() as u64, number(&report, "nodes"));
    for (node, events) in applied {
        assert_eq!(events.as_u64(), Some(published), "{node} applied every event once: {report}");
    }
    for figure in ["p50", "p99", "p999", "max"] {
        assert!(report["propagation_ms"][figure].as_f64().is_some_and(|ms| ms > 0.0), "{report}");
    }
    report
}

#[test]
fn an_embedded_run_is_coherent() {
    let output = demo(&["--json", "--seconds", "3"]);
    let report = coherent(&output, "embedded");
    let nodes: Vec<&String> = report["events_applied"].as_object().expect("an object").keys().collect();
    assert_eq!(nodes, ["europe-1", "us-east-1", "us-west-1"]);
    assert!(report["bookings"]["attempted"].as_u64() > Some(0), "{report}");
    assert!(report["l1_hit_ratio"].as_f64() > Some(0.5), "{report}");
}

#[test]
fn a_run_on_redis_at_full_speed_is_coherent_and_leaves_nothing_behind() {
    let server = RedisServer::start();
    let feed = feed(&[
        "2025-10-19T21:01:58Z,H100,vultr,4,1.65,1.7,US",
        "2025-10-19T21:01:58Z,A100,runpod,9,1.05,1.1,DE|FR",
        "2025-10-19T21:31:58Z,H100,vultr,3,1.75,1.8,US",
        "2025-10-19T21:31:58Z,A100,runpod,0,,,",
        "2025-10-19T22:01:58Z,A100,runpod,7,1.05,1.1,DE|FR",
    ]);
    let path = feed.path().to_str().expect("UTF-8");
    let arguments = ["--json", "--seconds", "3", "--speed", "max", "--feed", path, "--redis", &server.url()];
    let report = coherent(&demo(&arguments), "redis");
    assert!(number(&report, "events_published") > 100, "the short feed is repeated: {report}");
    assert_eq!(format!("{:?}", server.command(&["DBSIZE"])), "Int(0)");
}

#[test]
fn a_feed_is_replayed_once_in_its_own_time() {
    let feed = feed(&[
        "2025-10-19T21:01:58Z,H100,vultr,4,1.65,1.7,US",
        "2025-10-19T21:01:58Z,A100,runpod,9,1.05,1.1,DE|FR",
        "2025-10-20T03:31:58Z,H100,vultr,3,1.75,1.8,US",
        "2025-11-08T21:01:58Z,A100,runpod,7,1.05,1.1,DE|FR",
    ]);
    let path = feed.path().to_str().expect("UTF-8");
    let report = coherent(&demo(&["--json", "--once", "--speed", "max", "--feed", path]), "embedded");
    // Two offers are new, one has another price and number, one another number: five changes, and what readers booked.
    let bookings = &report["bookings"];
    let made = bookings["created"].as_u64().expect("a count");
    assert!((5..=5 + 4 * made).contains(&number(&report, "events_published")), "{report}");
    assert!(number(&report, "compared_at_end") > 3 * 13, "{report}");
}

#[test]
fn nodes_that_miss_events_are_found() {
    let output = demo(&["--json", "--seconds", "4", "--break", "drop-events"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let report = report(&output);
    assert!(number(&report, "stale_reads") > 0 && number(&report, "wrong_at_end") > 0, "{report}");
}

#[test]
fn fills_without_a_fence_are_found() {
    let output = demo(&["--json", "--seconds", "6", "--speed", "400", "--break", "plain-fill"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let report = report(&output);
    assert!(number(&report, "stale_reads") + number(&report, "wrong_at_end") > 0, "{report}");
}

#[test]
fn a_bad_line_is_told_with_its_number_and_skipped() {
    let feed = feed(&[
        "2025-10-19T21:01:58Z,H100,vultr,4,1.65,1.7,US",
        "yesterday,H100,vultr,4,1.65,1.7,US",
        "2025-10-19T21:01:58Z,H100,vultr,many,1.65,1.7,US",
        "2025-10-19T21:31:58Z,H100,vultr,5,1.65,1.7,US",
    ]);
    let output = demo(&["--json", "--seconds", "1", "--feed", feed.path().to_str().expect("UTF-8")]);
    let report = coherent(&output, "embedded");
    assert_eq!(number(&report, "bad_feed_lines"), 2);
    let told = stderr(&output);
    assert!(told.contains("line 3") && told.contains("line 4"), "{told}");
}

#[test]
fn what_cannot_run_says_why_and_ends_with_2() {
    let no_offers = feed(&["nonsense"]);
    let cases: [(&[&str], &str); 4] = [
        (&["--feed", "/no/such/file.csv"], "/no/such/file.csv"),
        (&["--feed", no_offers.path().to_str().expect("UTF-8")], "no usable line"),
        (&["--redis", "redis://127.0.0.1:1"], "127.0.0.1:1"),
        (&["--redis", "http://example"], "redis"),
    ];
    for (arguments, named) in cases {
        let output = demo(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(named), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
}

fn feed(lines: &[&str]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    let heading = "ts,gpu_model,provider,offers,min_usd_per_gpu_hour,avg_usd_per_gpu_hour,regions";
    writeln!(file, "{heading}\n{}", lines.join("\n")).expect("written");
    file
}

#[test]
fn with_ui_every_node_serves_its_dashboard_during_the_run_and_after_it() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cache-node"))
        .args(["demo", "--ui", "--json", "--seconds", "3", "--nodes", "2"])
        .env_remove("REDIS_URL")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let told = BufReader::new(child.stderr.take().expect("piped")).lines();
    let urls: Vec<String> = told
        .map_while(Result::ok)
        .filter_map(|line| Some(line.split_once(": http")?.1.to_owned()))
        .map(|rest| format!("http{rest}"))
        .take(2)
        .collect();
    assert_eq!(urls.len(), 2, "{urls:?}");
    let read = |url: &str| {
        let mut answer = ureq::get(url).call().unwrap_or_else(|error| panic!("{url}: {error}"));
        answer.body_mut().read_to_string().expect("text")
    };
    let looked_at = |url: &String| {
        assert!(read(url).contains("<title>edgecache</title>"), "{url}");
        let stats: Value = serde_json::from_str(&read(&url.replace("/ui/", "/cache/stats"))).expect("JSON");
        stats["cache_hits"].as_u64().expect("a count")
    };
    for url in &urls {
        looked_at(url);
    }
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a report");
    let report: Value = serde_json::from_str(&line).expect(&line);
    for field in ["lost_events", "wrong_at_end", "stale_reads", "errors"] {
        assert_eq!(number(&report, field), 0, "{field} in {report}");
    }
    // The run is over, and its figures can still be looked at.
    assert!(urls.iter().all(|url| looked_at(url) > 100));
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "the run was coherent");
}
