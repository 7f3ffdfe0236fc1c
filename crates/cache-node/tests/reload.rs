//! SIGHUP: the configuration is read again, all of it is checked, and what can change does.

mod support;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use support::Serving;
use tempfile::TempDir;

/// A node whose configuration file the test writes.
struct Reloading {
    node: Serving,
    file: PathBuf,
    _folder: TempDir,
}

impl Reloading {
    fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("node.toml");
        std::fs::write(&file, config).expect("written");
        let path = file.display().to_string();
        let node = Serving::start_with(&["--listen", "127.0.0.1:0", "--config", &path], &[]);
        Self { node, file, _folder: folder }
    }

    /// Writes another configuration and sends SIGHUP; the node reads it some time later.
    fn reload(&self, config: &str) {
        std::fs::write(&self.file, config).expect("written");
        self.node.hang_up();
    }
}

fn tokens(list: &[(&str, &str, &str)]) -> String {
    let table = |(name, token, scope): &(&str, &str, &str)| {
        format!("[[auth.tokens]]\nname = \"{name}\"\ntoken = \"{token}\"\nscopes = [\"{scope}\"]\n")
    };
    list.iter().map(table).collect()
}

#[test]
fn tokens_limits_and_lifetimes_change_in_a_node_that_runs() {
    let old = tokens(&[("first", "one", "admin")]);
    let running = Reloading::start(&old);
    let (first, second) = (running.node.client.with_token("one"), running.node.client.with_token("two"));
    assert_eq!(first.put("/cache/session/s", &json!("x".repeat(2_000))).status, 200);
    assert_eq!(second.get("/cache/session/s").status, 401);

    let config = format!(
        "{}[cache]\nbody_bytes_max = 1000\n[namespaces.session]\nttl = \"300ms\"\n",
        tokens(&[("second", "two", "write"), ("reader", "three", "read")])
    );
    running.reload(&config);
    second.until("/cache/stats", "another token", |answer| answer.status == 403);
    assert_eq!(first.get("/cache/session/s").status, 401, "the old one is gone");
    let reader = running.node.client.with_token("three");
    assert_eq!(reader.get("/cache/session/s").status, 200, "what was there keeps its lifetime");
    assert_eq!(reader.put("/cache/session/s", &json!(1)).status, 403);
    assert_eq!(second.put("/cache/session/s", &json!("x".repeat(2_000))).status, 413);
    assert_eq!(second.put("/cache/session/brief", &json!(1)).status, 200);
    let took = reader.until("/cache/session/brief", "nothing", |answer| answer.status == 404);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_wrong_configuration_changes_nothing_and_all_its_errors_are_told() {
    let running = Reloading::start(&tokens(&[("first", "one", "admin")]));
    let first = running.node.client.with_token("one");
    let two = tokens(&[("second", "two", "admin")]);
    running.reload(&format!("{two}[cache]\nl1_size = 0\nbody_bytes_max = 0\n"));
    running.node.until_log("nothing changes");
    assert_eq!(first.get("/cache/stats").status, 200);
    running.reload(&format!("{two}[cache]\nl1_size = 5\n[log]\nfilter = \"info\"\n"));
    running.node.client.with_token("two").until("/cache/stats", "the token", |answer| answer.status == 200);
    assert_eq!(first.get("/cache/stats").status, 401);
    // A third time, and the log falls silent.
    let three = tokens(&[("third", "three", "admin")]);
    running.reload(&format!("{three}[cache]\nl1_size = 5\n[log]\nfilter = \"error\"\n"));
    running.node.client.with_token("three").until("/cache/stats", "the token", |answer| answer.status == 200);
    let (status, log) = running.node.terminate();
    assert!(status.success(), "{log}");
    for told in ["nothing changes", "cache.l1_size = \"0\"", "cache.body_bytes_max = \"0\"", "line 6"] {
        assert!(log.contains(told), "{told:?} is not in {log}");
    }
    for told in ["changed=\"auth.tokens\"", "cache.l1_size", "once the node is started again"] {
        assert!(log.contains(told), "{told:?} is not in {log}");
    }
    assert_eq!(log.matches("was read again changed").count(), 1, "the filter was another: {log}");
    assert!(!log.contains("\"two\"") && !log.contains("\"one\""), "{log}");
}

#[test]
fn limits_of_alerts_change_in_a_node_that_runs() {
    let config = |warning: u32, critical: u32| {
        format!(
            "[telemetry]\nhit_ratio_warning = {warning}\nhit_ratio_critical = {critical}\nalert_raise_after = \"1s\"\n"
        )
    };
    let running = Reloading::start(&config(20, 10));
    let client = &running.node.client;
    assert_eq!(client.put("/cache/session/s", &json!(1)).status, 200);
    for number in 0..100 {
        assert_eq!(client.get("/cache/session/s").status, 200);
        assert_eq!(client.get(&format!("/cache/session/absent-{number}")).status, 404);
    }
    // Half of the reads hit. Three samples since: time enough to be raised, were it alarming.
    let samples = |answer: &support::Answer| answer.body["series"]["lag_ms"].as_array().map_or(0, Vec::len);
    let before = samples(&client.get("/node/history?series=lag_ms"));
    client.until("/node/history?series=lag_ms", "samples", |answer| samples(answer) >= before + 3);
    assert_eq!(client.get("/node/alerts").body["active"], json!([]));
    running.reload(&config(70, 60));
    client.until("/node/alerts", "an alert", |answer| answer.body["active"][0].is_object());
    let alert = client.get("/node/alerts").body["active"][0].clone();
    assert_eq!((&alert["name"], &alert["threshold"]), (&json!("hit_ratio"), &json!(60.0)), "{alert}");
    assert_eq!((&alert["severity"], &alert["value"]), (&json!("critical"), &json!(50.0)), "{alert}");
}
