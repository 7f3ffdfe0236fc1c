//! `cache-node serve` as processes: coherent over one Redis, whatever happens to one of them.

mod support;

use std::time::Duration;

use cache_testkit::RedisServer;
use serde_json::json;
use support::{Client, Serving, command, stopwatch};

/// The staleness bound of the nodes and what a busy machine may add.
const BOUND: Duration = Duration::from_millis(2_000 + 500);

fn three(redis: &RedisServer) -> Vec<Serving> {
    let url = redis.url();
    let start = |id: &str| {
        let serving = Serving::start(&[("REDIS_URL", &url), ("EDGE_NODE_ID", id)]);
        serving.client.until_status("healthy");
        serving
    };
    ["a", "b", "c"].map(start).into()
}

fn sees(client: &Client, path: &str, value: i64) -> Duration {
    client.until(path, &format!("{value}"), |answer| answer.status == 200 && answer.body == json!(value))
}

#[test]
fn three_processes_on_one_redis_stay_coherent_while_one_of_them_dies() {
    let redis = RedisServer::start();
    let mut nodes = three(&redis);
    let path = "/cache/inventory/widget?site=1";
    assert_eq!(nodes[0].client.put(path, &json!(1)).status, 200);
    for node in &nodes {
        sees(&node.client, path, 1);
        // The hint of the write may come after the first read and drop what that had kept.
        node.client.until(path, "an answer of L1", |answer| answer.header("x-cache-tier") == Some("l1"));
    }
    // An update here drops the old value there.
    assert_eq!(nodes[0].client.put(path, &json!(2)).status, 200);
    for node in &nodes[1..] {
        let took = sees(&node.client, path, 2);
        assert!(took < BOUND, "{took:?}");
    }
    let stats = nodes[1].client.get("/cache/stats").body;
    assert!(stats["last_event_time"].as_str().is_some_and(|time| time.ends_with('Z')), "{stats}");
    // One dies without a word; the others go on.
    nodes.remove(1).kill();
    assert_eq!(nodes[1].client.put(path, &json!(3)).status, 200);
    assert!(sees(&nodes[0].client, path, 3) < BOUND);
    assert_eq!(nodes[0].client.put(path, &json!(4)).status, 200);
    assert!(sees(&nodes[1].client, path, 4) < BOUND);
    // It comes back and sees what is.
    let url = redis.url();
    let again = Serving::start(&[("REDIS_URL", &url), ("EDGE_NODE_ID", "b")]);
    again.client.until_status("healthy");
    assert_eq!(again.client.get(path).body, json!(4));
    nodes.push(again);
    // Deleted on one is gone on all.
    assert_eq!(nodes[2].client.delete("/cache/inventory/widget").status, 200);
    for node in &nodes {
        let took = node.client.until(path, "nothing", |answer| answer.status == 404);
        assert!(took < BOUND, "{took:?}");
    }
    for node in nodes {
        let (status, log) = node.terminate();
        assert!(status.success(), "{status}: {log}");
    }
}

#[test]
fn tags_patterns_and_clear_reach_the_other_processes() {
    let redis = RedisServer::start();
    let nodes = three(&redis);
    let (a, c) = (&nodes[0].client, &nodes[2].client);
    let path = "/cache/session/s?user=7";
    let requests = [
        ("/cache/invalidate", json!({"tag": "user:7", "reason": "logout"})),
        ("/cache/invalidate", json!({"cache_type": "session", "pattern": "user=*"})),
        ("/cache/invalidate", json!({"cache_type": "session", "resource": "s"})),
        ("/cache/clear", json!({"cache_type": "session"})),
        ("/cache/clear", json!({})),
    ];
    for (round, (route, body)) in requests.iter().enumerate() {
        assert_eq!(
            a.ask("PUT", path, &[("cache-tags", "user:7")], Some(round.to_string().as_bytes())).status,
            200
        );
        sees(c, path, round as i64);
        assert_eq!(a.post(route, body).status, 200);
        let took = c.until(path, "nothing", |answer| answer.status == 404);
        assert!(took < BOUND, "{body}: {took:?}");
    }
}

#[test]
fn a_node_starts_without_redis_and_joins_when_it_comes() {
    let mut redis = RedisServer::start();
    let url = redis.url();
    redis.kill();
    let node = Serving::start(&[("REDIS_URL", &url), ("CACHE_HEALTH_CHECK_INTERVAL", "1")]);
    let health = node.client.get("/health");
    assert_eq!((health.status, &health.body["status"]), (200, &json!("degraded")), "{health:?}");
    assert_eq!(
        (&health.body["redis_connected"], &health.body["pubsub_active"]),
        (&json!(false), &json!(false))
    );
    assert!(health.body["error"].as_str().is_some_and(|error| error.contains("Redis")), "{health:?}");
    assert_eq!(node.client.get("/cache/session/s").status, 404, "a read is a miss, not an error");
    redis.revive();
    node.client.until_status("healthy");
    let health = node.client.get("/health").body;
    assert_eq!((&health["redis_connected"], &health["pubsub_active"]), (&json!(true), &json!(true)));
    assert_eq!(node.client.put("/cache/session/s", &json!(1)).status, 200);
    assert_eq!(node.client.get("/cache/session/s").status, 200);
    let stats = node.client.get("/cache/stats").body;
    assert!(stats["redis_memory_used_mb"].as_f64().is_some_and(|mb| mb > 0.1), "{stats}");
    assert!(stats["redis_connected_clients"].as_u64().is_some_and(|clients| clients >= 2), "{stats}");
    // And leaves again, and comes again.
    redis.kill();
    node.client.until_status("degraded");
    redis.revive();
    node.client.until_status("healthy");
    let (status, log) = node.terminate();
    assert!(status.success() && log.contains("healthy"), "{status}: {log}");
}

#[test]
fn health_answers_while_redis_hangs() {
    let redis = RedisServer::start();
    let url = redis.url();
    let node = Serving::start(&[("REDIS_URL", &url)]);
    node.client.until_status("healthy");
    redis.pause();
    node.client.until_status("degraded");
    let began = stopwatch();
    assert_eq!(node.client.get("/health").body["redis_connected"], json!(false));
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    redis.resume();
    node.client.until_status("healthy");
}

#[test]
fn a_write_without_redis_says_what_happened() {
    let mut redis = RedisServer::start();
    let url = redis.url();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "[cache]\nwrite_deadline = \"300ms\"\n").expect("writable");
    let path = file.path().to_str().expect("UTF-8");
    let node = Serving::start_with(&["--listen", "127.0.0.1:0", "--config", path], &[("REDIS_URL", &url)]);
    node.client.until_status("healthy");
    redis.kill();
    let put = node.client.put("/cache/session/s", &json!(1));
    assert_eq!(put.status, 503, "{put:?}");
    assert!(put.error().contains("may or may not have happened"), "{put:?}");
    assert!(put.header("retry-after").is_some() && put.header("x-cache-token").is_none());
    assert_eq!(node.client.delete("/cache/session/s").status, 503);
    let waits =
        |answer: &support::Answer| answer.body["event_queue_size"].as_u64().is_some_and(|size| size > 0);
    node.client.until("/health", "a queue", waits);
    redis.revive();
    node.client.until("/health", "an empty queue", |answer| answer.body["event_queue_size"] == 0);
    node.client.until_status("healthy");
}

#[test]
fn a_redis_without_memory_is_told_apart() {
    let redis = RedisServer::start();
    let url = redis.url();
    let node = Serving::start(&[("REDIS_URL", &url)]);
    node.client.until_status("healthy");
    // So that the connection is there before memory runs out.
    assert_eq!(node.client.put("/cache/session/s", &json!(0)).status, 200);
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let put = node.client.put("/cache/session/s", &json!(1));
    assert_eq!(put.status, 507, "{put:?}");
}

#[test]
fn sigterm_ends_a_node_with_success() {
    let node = Serving::start(&[]);
    assert_eq!(node.client.put("/cache/session/s", &json!(1)).status, 200);
    let (status, log) = node.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("serving") && log.contains("stopped"), "{log}");
}

#[test]
fn what_the_caller_must_mend_is_told_with_exit_code_2() {
    let taken = Serving::start(&[]);
    let address = taken.base.strip_prefix("http://").expect("a URL");
    let free = ["--listen", "127.0.0.1:0"];
    type Case<'a> = (Vec<&'a str>, Vec<(&'a str, &'a str)>, Vec<&'a str>);
    let cases: Vec<Case<'_>> = vec![
        (vec!["--listen", address], vec![], vec![address, "in use", "--listen"]),
        (vec!["--listen", "nonsense"], vec![], vec!["listen", "nonsense", "host:port"]),
        (vec!["--listen", "192.0.2.1:1"], vec![], vec!["192.0.2.1:1"]),
        (vec!["--config", "/does/not/exist"], vec![], vec!["/does/not/exist", "cannot be read"]),
        (free.to_vec(), vec![("CACHE_L1_SIZE", "-1")], vec!["CACHE_L1_SIZE", "\"-1\""]),
        (free.to_vec(), vec![("CACHE_PROFILE", "prod")], vec!["CACHE_PROFILE", "production"]),
        (free.to_vec(), vec![("REDIS_URL", "http://:hunter2@h")], vec!["REDIS_URL", "redis://"]),
        (free.to_vec(), vec![("CACHE_REQUIRE_AUTH", "true")], vec!["CACHE_AUTH_TOKEN"]),
    ];
    for (arguments, env, told) in cases {
        let output = command(&arguments, &env).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {env:?}: {stderr}");
        assert!(output.stdout.is_empty());
        for part in told {
            assert!(stderr.contains(part), "{part:?} is not in {stderr}");
        }
        assert!(!stderr.contains("hunter2") && !stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn the_token_of_a_write_makes_every_other_process_show_it_at_once() {
    let redis = RedisServer::start();
    let nodes = three(&redis);
    let path = "/cache/session/s?user=7";
    for round in 0..100 {
        let written = nodes[0].client.put(path, &json!(round));
        let token = written.header("x-cache-token").expect("a token").to_owned();
        for node in &nodes[1..] {
            // No waiting: the hint may still be on its way.
            let asked = [("cache-freshness", format!("at-least={token}"))];
            let asked: Vec<(&str, &str)> = asked.iter().map(|(name, wish)| (*name, wish.as_str())).collect();
            let read = node.client.ask("GET", path, &asked, None);
            assert_eq!((read.status, read.body), (200, json!(round)));
            let latest = node.client.ask("GET", path, &[("cache-freshness", "latest")], None);
            assert_eq!((latest.body.clone(), latest.header("x-cache-tier")), (json!(round), Some("l2")));
        }
    }
}
