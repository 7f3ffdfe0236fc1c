//! What a node tells of events: those of late, and the stream.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use cache_bus::ROSTER_TTL;
use cache_testkit::RedisServer;
use serde_json::{Value, json};
use support::{Client, LONG, Serving, SseEvent, stopwatch};

fn node() -> Serving {
    let node = Serving::start(&[("EDGE_NODE_ID", "a")]);
    node.client.until_status("healthy");
    node
}
fn gpu() -> Value {
    json!({
        "provider_id": "p", "gpu_type": "H100", "region": "europe", "memory_gb": 80, "cuda_cores": 16_896,
        "performance_score": 989, "base_price_per_hour": 2_000_000, "currency": "USD",
    })
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().filter_map(Value::as_str).collect()
}

fn put(client: &Client, path: &str) {
    assert_eq!(client.put(path, &json!(1)).status, 200);
}

/// The scopes of the next change.
fn scopes(event: &SseEvent) -> Vec<&str> {
    texts(&event.data["scopes"])
}

#[test]
fn all_that_makes_copies_change_is_remembered_and_told() {
    let node = node();
    let client = &node.client;
    let stream = client.stream("/events", &[]).expect("there is room");
    put(client, "/cache/inventory/widget?site=1");
    client.delete("/cache/inventory/widget");
    client.post("/cache/invalidate", &json!({"tag": "user:7", "reason": "logout"}));
    client.post("/cache/invalidate", &json!({"cache_type": "session", "pattern": "user=*"}));
    client.post("/cache/clear", &json!({"cache_type": "session"}));
    let told: Vec<SseEvent> = (0..5).map(|_| stream.change()).collect();
    let all: Vec<Vec<&str>> = told.iter().map(scopes).collect();
    assert_eq!(
        all,
        [
            ["inventory/widget?site=1"],
            ["inventory/widget?*"],
            ["tag:user:7"],
            ["pattern:session/user=*"],
            ["session/*"]
        ]
    );
    let reasons: Vec<&Value> = told.iter().map(|event| &event.data["reason"]).collect();
    assert_eq!(reasons, ["put", "DELETE over HTTP", "logout", "invalidated over HTTP", "cleared over HTTP"]);
    for event in &told {
        assert_eq!(event.id, event.data["position"]);
        assert_eq!((&event.data["source_node"], &event.data["propagation_ms"]), (&json!("a"), &Value::Null));
    }
    let recent = client.get("/node/events?limit=3").body;
    let newest: Vec<&Value> = told.iter().rev().take(3).map(|event| &event.data).collect();
    assert_eq!(recent["events"].as_array().expect("a list").iter().collect::<Vec<_>>(), newest);
}

#[test]
fn a_clear_of_everything_is_told_where_it_was_asked_for() {
    let node = node();
    let stream = node.client.stream("/events", &[]).expect("there is room");
    put(&node.client, "/cache/inventory/widget");
    node.client.post("/cache/clear", &json!({"reason": "moved"}));
    stream.change();
    let told = [stream.next(), stream.next()].map(|event| event.expect("it goes on"));
    let missed = told.iter().find(|event| event.event == "missed").expect("a new epoch began");
    assert!(missed.data["missed"].as_u64() >= Some(1), "{missed:?}");
    let change = told.iter().find(|event| event.event == "change").expect("the clear itself");
    assert_eq!((scopes(change), &change.data["reason"]), (vec!["*"], &json!("moved")));
}

#[test]
fn filters_choose_by_kind_and_by_cache_type() {
    let node = node();
    let client = &node.client;
    let kinds = client
        .stream("/events?event_type=provider_status_changed,gpu_availability_changed", &[])
        .expect("there is room");
    let answer = client.put("/market/gpus/g1", &gpu());
    assert!(answer.status < 300, "{answer:?}");
    let types = client.stream("/events?cache_type=inventory", &[]).expect("there is room");
    put(client, "/cache/session/s");
    // A tag may be anywhere.
    client.post("/cache/invalidate", &json!({"tag": "t"}));
    put(client, "/cache/inventory/widget");
    let change = kinds.change();
    assert_eq!(change.data["event_type"], "gpu_availability_changed");
    assert!(texts(&change.data["affected_namespaces"]).contains(&"gpu_avail"), "{change:?}");
    assert_eq!(scopes(&types.change()), ["tag:t"]);
    assert_eq!(scopes(&types.change()), ["inventory/widget"]);
    let recent = client.get("/node/events?cache_type=session&event_type=manual_invalidation").body;
    let all: Vec<Vec<&str>> =
        recent["events"].as_array().expect("a list").iter().map(|event| texts(&event["scopes"])).collect();
    assert_eq!(all, [["tag:t"], ["session/s"]], "newest first");
    for (path, field) in [
        ("/events?cache_type=nothing", "cache_type"),
        ("/events?kind=x", "kind"),
        ("/node/events?limit=many", "limit"),
    ] {
        let refused = client.get(path);
        assert!(refused.status >= 400 && refused.field() == field, "{path}: {refused:?}");
    }
}

#[test]
fn a_client_resumes_after_the_last_event_that_it_heard() {
    let node = node();
    let client = &node.client;
    let stream = client.stream("/events", &[]).expect("there is room");
    (0..3).for_each(|n| put(client, &format!("/cache/inventory/w{n}")));
    let first = stream.change();
    drop(stream);
    let resumed = client.stream("/events", &[("last-event-id", &first.id)]).expect("there is room");
    assert_eq!(scopes(&resumed.change()), ["inventory/w1"]);
    assert_eq!(scopes(&resumed.change()), ["inventory/w2"]);
    // Of another life of the store.
    let stranger = client.stream("/events", &[("last-event-id", "0:1:1")]).expect("there is room");
    let missed = stranger.next().expect("it goes on");
    assert_eq!((missed.event.as_str(), missed.data["missed"].as_u64()), ("missed", Some(1)));
    assert_eq!(scopes(&stranger.change()), ["inventory/w0"]);
    let refused = client.stream("/events", &[("last-event-id", "x")]).err().expect("no position");
    assert_eq!((refused.status, refused.field()), (400, "last-event-id"));
}

#[test]
fn streams_are_limited_and_end_with_the_node() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "[http]\nevent_streams_max = 1\n").expect("written");
    let path = file.path().to_str().expect("a path");
    let node = Serving::start_with(&["--listen", "127.0.0.1:0", "--config", path], &[]);
    node.client.until_status("healthy");
    let stream = node.client.stream("/events", &[]).expect("there is room");
    let refused = node.client.stream("/events", &[]).err().expect("no room");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    let began = stopwatch();
    let (status, log) = node.terminate();
    assert!(status.success(), "{log}");
    assert!(stream.next().is_none());
    assert!(began.elapsed() < LONG / 3, "it waited for the stream: {log}");
}

#[test]
fn a_stream_on_which_nothing_happens_shows_that_it_lives() {
    let node = node();
    let mut stream = TcpStream::connect(node.client.address()).expect("connected");
    stream.set_read_timeout(Some(LONG * 2)).expect("set");
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n").expect("written");
    // Each 15 seconds: proxies and clients give up on what is silent for longer.
    let began = stopwatch();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let following = lines.by_ref().find(|line| line == ": following");
    assert!(following.is_some(), "what is said first");
    assert!(lines.any(|line| line == ": heartbeat"), "it ended after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_booking_is_told_on_the_other_node_within_a_second() {
    let (redis, ledger) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
    let (url, database) = (redis.url(), format!("sqlite:{}/market.db", ledger.path().display()));
    let start = |id| {
        let env: [(&str, &str); 3] = [("EDGE_NODE_ID", id), ("REDIS_URL", &url), ("DATABASE_URL", &database)];
        let node = Serving::start(&env);
        node.client.until_status("healthy");
        node
    };
    let (a, b) = (start("a"), start("b"));
    assert!(a.client.put("/market/gpus/g1", &gpu()).status < 300);
    let stream = b.client.stream("/events?event_type=booking_created", &[]).expect("there is room");
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as u64;
    let booking = json!({
        "booking_id": "b1", "gpu_id": "g1", "user_id": "u", "start_time": now, "end_time": now + 3_600_000
    });
    let began = stopwatch();
    let booked = a.client.post("/market/bookings", &booking);
    assert!(booked.status < 300, "{booked:?}");
    let told = stream.change();
    assert!(began.elapsed().as_secs() < 1, "{:?}", began.elapsed());
    assert_eq!(
        (&told.data["source_node"], &told.data["event_type"]),
        (&json!("a"), &json!("booking_created"))
    );
    let took = told.data["propagation_ms"].as_f64().expect("the store's clock is known");
    assert!((0.0..1_000.0).contains(&took), "{took}");
}

fn names(client: &Client) -> Vec<String> {
    let body = client.get("/nodes").body;
    let nodes = body["nodes"].as_array().expect("a list");
    nodes.iter().map(|node| node["node_id"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn nodes_on_one_store_know_of_each_other_until_they_leave() {
    let redis = RedisServer::start();
    let url = redis.url();
    let start = |id, region| {
        let env = [
            ("EDGE_NODE_ID", id),
            ("REDIS_URL", url.as_str()),
            ("EDGE_NODE_REGION", region),
            ("EDGE_NODE_CACHE_TIER", "edge"),
        ];
        let node = Serving::start(&env);
        node.client.until_status("healthy");
        node
    };
    let (a, b) = (start("a", "us-west"), start("b", "us-east"));
    a.client.until("/nodes", "both", |answer| answer.body["nodes"].as_array().map(Vec::len) == Some(2));
    assert_eq!(names(&a.client), ["b", "a"], "by region and name");
    let nodes = a.client.get("/nodes").body;
    let (other, me) = (&nodes["nodes"][0], &nodes["nodes"][1]);
    assert_eq!((&other["me"], &me["me"]), (&json!(false), &json!(true)));
    assert_eq!(other["url"], json!(b.base), "{other}");
    assert_eq!((&other["region"], &other["cache_tier"]), (&json!("us-east"), &json!("edge")));
    assert_eq!(other["fingerprint"], me["fingerprint"]);
    assert_eq!(me["status"], "healthy", "{me}");
    assert!(me["figures"]["lag_ms"].as_u64().is_some(), "{me}");
    let (status, log) = b.terminate();
    assert!(status.success(), "{log}");
    assert_eq!(names(&a.client), ["a"], "who stops leaves at once");
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "asking for half a minute without a pause would load the machine"
)]
fn a_node_that_was_killed_is_told_with_its_age_and_vanishes_after_half_a_minute() {
    let redis = RedisServer::start();
    let url = redis.url();
    let start = |id| {
        let node = Serving::start(&[("EDGE_NODE_ID", id), ("REDIS_URL", url.as_str())]);
        node.client.until_status("healthy");
        node
    };
    let (stays, killed) = (start("stays"), start("killed"));
    stays.client.until("/nodes", "both", |answer| answer.body["nodes"].as_array().map(Vec::len) == Some(2));
    killed.kill();
    let began = stopwatch();
    let mut oldest = 0;
    loop {
        let nodes = stays.client.get("/nodes").body;
        let other =
            nodes["nodes"].as_array().expect("a list").iter().find(|node| node["node_id"] == "killed");
        let Some(other) = other else { break };
        oldest = oldest.max(other["seen_ms_ago"].as_u64().expect("an age"));
        assert!(began.elapsed() < ROSTER_TTL + LONG, "{nodes}");
        std::thread::sleep(Duration::from_millis(50));
    }
    // It said last who it is up to two seconds before it ended.
    assert!(began.elapsed() > ROSTER_TTL - Duration::from_secs(4), "after {:?}", began.elapsed());
    assert!((25_000..=30_000).contains(&oldest), "{oldest} ms");
    assert_eq!(names(&stays.client), ["stays"]);
    let again = start("killed");
    stays.client.until("/nodes", "both", |answer| answer.body["nodes"].as_array().map(Vec::len) == Some(2));
    drop(again);
}

#[test]
fn an_explanation_says_what_is_held_why_and_what_touched_it() {
    let node = node();
    let client = &node.client;
    let path = "/cache/inventory/a%2Fb?site=1";
    put(client, path);
    let explain = "/node/explain/inventory/a%2Fb?site=1";
    let found = client.get(explain).body;
    assert_eq!((&found["tier"], &found["value"]), (&json!("l1"), &json!(1)), "{found}");
    assert_eq!((&found["l1"]["usable"], &found["l2"]["usable"]), (&json!(true), &json!(true)));
    assert_eq!((&found["state"], &found["cache_type"]), (&json!("live"), &json!("inventory")));
    assert_eq!(found["l1"]["position"], found["events"][0]["position"], "the put: {found}");
    assert!(texts(&found["why"]).iter().any(|step| step.contains("answered from L1")), "{found}");
    put(client, "/cache/inventory/other");
    client.post("/cache/clear", &json!({"cache_type": "inventory", "reason": "moved"}));
    let gone = client.get(explain).body;
    assert_eq!((&gone["tier"], &gone["value"]), (&Value::Null, &Value::Null), "{gone}");
    assert_eq!((&gone["l1"]["present"], &gone["l1"]["usable"]), (&json!(true), &json!(false)), "{gone}");
    assert!(gone["l1"]["note"].as_str().expect("why").contains("was invalidated after it"), "{gone}");
    let reasons: Vec<&Value> =
        gone["events"].as_array().expect("a list").iter().map(|event| &event["reason"]).collect();
    assert_eq!(reasons, ["moved", "put"], "newest first, and not that of another key");
    assert_eq!(client.get(path).status, 404, "as it was explained");
    assert_eq!(client.get("/node/explain/nothing/x").status, 404);
}

#[test]
fn entries_are_told_by_name_with_a_digest_of_their_values() {
    let node = node();
    let client = &node.client;
    ["b", "a", "c"].iter().for_each(|name| put(client, &format!("/cache/inventory/{name}")));
    let all = client.get("/node/entries/inventory?limit=2").body;
    let keys: Vec<&Value> =
        all["entries"].as_array().expect("a list").iter().map(|entry| &entry["key"]).collect();
    assert_eq!(
        (keys, &all["truncated"]),
        (vec![&json!("inventory/a/"), &json!("inventory/b/")], &json!(true))
    );
    assert_eq!(all["entries"][0]["digest"], all["entries"][1]["digest"], "equal values");
    assert_eq!(client.get("/node/entries/inventory").body["truncated"], false);
}
