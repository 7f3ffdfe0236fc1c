//! What a node tells operators: which keys are hot, which targets are missed, what is alarming; and whom it tells.

mod support;

use cache_testkit::certificates;
use serde_json::json;
use support::{LONG, Running, cachectl, stopwatch};

#[test]
fn the_keys_that_are_read_most_are_listed() {
    let node = Running::start(&[]);
    assert!(node.ask(&["--table", "hot-keys"]).out.contains("no key is read often"));
    node.ask(&["put", "inventory", "hot", "--value", "1"]).good();
    let read = |_: &support::Ran| {
        node.ask(&["get", "inventory", "hot"]).good();
    };
    let hot = node.until(&["hot-keys", "--limit", "1"], "the key", |ran| {
        read(ran);
        ran.out.contains("inventory")
    });
    let hot = hot.good();
    assert_eq!(hot["keys"][0]["cache_type"], "inventory", "{hot}");
    let table = node.ask(&["--table", "hot-keys"]);
    assert!(table.out.contains("READS/S") && table.out.contains("hot"), "{table:?}");
}

#[test]
fn targets_that_are_missed_are_told_by_the_exit_code() {
    let node = Running::start(&[]);
    assert_eq!(node.ask(&["slo"]).code, 0, "without samples nothing is missed");
    assert_eq!(node.ask(&["slo", "--strict"]).code, 1);
    for id in ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"] {
        assert_eq!(node.ask(&["get", "session", id]).code, 1);
    }
    let missed = node.ask(&["slo"]);
    assert_eq!((missed.code, &missed.json()["met"]), (1, &json!(false)), "{missed:?}");
    let table = node.ask(&["--table", "slo"]);
    assert!(table.out.contains("missed") && table.out.contains("above 80 %"), "{table:?}");
}

#[test]
fn an_alert_that_stands_is_told_by_the_exit_code() {
    let node = Running::start(&[]);
    assert_eq!(node.ask(&["alerts"]).good()["active"], json!([]));
    assert!(node.ask(&["--table", "alerts"]).out.contains("no alert stands"));
    // Nothing is cached, so all of these miss; the figure is looked at for 15 seconds before it is an alert.
    for id in 0..150 {
        let missed = ureq::get(format!("{}/cache/session/{id}", node.url))
            .config()
            .http_status_as_error(false)
            .build();
        assert_eq!(missed.call().expect("an answer").status(), 404);
    }
    let began = stopwatch();
    let told = loop {
        let ran = node.ask(&["--table", "alerts"]);
        if ran.code == 1 && ran.out.contains("critical") {
            break ran;
        }
        assert!(began.elapsed() < LONG * 2, "never an alert: {ran:?}");
    };
    let words = ["hit_ratio", "now    0 %", "limit  50 %", "cure", "since"];
    assert!(words.iter().all(|word| told.out.contains(word)), "{told:?}");
    let alert = node.ask(&["alerts"]).json()["active"][0].clone();
    assert_eq!((&alert["name"], &alert["severity"]), (&json!("hit_ratio"), &json!("critical")), "{alert}");
    let health = node.ask(&["health"]);
    assert_eq!((health.code, &health.json()["status"]), (1, &json!("degraded")), "{health:?}");
}

#[test]
fn a_node_with_mutual_tls_is_asked_with_the_right_files_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let [cert, key, ca] = certificates(folder.path()).map(|path| path.to_str().expect("text").to_owned());
    let file = folder.path().join("node.toml");
    let text = format!("[http]\ntls_cert_file = {cert:?}\ntls_key_file = {key:?}\nclient_ca_file = {ca:?}\n");
    std::fs::write(&file, text).expect("written");
    let node = Running::start_unasked(&[], Some(file));
    let url = node.url.replace("http://", "https://");
    let ask = |files: &[&str]| cachectl(&[&["--node", &url, "hot-keys"], files].concat());
    let own = ["--ca-file", &ca, "--client-cert", &cert, "--client-key", &key];
    assert_eq!(ask(&own).good()["keys"], json!([]));
    let untrusted = ask(&own[2..]);
    assert!(untrusted.code == 3 && untrusted.err.contains("--ca-file"), "{untrusted:?}");
    assert_eq!(ask(&own[..2]).code, 3, "the node wants to know who asks");
    let other = tempfile::tempdir().expect("a folder");
    let [cert, other_key, _] = certificates(other.path()).map(|path| path.to_str().expect("text").to_owned());
    assert_eq!(
        ask(&["--ca-file", &ca, "--client-cert", &cert, "--client-key", &other_key]).code,
        3,
        "a stranger"
    );
    assert_eq!(ask(&["--ca-file", &key]).code, 2, "no certificate is in it");
    // The same port in the clear.
    let clear = node.ask(&["hot-keys"]);
    assert!(clear.code == 3 && clear.err.contains("https://"), "{clear:?}");
}
