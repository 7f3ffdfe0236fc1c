//! The HTTP interface of a node in this process, over an embedded server: every route and every refusal.

mod support;

use cache_events::{Position, Version};
use cache_node::config::{NodeConfig, Sources, load};
use cache_tiered::WriteOptions;
use serde_json::{Value, json};
use support::{InProcess, configured};

fn config(env: &[(&str, &str)]) -> NodeConfig {
    configured(env, None)
}

fn node() -> InProcess {
    InProcess::start(config(&[("EDGE_NODE_ID", "n1"), ("EDGE_NODE_REGION", "us-east")]))
}

fn price(now: u64) -> Value {
    json!({"gpu_type": "H100", "region": "us-east", "base_price_per_hour": 1, "current_price_per_hour": now, "last_updated": 1})
}

#[test]
fn a_written_value_is_read_back_with_its_freshness() {
    let node = node();
    let client = &node.client;
    let written = client.put("/cache/gpu_pricing/H100?region=us-east&currency=usd", &price(2));
    assert_eq!(written.status, 200, "{written:?}");
    assert_eq!(written.header("x-cache-token"), written.body["token"].as_str());
    let read = client.get("/cache/gpu_pricing/H100?currency=usd&region=us-east");
    assert_eq!((read.status, &read.body), (200, &price(2)));
    assert_eq!((read.header("x-cache-tier"), read.header("age")), (Some("l1"), Some("0")));
    let lag: u64 = read.header("x-cache-lag-ms").expect("a lag").parse().expect("a number");
    assert!(lag < 2_000, "{lag}");
    let as_of: jiff::Timestamp = read.header("x-cache-as-of").expect("one").parse().expect("RFC 3339");
    let now = node.cache.clock().wall() as i64;
    assert!((now - 15_000..=now).contains(&as_of.as_millisecond()), "{as_of}");
    assert_eq!(read.header("x-cache-version"), None, "it was given none");
    assert_eq!(read.header("x-cache-stale"), None);
    assert_eq!(client.get("/cache/gpu_pricing/H100").status, 404, "without parameters it is another key");
}

#[test]
fn an_answer_tells_the_version_and_the_position_of_the_value() {
    let node = node();
    let session = node.cache.namespace::<Value>("session").expect("declared");
    let key = session.key("s").expect("valid");
    let mut before = Position::ZERO;
    for version in [7, 9] {
        let options = WriteOptions::default();
        let write = session.put_versioned(&key, Version(version), json!(1), &options);
        let _ = node.node.runtime.block_on(write).expect("acknowledged");
        for wish in ["bounded", "latest"] {
            let read = node.client.ask("GET", "/cache/session/s", &[("cache-freshness", wish)], None);
            assert_eq!(read.header("x-cache-version"), Some(version.to_string().as_str()), "{wish}");
            let at: Position = read.header("x-cache-position").expect("one").parse().expect("a position");
            assert_eq!(at, session.resident(&key).expect("there").position, "{wish}");
            assert!(wish == "latest" || at > before, "{at} after {before}");
            before = at;
        }
    }
}

#[test]
fn a_namespace_is_known_by_both_of_its_names() {
    let node = node();
    let value = json!({"gpu_type": "H100", "region": "r", "points": []});
    assert_eq!(node.client.put("/cache/historical_data/H100", &value).status, 200);
    let read = node.client.get("/cache/historical/H100");
    assert_eq!((read.status, read.body), (200, value));
}

#[test]
fn free_json_holds_anything_and_any_resource() {
    let node = node();
    for name in ["device_info", "inventory", "product_details", "product_listing", "session", "permissions"] {
        for (path, value) in [
            ("a%2Fb%20c", json!({"deep": [1, {"x": null}]})),
            ("n%C3%A4me", json!(null)),
            ("t", json!("text")),
        ] {
            let path = format!("/cache/{name}/{path}");
            assert_eq!(node.client.put(&path, &value).status, 200, "{path}");
            let read = node.client.get(&path);
            assert_eq!((read.status, read.body), (200, value), "{path}");
        }
    }
    assert_eq!(node.client.get("/cache/session/a/b%20c").status, 200, "slashes may be escaped or not");
}

#[test]
fn delete_takes_all_variants_of_a_resource_and_no_other() {
    let node = node();
    let client = &node.client;
    for path in ["/cache/inventory/a", "/cache/inventory/a?x=1", "/cache/inventory/b"] {
        client.put(path, &json!(1));
    }
    let deleted = client.delete("/cache/inventory/a");
    assert!(deleted.status == 200 && deleted.header("x-cache-token").is_some(), "{deleted:?}");
    assert_eq!(client.get("/cache/inventory/a").status, 404);
    assert_eq!(client.get("/cache/inventory/a?x=1").status, 404);
    assert_eq!(client.get("/cache/inventory/b").status, 200);
}

#[test]
fn invalidate_reaches_resource_tag_and_pattern() {
    let node = node();
    let client = &node.client;
    let fill = || {
        for path in
            ["/cache/inventory/a?region=us-east", "/cache/inventory/b?region=europe", "/cache/session/a"]
        {
            assert_eq!(client.ask("PUT", path, &[("cache-tags", "x,y")], Some(b"1")).status, 200);
        }
    };
    let left = || {
        ["/cache/inventory/a?region=us-east", "/cache/inventory/b?region=europe", "/cache/session/a"]
            .map(|path| client.get(path).status == 200)
    };
    let cases = [
        (json!({"cache_type": "inventory", "resource": "a", "reason": "why"}), [false, true, true]),
        (json!({"cache_type": "inventory", "pattern": "region=us-*"}), [false, true, true]),
        (json!({"cache_type": "inventory", "pattern": "*"}), [false, false, true]),
        (json!({"pattern": "a"}), [false, true, false]),
        (json!({"tag": "y"}), [false, false, false]),
        (json!({"tag": "z"}), [true, true, true]),
    ];
    for (body, expected) in cases {
        fill();
        let answer = client.post("/cache/invalidate", &body);
        assert!(answer.status == 200 && answer.header("x-cache-token").is_some(), "{body} gave {answer:?}");
        assert_eq!(left(), expected, "{body}");
    }
    fill();
    assert_eq!(client.post("/cache/clear", &json!({"cache_type": "session"})).status, 200);
    assert_eq!(left(), [true, true, false]);
    fill();
    assert_eq!(client.ask("POST", "/cache/clear", &[], Some(b"")).status, 200);
    assert_eq!(left(), [false, false, false]);
}

#[test]
fn a_wish_for_a_ttl_is_granted() {
    let node = node();
    let put = |ttl| node.client.ask("PUT", "/cache/session/s", &[("cache-ttl", ttl)], Some(b"1"));
    assert_eq!(put("1h").status, 200);
    assert_eq!(node.client.get("/cache/session/s").status, 200);
    assert_eq!(put("200ms").status, 200);
    node.client.until("/cache/session/s", "nothing", |answer| answer.status == 404);
}

#[test]
fn a_wish_for_freshness_is_met_or_refused() {
    let node = node();
    let token =
        node.client.put("/cache/session/s", &json!(1)).header("x-cache-token").expect("one").to_owned();
    let read = |wish: &str| node.client.ask("GET", "/cache/session/s", &[("cache-freshness", wish)], None);
    for wish in ["any", "bounded", "at-most=2s", &format!("at-least={token}")] {
        let read = read(wish);
        assert_eq!((read.status, read.header("x-cache-tier")), (200, Some("l1")), "{wish}");
    }
    assert_eq!(read("latest").header("x-cache-tier"), Some("l2"));
    for wish in ["at-most=2", "at-least=nonsense", "newest"] {
        let refused = read(wish);
        assert_eq!((refused.status, refused.field()), (400, "cache-freshness"), "{wish}");
        assert!(refused.error().contains("at-most=2s"), "{refused:?}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_its_field() {
    let node = node();
    let mut level = json!({"gpu_type": "h", "region": "r", "best_price": 1, "levels": [{"price_per_hour": 1}], "last_updated": 1});
    let cases = [
        ("gpu_pricing", json!({"gpu_type": 7}), "gpu_type"),
        ("gpu_pricing", json!({}), "gpu_type"),
        ("gpu_pricing", json!([]), "gpu_type"),
        ("gpu_availability", json!({"gpu_id": "a", "provider_id": 7}), "provider_id"),
        ("gpu_availability", json!("text"), "body"),
        ("order_book", level.take(), "levels[0].count"),
    ];
    for (cache_type, value, field) in cases {
        let answer = node.client.put(&format!("/cache/{cache_type}/r"), &value);
        assert_eq!(answer.status, 422, "{value} gave {answer:?}");
        if value != json!([]) {
            assert_eq!(answer.field(), field, "{value} gave {answer:?}");
        }
        assert!(!answer.error().is_empty());
        assert_eq!(node.client.get(&format!("/cache/{cache_type}/r")).status, 404, "nothing was stored");
    }
    let mut extra = price(1);
    extra["colour"] = json!("red");
    assert_eq!(node.client.put("/cache/gpu_pricing/r", &extra).field(), "colour");
}

#[test]
fn bad_requests_are_refused_with_the_reason() {
    let node = node();
    let long = format!("/cache/session/{}", "x".repeat(5_000));
    let none: &[(&str, &str)] = &[];
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a [u8], u16, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("PUT", "/cache/session/s", none, b"{", 400, "body"),
        ("PUT", "/cache/session/s", none, b"", 400, "body"),
        ("PUT", "/cache/session/s", &[("cache-ttl", "30")], b"1", 400, "cache-ttl"),
        ("PUT", "/cache/session/s", &[("cache-ttl", "0s")], b"1", 400, "cache-ttl"),
        ("GET", "/cache/session/s", &[("cache-ttl", "soon")], b"", 400, "cache-ttl"),
        ("GET", "/cache/session/s", &[("cache-ttl", "1s"), ("cache-ttl", "2s")], b"", 400, "cache-ttl"),
        ("PUT", "/cache/session/s?a=1&a=2", none, b"1", 400, "a"),
        ("GET", "/cache/session/s?a", none, b"", 400, "a"),
        ("GET", "/cache/session/%FF", none, b"", 400, "path"),
        ("PUT", long.as_str(), none, b"1", 400, "key"),
        ("GET", "/cache/sesion/s", none, b"", 404, "cache_type"),
        ("PUT", "/cache/sesion/s", none, b"1", 404, "cache_type"),
        ("DELETE", "/cache/sesion/s", none, b"", 404, "cache_type"),
        ("GET", "/nowhere", none, b"", 404, ""),
        ("POST", "/cache/session/s", none, b"1", 405, ""),
        ("POST", "/cache/invalidate", none, b"nope", 400, "body"),
        ("POST", "/cache/invalidate", none, b"{}", 422, "resource"),
        (
            "POST",
            "/cache/invalidate",
            none,
            br#"{"tag":"a","resource":"b","cache_type":"session"}"#,
            422,
            "tag",
        ),
        ("POST", "/cache/invalidate", none, br#"{"tag":"a","tga":"b"}"#, 422, "tga"),
        ("POST", "/cache/invalidate", none, br#"{"resource":"a","cache_type":"sesion"}"#, 404, "cache_type"),
        ("POST", "/cache/clear", none, br#"{"cache_type":"sesion"}"#, 404, "cache_type"),
    ];
    for (method, path, headers, body, status, field) in cases {
        let body = (method != "GET" && method != "DELETE").then_some(body);
        let answer = node.client.ask(method, path, headers, body);
        assert_eq!((answer.status, answer.field()), (status, field), "{method} {path:.80} gave {answer:?}");
        assert!(!answer.error().is_empty(), "{method} {path:.80} gave {answer:?}");
    }
    let unknown = node.client.get("/cache/sesion/s");
    assert!(unknown.body["cure"].as_str().is_some_and(|cure| cure.contains("session")), "{unknown:?}");
}

#[test]
fn what_is_too_large_is_refused() {
    let node = node();
    // Above the limit of the namespace (1 MiB), below that of a body.
    let value = json!("x".repeat(1_500_000));
    let answer = node.client.put("/cache/session/s", &value);
    assert_eq!(answer.status, 413, "{answer:?}");
    let body = vec![b'1'; 3_000_000];
    let answer = node.client.try_ask("PUT", "/cache/session/s", &[], Some(&body));
    // The node answers without reading on; the client may notice nothing but that.
    if let Ok(answer) = answer {
        assert_eq!(answer.status, 413, "{answer:?}");
    }
    assert_eq!(node.client.fresh().get("/cache/session/s").status, 404);
}

#[test]
fn statistics_count_what_happened() {
    let node = node();
    let client = &node.client;
    client.put("/cache/gpu_pricing/H100", &price(2));
    client.get("/cache/gpu_pricing/H100");
    client.get("/cache/gpu_pricing/A100");
    client.delete("/cache/gpu_pricing/H100");
    let stats = client.get("/cache/stats").body;
    assert_eq!((&stats["cache_hits"], &stats["cache_misses"]), (&json!(1), &json!(1)), "{stats}");
    assert_eq!((&stats["cache_hit_ratio"], &stats["l1_cache_size"]), (&json!(0.5), &json!(0)));
    assert_eq!(stats["events_processed"], 2, "{stats}");
    assert_eq!(
        (&stats["redis_memory_used_mb"], &stats["redis_connected_clients"]),
        (&Value::Null, &Value::Null)
    );
    assert!(stats["l1_cache_max_size"].as_u64().is_some_and(|max| max >= 1_000));
    let pricing = &stats["namespaces"]["gpu_pricing"];
    assert_eq!(
        (&pricing["reads"], &pricing["l1_hits"], &pricing["writes"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(stats["namespaces"]["gpu_avail"]["cache_type"], "gpu_availability");
    let typed: cache_api::Stats = serde_json::from_value(stats).expect("the types of the interface");
    assert_eq!(typed.namespaces.len(), 14);
}

#[test]
fn head_is_answered_like_get_without_a_body() {
    let node = node();
    let client = &node.client;
    assert_eq!(client.ask("HEAD", "/cache/session/s", &[], None).status, 404);
    client.put("/cache/session/a%2Fb", &json!("x".repeat(100)));
    let (head, get) = (client.ask("HEAD", "/cache/session/a/b", &[], None), client.get("/cache/session/a/b"));
    assert_eq!((head.status, get.status), (200, 200), "{head:?} {get:?}");
    for name in ["content-type", "content-length", "x-cache-tier", "x-cache-position"] {
        assert!(get.header(name).is_some(), "{name}: {get:?}");
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    let session = &client.get("/cache/stats").body["namespaces"]["session"];
    assert_eq!((&session["reads"], &session["l1_hits"]), (&json!(3), &json!(2)), "each read counts once");
}

#[test]
fn what_a_node_changes_itself_is_an_event_of_late() {
    let node = node();
    assert_eq!(node.client.get("/cache/stats").body["last_event_time"], Value::Null);
    assert_eq!(node.client.get("/health").body["last_event_age"], Value::Null);
    assert_eq!(node.client.put("/cache/session/s", &json!(1)).status, 200);
    // At once: the write was acknowledged.
    let told = node.client.get("/cache/stats").body["last_event_time"].clone();
    assert!(told.as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()), "{told}");
    assert!(node.client.get("/health").body["last_event_age"].is_number());
}

#[test]
fn statistics_tell_what_the_auditor_found() {
    let rate = |rate: &str| {
        let flags = vec![
            ("listen", "--listen", "127.0.0.1:0".to_owned()),
            ("cache.audit_rate", "--audit-rate", rate.to_owned()),
        ];
        InProcess::start(load(&Sources { flags, ..Sources::default() }).expect("right"))
    };
    let node = rate("1");
    node.client.put("/cache/session/s", &json!(1));
    for _ in 0..5 {
        assert_eq!(node.client.get("/cache/session/s").status, 200);
    }
    node.client.until("/cache/stats", "reads that were judged", |answer| {
        let audit = &answer.body["namespaces"]["session"]["audit"];
        audit["judged"] == json!(5)
            && audit["violations"] == json!(0)
            && audit["coherent_ratio"] == json!(1.0)
    });
    let stats = node.client.get("/cache/stats").body;
    assert_eq!((&stats["audit"]["judged"], &stats["audit"]["keys"]), (&json!(5), &json!(1)), "{stats}");
    assert_eq!(stats["violations"], json!([]));
    assert_eq!(stats["namespaces"]["historical"]["audit"], Value::Null, "it lives by its TTL alone");
    assert_eq!(rate("0").client.get("/cache/stats").body["audit"], Value::Null);
}

#[test]
fn health_tells_who_and_how() {
    let node = node();
    let health = node.client.get("/health");
    assert_eq!(health.status, 200);
    let typed: cache_api::Health = serde_json::from_value(health.body).expect("the types of the interface");
    assert_eq!(
        (typed.node_id.as_str(), typed.region.as_str(), typed.transport.as_str()),
        ("n1", "us-east", "embedded")
    );
    assert!(typed.pubsub_active && typed.redis_connected.is_none() && typed.error.is_none());
    assert!(typed.cache_stats.is_some());
}

#[test]
fn with_a_token_only_health_is_open() {
    let node = InProcess::start(config(&[("CACHE_AUTH_TOKEN", "s3cret-t0ken")]));
    assert_eq!(node.client.get("/health").status, 200);
    let routes = [
        ("GET", "/cache/stats"),
        ("POST", "/cache/clear"),
        ("POST", "/cache/invalidate"),
        ("GET", "/cache/session/s"),
        ("PUT", "/cache/session/s"),
        ("DELETE", "/cache/session/s"),
        ("GET", "/nowhere"),
    ];
    for (method, path) in routes {
        let body: Option<&[u8]> = if matches!(method, "PUT" | "POST") { Some(b"1") } else { None };
        for client in
            [&node.client, &node.client.with_token("s3cret-t0keN"), &node.client.with_token("s3cret")]
        {
            let answer = client.ask(method, path, &[], body);
            assert_eq!(answer.status, 401, "{method} {path}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert!(!answer.body.to_string().contains("s3cret"), "{answer:?}");
        }
    }
    let known = node.client.with_token("s3cret-t0ken");
    assert_eq!(known.put("/cache/session/s", &json!(1)).status, 200);
    assert_eq!(known.get("/cache/session/s").status, 200);
    assert_eq!(known.get("/nowhere").status, 404);
}

#[test]
fn a_namespace_without_events_tells_no_lag() {
    let node = InProcess::start(config(&[("CACHE_ENABLE_EVENT_DRIVEN", "false")]));
    assert_eq!(node.client.put("/cache/session/s", &json!(1)).status, 200);
    assert_eq!(node.client.get("/cache/session/s").status, 200);
    node.client.delete("/cache/session/s");
    assert_eq!(node.client.get("/cache/session/s").status, 404, "an explicit invalidation still works");
}
