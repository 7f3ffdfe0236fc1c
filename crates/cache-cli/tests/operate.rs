//! What nodes tell operators: which keys are hot, who the others are, why an answer is what it is, what differs.

mod support;

use serde_json::json;
use support::canned::{Canned, certificates};
use support::{Running, cachectl};

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
    let alert = json!({
        "name": "hit_ratio", "severity": "critical", "value": 42.0, "threshold": 50.0, "unit": "%",
        "since": "2026-01-01T00:00:00Z", "until": null, "message": "few reads are hits", "cure": "look at L1",
    });
    let bad = Canned::start(&[("/node/alerts", vec![json!({"active": [alert], "past": []})])]);
    let ran = cachectl(&["--node", &bad.url(), "--table", "alerts"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(["critical", "42 %", "50 %", "look at L1"].iter().all(|word| ran.out.contains(word)), "{ran:?}");
}

#[test]
fn only_a_difference_that_lasts_is_one() {
    let entry = |digest: &str, sequence: u32| json!({"key": "session/s/", "position": format!("0:1:{sequence}"), "version": null, "digest": digest});
    let of = |entry: serde_json::Value| json!({"entries": [entry], "truncated": false});
    let path = "/node/entries/session";
    let diff = |left: &Canned, right: &Canned| {
        cachectl(&["diff", &left.url(), &right.url(), "--cache-type", "session", "--settle", "1ms"])
    };
    let new = Canned::start(&[(path, vec![of(entry("new", 2))])]);
    let stuck = Canned::start(&[(path, vec![of(entry("old", 1))])]);
    let ran = diff(&stuck, &new);
    assert_eq!((ran.code, &ran.json()["differences"][0]["older"]), (1, &json!("left")), "{ran:?}");
    let late = Canned::start(&[(path, vec![of(entry("old", 1)), of(entry("new", 2))])]);
    let ran = diff(&late, &new).good();
    assert_eq!((&ran["passed"], &ran["differences"]), (&json!(1), &json!([])));
    assert_eq!(cachectl(&["diff", &new.url(), "http://127.0.0.1:1", "--cache-type", "session"]).code, 3);
}

#[test]
fn nodes_that_heard_of_each_other_and_are_set_up_differently_are_found() {
    let node = |name: &str, fingerprint: &str| {
        json!({
            "node_id": name, "region": "here", "datacenter": "here", "cache_tier": null, "version": "1", "url": null,
            "started_at": "2026-01-01T00:00:00Z", "seen_ms_ago": 1, "me": name == "a", "status": "healthy",
            "error": null, "fingerprint": fingerprint,
            "figures": {
                "cache_hit_ratio": 0.5, "reads_per_s": 1.0, "events_processed": 1, "l1_cache_size": 1,
                "l1_cache_max_size": 2, "event_queue_size": 0, "event_propagation_latency_ms": null, "lag_ms": 5,
            },
        })
    };
    let found = json!({"findings": [{"check": "layout", "verdict": "ok", "found": "fine", "cure": null}]});
    let answers = |other: &str| {
        let nodes = json!({"nodes": [node("a", "f1"), node("b", other)]});
        Canned::start(&[("/nodes", vec![nodes]), ("/node/doctor", vec![found.clone()])])
    };
    let (alike, apart) = (answers("f1"), answers("f2"));
    assert_eq!(cachectl(&["--node", &alike.url(), "doctor"]).code, 0);
    let ran = cachectl(&["--node", &apart.url(), "--table", "doctor"]);
    assert!(ran.code == 1 && ran.out.contains("f1 on a; f2 on b"), "{ran:?}");
    let table = cachectl(&["--node", &apart.url(), "--table", "nodes"]);
    assert!(table.code == 0 && table.out.contains("a *") && table.out.contains("50.0 %"), "{table:?}");
}

#[test]
fn a_node_with_mutual_tls_is_asked_with_the_right_files_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let [ca, cert, key] = certificates(folder.path()).map(|path| path.to_str().expect("text").to_owned());
    let hot = json!({"keys": []});
    let server = Canned::start_tls(&[("/node/hot-keys", vec![hot])], folder.path());
    let url = format!("https://{}", server.address);
    let ask = |files: &[&str]| cachectl(&[&["--node", &url, "hot-keys"], files].concat());
    ask(&["--ca-file", &ca, "--client-cert", &cert, "--client-key", &key]).good();
    let untrusted = ask(&["--client-cert", &cert, "--client-key", &key]);
    assert!(untrusted.code == 3 && untrusted.err.contains("--ca-file"), "{untrusted:?}");
    assert_eq!(ask(&["--ca-file", &ca]).code, 3, "the node wants to know who asks");
    assert_eq!(ask(&["--ca-file", &key]).code, 2, "no certificate is in it");
    // The same port in the clear.
    let clear = cachectl(&["--node", &format!("http://{}", server.address), "hot-keys"]);
    assert!(clear.code == 3 && clear.err.contains("https://"), "{clear:?}");
}
