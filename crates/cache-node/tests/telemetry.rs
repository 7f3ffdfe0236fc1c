//! History, alerts, targets and operations of a node, over HTTP.

mod support;

use cache_testkit::{RedisServer, RedisServerOptions};
use serde_json::{Value, json};
use support::{Answer, Client, Serving};

fn points(answer: &Answer, series: &str) -> Vec<(u64, f64)> {
    serde_json::from_value(answer.body["series"][series].clone()).unwrap_or_default()
}

#[test]
fn history_has_what_happened_and_names_its_series() {
    let node = Serving::start(&[]);
    let client = &node.client;
    assert_eq!(client.put("/cache/session/s", &json!(1)).status, 200);
    for _ in 0..50 {
        assert_eq!(client.get("/cache/session/s").status, 200);
    }
    let path = "/node/history?series=reads_per_s,hit_ratio,memory_bytes,l1_entries";
    client.until(path, "reads, a ratio, memory and the entry", |answer| {
        points(answer, "reads_per_s").iter().any(|(_, value)| *value > 0.0)
            && points(answer, "hit_ratio").iter().any(|(_, value)| *value > 0.9)
            && points(answer, "memory_bytes").iter().any(|(_, value)| *value > 1e6)
            && points(answer, "l1_entries").iter().any(|(_, value)| *value == 1.0)
    });
    let answer = client.get(path);
    assert_eq!(answer.body["series"].as_object().map(serde_json::Map::len), Some(4));
    let known = answer.body["known"].as_array().expect("a list").len();
    assert_eq!(client.get("/node/history").body["series"].as_object().map(serde_json::Map::len), Some(known));
    // Times are Unix milliseconds, and a range is a range.
    let (at, _) = points(&answer, "memory_bytes")[0];
    let path = format!("/node/history?series=memory_bytes&from={at}&to={at}");
    assert_eq!(points(&client.get(&path), "memory_bytes").len(), 1);
    let path = format!("/node/history?series=memory_bytes&to={}", at - 5_000);
    assert!(points(&client.get(&path), "memory_bytes").is_empty());
    client.until("/node/history?series=memory_bytes&step=5s", "a step of five seconds", |answer| {
        points(answer, "memory_bytes").len() >= 2
    });
}

#[test]
fn a_wrong_question_of_history_is_told_what_there_is() {
    let node = Serving::start(&[]);
    for (query, field, told) in [
        ("series=hits", "series", "hit_ratio"),
        ("from=2&to=1", "from", "later"),
        ("points=1", "points", "10000"),
        ("points=x", "points", "whole number"),
        ("step=1ms", "step", "1s"),
        ("serie=a", "serie", "no parameter"),
    ] {
        let answer = node.client.get(&format!("/node/history?{query}"));
        assert_eq!((answer.status, answer.field()), (400, field), "{query}: {answer:?}");
        assert!(answer.body.to_string().contains(told), "{query}: {answer:?}");
    }
}

#[test]
fn changes_are_remembered_with_their_latency() {
    let node = Serving::start(&[]);
    let client = &node.client;
    assert_eq!(client.put("/cache/session/s", &json!(1)).status, 200);
    assert_eq!(client.put("/cache/nothing/s", &json!(1)).status, 404);
    client.get("/cache/session/s");
    assert_eq!(client.post("/nowhere", &json!({})).status, 404);
    assert_eq!(client.post("/cache/clear", &json!({})).status, 200);
    let answer = client.get("/node/operations");
    let told: Vec<(&str, u64)> = answer.body["operations"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|operation| {
            assert!(operation["took_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{operation}");
            assert!(operation["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{operation}");
            (operation["what"].as_str().expect("text"), operation["status"].as_u64().expect("a number"))
        })
        .collect();
    let put = "PUT /cache/{cache_type}/{*resource}";
    assert_eq!(told, [("POST /cache/clear", 200), (put, 404), (put, 200)]);
    assert_eq!(answer.body["seen"], 3);
    assert_eq!(client.get("/node/operations?limit=1").body["operations"].as_array().map(Vec::len), Some(1));
}

#[test]
fn targets_without_samples_are_neither_met_nor_missed() {
    let node = Serving::start(&[]);
    let target = |name: &str| -> Value {
        let slo = node.client.get("/node/slo").body;
        let all = slo["targets"].as_array().expect("a list");
        all.iter().find(|target| target["name"] == name).cloned().expect("a target")
    };
    assert_eq!((&target("l1_hits")["found"], &target("l1_hits")["met"]), (&Value::Null, &Value::Null));
    assert_eq!(node.client.get("/node/slo").body["met"], true);
    // Nothing is cached: of ten reads none is a hit.
    for id in 0..10 {
        assert_eq!(node.client.get(&format!("/cache/session/{id}")).status, 404);
    }
    let l1 = target("l1_hits");
    assert_eq!((&l1["found"], &l1["samples"], &l1["met"]), (&json!(0.0), &json!(10), &json!(false)), "{l1}");
    let l2 = target("l2_hits");
    assert_eq!((&l2["found"], &l2["samples"], &l2["met"]), (&json!(0.0), &json!(10), &json!(false)), "{l2}");
    assert_eq!(node.client.get("/node/slo").body["met"], false);
    let alerts = node.client.get("/node/alerts").body;
    assert_eq!(alerts, json!({"active": [], "past": []}), "too few reads for an alert");
}

#[test]
fn an_alert_that_stands_is_told_by_the_route_by_health_and_once_by_the_log() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "[telemetry]\nalert_raise_after = \"1s\"\n").expect("writable");
    let path = file.path().to_str().expect("UTF-8");
    let node = Serving::start_with(&["--listen", "127.0.0.1:0", "--config", path], &[]);
    for id in 0..150 {
        assert_eq!(node.client.get(&format!("/cache/session/{id}")).status, 404);
    }
    node.client.until("/node/alerts", "an alert", |answer| answer.body["active"][0].is_object());
    let alerts = node.client.get("/node/alerts").body;
    let alert = &alerts["active"][0];
    assert_eq!((&alert["name"], &alert["severity"]), (&json!("hit_ratio"), &json!("critical")), "{alerts}");
    assert_eq!(
        (&alert["value"], &alert["threshold"], &alert["unit"]),
        (&json!(0.0), &json!(50.0), &json!("%"))
    );
    assert!(alert["since"].as_str().is_some_and(|since| since.ends_with('Z')) && alert["until"].is_null());
    let health = node.client.get("/health");
    assert_eq!((health.status, &health.body["status"]), (200, &json!("degraded")), "{health:?}");
    assert!(health.body["error"].as_str().is_some_and(|error| error.contains("answered by a tier")));
    let (status, log) = node.terminate();
    assert!(status.success() && log.matches("critical alert: ").count() == 1, "{log}");
}

/// A node on this Redis whose alerts are raised and pass after a second.
fn on(redis: &RedisServer, more: &str) -> Serving {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let settings = format!("[telemetry]\nalert_raise_after = \"1s\"\nalert_clear_after = \"1s\"\n{more}");
    std::fs::write(file.path(), settings).expect("writable");
    let path = file.path().to_str().expect("UTF-8");
    let arguments = ["--listen", "127.0.0.1:0", "--config", path];
    let node = Serving::start_with(&arguments, &[("REDIS_URL", &redis.url())]);
    node.client.until_status("healthy");
    node
}

/// The alert of a name that stands, as severity, figure and limit.
fn standing(answer: &Answer, name: &str) -> Option<(String, f64, f64)> {
    let active = answer.body["active"].as_array()?;
    let found = active.iter().find(|alert| alert["name"] == name)?;
    let number = |field: &str| found[field].as_f64().unwrap_or(f64::NAN);
    Some((found["severity"].as_str()?.to_owned(), number("value"), number("threshold")))
}

fn until_standing(client: &Client, name: &str, severity: Option<&str>) -> (f64, f64) {
    let of = |answer: &Answer| standing(answer, name);
    let wanted = |answer: &Answer| of(answer).map(|(severity, ..)| severity).as_deref() == severity;
    client.until("/node/alerts", &format!("{name} as {severity:?}"), wanted);
    of(&client.get("/node/alerts")).map_or((0.0, 0.0), |(_, value, limit)| (value, limit))
}

#[test]
fn a_redis_that_fills_up_is_alarming_until_there_is_room_again() {
    let redis = RedisServer::start_with(RedisServerOptions {
        args: ["--maxmemory-policy", "noeviction"].map(str::to_owned).to_vec(),
        ..Default::default()
    });
    // Enough that what connections and logs take more or less is no matter.
    let value = "x".repeat(1_000_000);
    for number in 0..40 {
        redis.command(&["SET", &format!("other:{number}"), &value]);
    }
    let node = on(&redis, "");
    let fill = |percent: u64| {
        let used: u64 = redis.info("memory", "used_memory").parse().expect("a number");
        redis.command(&["CONFIG", "SET", "maxmemory", &(used * 100 / percent).to_string()]);
    };
    fill(50);
    let used = "redis_memory_used_mb";
    let looked = |answer: &Answer| points(answer, used).len();
    let path = format!("/node/history?series={used}");
    let before = looked(&node.client.get(&path));
    node.client.until(&path, "samples", |answer| looked(answer) >= before + 3);
    assert_eq!(node.client.get("/node/alerts").body["active"], json!([]), "half of it is used");

    fill(87);
    let (value, limit) = until_standing(&node.client, "redis_memory", Some("warning"));
    assert!((85.0..89.0).contains(&value) && limit == 80.0, "{value} beyond {limit}");
    assert_eq!(node.client.get("/health").body["status"], "healthy", "a warning degrades nothing");
    fill(98);
    let (value, limit) = until_standing(&node.client, "redis_memory", Some("critical"));
    assert!((96.0..100.0).contains(&value) && limit == 95.0, "{value} beyond {limit}");
    node.client.until("/health", "why it is degraded", |answer| {
        answer.body["status"] == "degraded" && answer.body["error"].to_string().contains("maxmemory")
    });
    fill(30);
    until_standing(&node.client, "redis_memory", None);
    let past = node.client.get("/node/alerts").body["past"].clone();
    assert!(past.to_string().contains("redis_memory"), "{past}");
}

#[test]
fn a_redis_that_cannot_be_reached_is_alarming() {
    let redis = RedisServer::start();
    // In a minute there is more time than a test has: fewer failures are enough.
    let node = on(&redis, "connection_failures_warning = 2\nconnection_failures_critical = 5\n");
    assert_eq!(standing(&node.client.get("/node/alerts"), "connection_failures"), None);
    drop(redis);
    let (value, limit) = until_standing(&node.client, "connection_failures", Some("critical"));
    assert!(value > 5.0 && limit == 5.0, "{value} beyond {limit}");
    let text = node.client.text("/metrics").1;
    let line = "edgecache_alert{name=\"connection_failures\",severity=\"critical\"} 1";
    assert!(text.lines().any(|found| found.starts_with(line)), "{text}");
}
