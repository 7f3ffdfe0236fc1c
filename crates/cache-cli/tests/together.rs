//! Nodes that share a Redis, or should: why each answers as it does, whom it knows, what they hold, how they are set up.

mod support;

use std::path::PathBuf;

use cache_testkit::{Fault, FaultProxy, RedisServer};
use serde_json::{Value, json};
use support::{Running, cachectl};

fn on(redis: &RedisServer, name: &str) -> Running {
    Running::start(&[("REDIS_URL", &redis.url()), ("EDGE_NODE_ID", name), ("EDGE_NODE_REGION", name)])
}

/// A configuration with this staleness bound, which sessions keep whatever comes.
fn bound(folder: &tempfile::TempDir, seconds: u32) -> Option<PathBuf> {
    let file = folder.path().join(format!("{seconds}.toml"));
    std::fs::write(
        &file,
        format!("[cache]\nstaleness_bound = \"{seconds}s\"\n[namespaces.session]\ndegraded = \"strict\"\n"),
    )
    .expect("written");
    Some(file)
}

#[test]
fn why_a_read_is_answered_as_it_is_differs_from_node_to_node() {
    let redis = RedisServer::start();
    let (a, b) = (on(&redis, "a"), on(&redis, "b"));
    let key = ["device_info", "rack/1 é", "site=a b"];
    let ask = |node: &Running, words: &[&str]| node.ask(&[words, &key].concat());
    let tiers =
        |told: &Value| json!([told["tier"], told["l1"]["present"], told["l2"]["present"], told["value"]]);
    ask(&a, &["put", "--value", "{\"n\": 1}"]).good();
    let told = ask(&a, &["explain"]).good();
    assert_eq!(tiers(&told), json!(["l1", true, true, {"n": 1}]), "{told}");
    assert_eq!((&told["cache_type"], &told["state"]), (&json!("device_info"), &json!("live")), "{told}");
    // The other never read it, and asking why does not bring it there.
    for _ in 0..2 {
        let told = ask(&b, &["explain"]).good();
        assert_eq!(tiers(&told), json!(["l2", false, true, {"n": 1}]), "{told}");
    }
    let table = ask(&b, &["--table", "explain"]);
    assert!(
        ["answered by", "l2", "L1", "nothing is there", "1. "].iter().all(|word| table.out.contains(word)),
        "{table:?}"
    );
    b.until(&[&["explain"][..], &key].concat(), "its own copy", |ran| {
        ask(&b, &["get"]).good();
        ran.json()["tier"] == "l1"
    });
    // Several nodes beside each other.
    let both = a.ask(&[&["--node", &b.url, "explain"][..], &key].concat()).good();
    assert_eq!(
        (&both[0]["answer"]["tier"], &both[1]["answer"]["tier"]),
        (&json!("l1"), &json!("l1")),
        "{both}"
    );
    // What is said untrue on one is so on the other, which says by which event.
    a.ask(&["invalidate", key[0], key[1], "--reason", "it was moved"]).good();
    let told =
        b.until(&[&["explain"][..], &key].concat(), "a miss", |ran| ran.json()["tier"].is_null()).good();
    assert_eq!(
        (&told["value"], &told["events"][0]["reason"]),
        (&Value::Null, &json!("it was moved")),
        "{told}"
    );
    let table = ask(&b, &["--table", "explain"]);
    assert!(
        table.code == 0 && table.out.contains("nothing: a miss") && table.out.contains("it was moved"),
        "{table:?}"
    );
    let unknown = a.ask(&["explain", "device_infos", "x"]);
    assert!(unknown.code == 2 && unknown.err.contains("known are"), "{unknown:?}");
}

#[test]
fn nodes_on_one_redis_know_each_other_until_one_leaves() {
    let redis = RedisServer::start();
    let (a, b) = (on(&redis, "a"), on(&redis, "b"));
    let names = |ran: &support::Ran| -> Vec<String> {
        let told = ran.json();
        let nodes = told["nodes"].as_array().expect("a list");
        nodes.iter().map(|node| format!("{} {}", node["node_id"], node["me"])).collect()
    };
    // A node tells of itself every few seconds, and first while it still joins.
    let both = a.until(&["nodes"], "both, well", |ran| {
        names(ran) == ["\"a\" true", "\"b\" false"] && ran.json()["nodes"][1]["status"] == "healthy"
    });
    let both = both.good();
    let other = &both["nodes"][1];
    assert_eq!(
        (&other["region"], &other["status"], &other["url"]),
        (&json!("b"), &json!("healthy"), &json!(b.url))
    );
    assert_eq!(other["fingerprint"], both["nodes"][0]["fingerprint"]);
    let table = a.ask(&["--table", "nodes"]);
    assert!(table.code == 0 && table.out.contains("a *") && !table.out.contains("b *"), "{table:?}");
    drop(b);
    a.until(&["nodes"], "itself alone", |ran| names(ran) == ["\"a\" true"]);
}

#[test]
fn nodes_that_heard_of_each_other_and_are_set_up_differently_are_found() {
    let redis = RedisServer::start();
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]);
    let folder = tempfile::tempdir().expect("a folder");
    let node = |name: &str, seconds: u32| {
        let env = [("REDIS_URL", &*redis.url()), ("EDGE_NODE_ID", name)];
        Running::start_with(&env, bound(&folder, seconds))
    };
    let a = node("a", 2);
    let print = |told: &str| a.until(&["doctor"], told, |ran| ran.out.contains(told)).json();
    let _alike = node("b", 2);
    a.until(&["nodes"], "both", |ran| ran.out.contains("\"b\""));
    a.until(&["doctor"], "no problem", |ran| ran.code == 0);
    let _apart = node("c", 3);
    let told = print(" on c");
    let between = told["between"].as_array().expect("a list");
    let found = between.iter().find(|finding| finding["check"] == "fingerprint").expect("it is looked at");
    assert_eq!(found["verdict"], "problem", "{found}");
    assert_eq!(a.ask(&["doctor"]).code, 1);
}

#[test]
fn two_that_share_no_store_and_differ_are_told_apart_for_good() {
    let (a, b) = (Running::start(&[]), Running::start(&[]));
    let diff = || cachectl(&["diff", &a.url, &b.url, "--cache-type", "session", "--settle", "1ms"]);
    assert_eq!(diff().good()["same"], 0);
    for (node, value) in [(&a, "1"), (&b, "2")] {
        node.ask(&["put", "session", "s", "--value", value]).good();
        node.ask(&["put", "session", "same", "--value", "7"]).good();
    }
    a.ask(&["put", "session", "left", "--value", "1"]).good();
    let ran = diff();
    let told = ran.json();
    assert_eq!((ran.code, &told["same"], &told["only_left"]), (1, &json!(1), &json!(1)), "{told}");
    let keys: Vec<_> =
        told["differences"].as_array().expect("a list").iter().map(|found| &found["key"]).collect();
    assert_eq!(keys, ["session/s/"]);
    let gone = cachectl(&["diff", &a.url, "http://127.0.0.1:1", "--cache-type", "session"]);
    assert_eq!(gone.code, 3, "{gone:?}");
}

#[test]
fn a_difference_between_nodes_lasts_no_longer_than_the_bound() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let proxy = runtime.block_on(FaultProxy::start(redis.addr())).expect("a port");
    let node = |name: &str, url: &str| {
        Running::start_with(&[("REDIS_URL", url), ("EDGE_NODE_ID", name)], bound(&folder, 8))
    };
    let a = node("a", &redis.url());
    let b = node("b", &format!("redis://{}", proxy.addr()));
    a.ask(&["put", "session", "s", "--value", "1"]).good();
    b.until(&["explain", "session", "s"], "its own copy", |ran| {
        b.ask(&["get", "session", "s"]).good();
        ran.json()["tier"] == "l1"
    });
    let diff =
        |settle: &str| cachectl(&["diff", &a.url, &b.url, "--cache-type", "session", "--settle", settle]);
    assert_eq!(diff("1ms").good()["same"], 1);
    // Nothing reaches it any more, and it does not know that yet.
    proxy.set(Fault::BlackHole);
    a.ask(&["put", "session", "s", "--value", "2"]).good();
    let early = diff("1ms");
    let told = early.json();
    assert_eq!((early.code, &told["differences"][0]["older"]), (1, &json!("right")), "{told}");
    let table = cachectl(&["--table", "diff", &a.url, &b.url, "--cache-type", "session", "--settle", "1ms"]);
    assert!(table.code == 1 && table.out.contains("differences that lasted for"), "{table:?}");
    let late = diff("9s").good();
    assert_eq!((&late["passed"], &late["differences"]), (&json!(1), &json!([])), "{late}");
    // So that it can end in order.
    proxy.set(Fault::Reset);
}
