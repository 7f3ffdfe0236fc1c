//! A node that is near its limit of memory gives back a quarter of its copies, and stops when that is enough.

mod support;

use std::time::Duration;

use cache_testkit::RedisServer;
use serde_json::json;
use support::{Serving, stopwatch};

#[test]
fn a_node_near_its_limit_lets_entries_go_and_stops_by_itself() {
    // The shared tier is outside, so that L1 is what the process holds.
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    let config = "
        [cache]
        memory_limit_bytes = 201326592
        memory_check_interval = '50ms'
        [namespaces.inventory]
        ttl = '1h'
        l1_ttl_max = '1h'
        l1_bytes_max = 1073741824
        compress_above_bytes = 'never'
    ";
    std::fs::write(&file, config).expect("written");
    let (url, file) = (redis.url(), file.display().to_string());
    let node = Serving::start_with(&["--listen", "127.0.0.1:0", "--config", &file], &[("REDIS_URL", &url)]);
    node.client.until_status("healthy");

    // 200 MiB, where 150 are three quarters of what it may use.
    let value = json!("x".repeat(512 * 1024));
    let size = || node.client.get("/cache/stats").body["l1_cache_size"].as_u64().expect("a number");
    for number in 0..400 {
        assert_eq!(node.client.put(&format!("/cache/inventory/item-{number}"), &value).status, 200);
    }
    let shed = |size: u64| (30..380).contains(&size);
    node.client.until("/cache/stats", "fewer entries than were put", |answer| {
        answer.body["l1_cache_size"].as_u64().is_some_and(shed)
    });
    // Twenty looks later nothing more has left.
    let mut last = size();
    let mut still = stopwatch();
    let began = stopwatch();
    while still.elapsed() < Duration::from_secs(1) {
        assert!(began.elapsed() < support::LONG, "entries go on leaving: {last} are left");
        let now = size();
        if now != last {
            (last, still) = (now, stopwatch());
        }
    }
    assert!(shed(last), "{last} entries are left of 400");
    // What left is in L2 still.
    let answer = node.client.get("/cache/inventory/item-0");
    assert_eq!((answer.status, answer.body), (200, value));

    let (status, log) = node.terminate();
    assert!(status.success() && log.contains("memory pressure: entries left L1"), "{log}");
}
