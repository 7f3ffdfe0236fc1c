//! The marketplace over HTTP: every route and every refusal, and two nodes that share a Redis and a ledger.

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use cache_marketplace::{Ledger, MemoryLedger};
use cache_testkit::{PostgresServer, RedisServer};
use serde_json::{Value, json};
use support::{Answer, Client, InProcess, Serving, command, configured};

const HOUR: u64 = 3_600_000;

/// A node with a market, and when it began.
struct Running {
    client: Client,
    now: u64,
    _node: InProcess,
}

impl Running {
    fn start(env: &[(&str, &str)], ledger: Arc<dyn Ledger>) -> Self {
        Self::start_with(env, ledger, None)
    }

    fn start_with(env: &[(&str, &str)], ledger: Arc<dyn Ledger>, file: Option<PathBuf>) -> Self {
        let node = InProcess::start_on(configured(env, file), ledger);
        Self { client: node.client.clone(), now: node.cache.clock().wall(), _node: node }
    }

    fn alone() -> Self {
        Self::start(&[], Arc::new(MemoryLedger::new()))
    }
}

fn gpu(price: u64) -> Value {
    json!({
        "provider_id": "p", "gpu_type": "H100", "region": "europe", "memory_gb": 80, "cuda_cores": 16_896,
        "performance_score": 989, "base_price_per_hour": price, "currency": "USD",
    })
}

fn booking(id: &str, gpu: &str, (start, end): (u64, u64)) -> Value {
    json!({"booking_id": id, "gpu_id": gpu, "user_id": "u", "start_time": start, "end_time": end})
}

/// Four GPUs of a type in a region, `g1` to `g4`, at 1 to 4 dollars.
fn with_four(node: &Running) {
    for n in 1..=4 {
        let put = node.client.put(&format!("/market/gpus/g{n}"), &gpu(n * 1_000_000));
        assert_eq!(put.status, 200, "{put:?}");
    }
}

fn ids(answer: &Answer) -> Vec<&str> {
    let gpus = answer.body["gpus"].as_array().expect("a list");
    gpus.iter().map(|gpu| gpu["gpu_id"].as_str().expect("an id")).collect()
}

#[test]
fn a_gpu_is_put_up_read_back_and_taken_out() {
    let node = Running::alone();
    let client = &node.client;
    assert_eq!(client.get("/market/gpus/p%2FH100%2F1").status, 404);
    let put = client.put("/market/gpus/p%2FH100%2F1", &gpu(1_650_000));
    assert_eq!((put.status, &put.body["published"]), (200, &json!(true)), "{put:?}");
    assert_eq!(put.header("x-cache-token"), put.body["token"].as_str());
    // Escaped or not: it is one id.
    for path in ["/market/gpus/p%2FH100%2F1", "/market/gpus/p/H100/1"] {
        let read = client.get(path);
        assert_eq!(read.status, 200, "{read:?}");
        for (field, value) in [
            ("gpu_id", json!("p/H100/1")),
            ("provider_id", json!("p")),
            ("gpu_type", json!("H100")),
            ("memory_gb", json!(80)),
            ("cuda_cores", json!(16_896)),
            ("base_price_per_hour", json!(1_650_000)),
            ("current_price_per_hour", json!(1_650_000)),
            ("availability_status", json!("available")),
            ("region", json!("europe")),
            ("performance_score", json!(989)),
            ("currency", json!("USD")),
        ] {
            assert_eq!(read.body[field], value, "{field}");
        }
        assert!(read.header("x-cache-tier").is_some() && read.header("x-cache-version").is_some());
    }
    // What was read can be put back, and changes nothing.
    let mut again = client.get("/market/gpus/p/H100/1").body;
    let put = client.put("/market/gpus/p/H100/1", &again);
    assert_eq!((put.status, put.header("x-cache-token")), (200, None), "{put:?}");
    again["availability_status"] = json!("maintenance");
    assert_eq!(client.put("/market/gpus/p/H100/1", &again).body["availability_status"], "maintenance");
    let status = client.put("/market/gpus/p%2FH100%2F1/status", &json!({"status": "offline"}));
    assert_eq!((status.status, &status.body["availability_status"]), (200, &json!("offline")), "{status:?}");
    assert_eq!(client.get("/market/gpus/p/H100/1").body["availability_status"], "offline");
    let of_type = client.get("/market/availability?region=europe&gpu_type=H100");
    assert_eq!((&of_type.body["total"], &of_type.body["offline"]), (&json!(1), &json!(1)), "{of_type:?}");
}

#[test]
fn a_booking_is_made_once_seen_and_called_off_once() {
    let node = Running::alone();
    let client = &node.client;
    with_four(&node);
    let (start, end) = (node.now, node.now + 2 * HOUR);
    let first = client.post("/market/bookings", &booking("b 1", "g1", (start, end)));
    assert_eq!((first.status, first.header("location")), (201, Some("/market/bookings/b%201")), "{first:?}");
    assert_eq!((&first.body["total_cost"], &first.body["currency"]), (&json!(2_000_000), &json!("USD")));
    assert_eq!((&first.body["status"], &first.body["published"]), (&json!("active"), &json!(true)));
    let again = client.post("/market/bookings", &booking("b 1", "g1", (start, end)));
    assert_eq!((again.status, &again.body["created_at"]), (200, &first.body["created_at"]), "{again:?}");

    let taken = client.post("/market/bookings", &booking("b 1", "g2", (start, end)));
    assert_eq!((taken.status, taken.field()), (409, "booking_id"), "{taken:?}");
    let overlap = client.post("/market/bookings", &booking("b2", "g1", (end - 1, end + HOUR)));
    assert_eq!((overlap.status, overlap.field()), (409, "start_time"), "{overlap:?}");
    assert!(!overlap.error().contains("b 1"), "whose booking it is concerns nobody");
    let nobody = client.post("/market/bookings", &booking("b2", "nothing", (start, end)));
    assert_eq!((nobody.status, nobody.field()), (404, "gpu_id"), "{nobody:?}");

    assert_eq!(client.get("/market/gpus/g1").body["availability_status"], "busy");
    let stats = client.get("/market/stats?region=europe").body;
    assert_eq!((&stats["busy_gpus"], &stats["total_bookings_24h"]), (&json!(1), &json!(1)), "{stats}");
    assert_eq!((&stats["total_volume_24h"], &stats["utilization_rate"]), (&json!(2_000_000), &json!(0.25)));
    assert_eq!(client.get("/market/bookings/b%201").body["status"], "active");

    let cancelled = client.delete("/market/bookings/b%201");
    assert_eq!((cancelled.status, &cancelled.body["status"]), (200, &json!("cancelled")), "{cancelled:?}");
    let twice = client.delete("/market/bookings/b%201");
    assert_eq!((twice.status, twice.field()), (409, "booking_id"), "{twice:?}");
    assert_eq!(client.delete("/market/bookings/none").status, 404);
    assert_eq!(client.get("/market/bookings/b%201").body["status"], "cancelled");
    assert_eq!(client.get("/market/gpus/g1").body["availability_status"], "available");
    assert_eq!(client.get("/market/stats").body["total_bookings_24h"], 0);
}

#[test]
fn bookings_begin_and_end_by_themselves() {
    let node = Running::alone();
    with_four(&node);
    let made = node.client.post("/market/bookings", &booking("b", "g1", (node.now + 300, node.now + 1_500)));
    assert_eq!(made.status, 201, "{made:?}");
    let is = |status: &'static str| move |answer: &Answer| answer.body["availability_status"] == status;
    node.client.until("/market/gpus/g1", "begins", is("busy"));
    node.client.until("/market/gpus/g1", "ends", is("available"));
    assert_eq!(node.client.get("/market/bookings/b").body["status"], "completed");
    let late = node.client.delete("/market/bookings/b");
    assert_eq!((late.status, late.field()), (409, "booking_id"), "{late:?}");
}

#[test]
fn the_price_that_is_set_is_the_base_and_scarcity_makes_the_current_one() {
    let node = Running::alone();
    let client = &node.client;
    with_four(&node);
    let path = "/market/pricing/H100?region=europe";
    let put = client.put(path, &json!({"base_price_per_hour": 2_000_000, "currency": "USD"}));
    assert_eq!((put.status, &put.body["current_price_per_hour"]), (200, &json!(2_000_000)), "{put:?}");
    for n in 1..=3 {
        let gpu = format!("g{n}");
        let request = booking(&gpu, &gpu, (node.now, node.now + HOUR));
        assert_eq!(client.post("/market/bookings", &request).status, 201);
    }
    // One of four is free: less than 30 %.
    let price = client.get(path).body;
    assert_eq!(
        (&price["base_price_per_hour"], &price["current_price_per_hour"]),
        (&json!(2_000_000), &json!(3_000_000))
    );
    assert_eq!(client.get("/market/gpus/g4").body["current_price_per_hour"], 3_000_000);
    let history = client.get("/market/history/H100?region=europe").body;
    assert_eq!(
        history["points"].as_array().expect("a list").last().expect("one")["available"],
        1,
        "{history}"
    );
}

#[test]
fn a_provider_that_goes_takes_its_gpus_along() {
    let node = Running::alone();
    let client = &node.client;
    with_four(&node);
    assert_eq!(client.get("/market/gpus/g2").body["availability_status"], "available");
    let put = client.put("/market/providers/p/status", &json!({"status": "offline"}));
    assert_eq!(
        (put.status, &put.body["status"], &put.body["gpus"]),
        (200, &json!("offline"), &json!(4)),
        "{put:?}"
    );
    assert_eq!(client.get("/market/gpus/g2").body["availability_status"], "offline");
    assert_eq!(client.get("/market/providers/p").body["status"], "offline");
    let refused = client.post("/market/bookings", &booking("b", "g1", (node.now, node.now + HOUR)));
    assert_eq!((refused.status, refused.field()), (409, "gpu_id"), "{refused:?}");
    assert_eq!(client.put("/market/providers/q/status", &json!({"status": "offline"})).status, 404);
}

#[test]
fn a_search_filters_ranks_and_turns_pages() {
    let node = Running::alone();
    let client = &node.client;
    with_four(&node);
    let mut best = gpu(9_000_000);
    (best["performance_score"], best["memory_gb"]) = (json!(2_000), json!(192));
    client.put("/market/gpus/best", &best);
    assert_eq!(ids(&client.get("/market/search?sort=performance&limit=2")), ["best", "g1"]);
    assert_eq!(ids(&client.get("/market/search?min_memory_gb=100")), ["best"]);
    assert_eq!(ids(&client.get("/market/search?max_price_per_hour=2000000&region=europe")), ["g1", "g2"]);
    assert!(ids(&client.get("/market/search?region=us-east")).is_empty());

    let (mut shown, mut path) = (Vec::new(), "/market/search?limit=2".to_owned());
    loop {
        let page = client.get(&path);
        assert_eq!((page.status, &page.body["currency"]), (200, &json!("USD")), "{page:?}");
        shown.extend(ids(&page).into_iter().map(str::to_owned));
        let Some(next) = page.body["next_cursor"].as_str() else { break };
        path = format!("/market/search?limit=2&cursor={next}");
    }
    assert_eq!(shown, ["g1", "g2", "g3", "g4", "best"]);

    // A page that is cached follows a change at once.
    assert_eq!(client.get("/market/search?status=available&limit=1").header("x-cache-tier"), Some("source"));
    assert_eq!(client.get("/market/search?status=available&limit=1").header("x-cache-tier"), Some("l1"));
    client.put("/market/gpus/g1/status", &json!({"status": "maintenance"}));
    assert_eq!(ids(&client.get("/market/search?status=available&limit=1")), ["g2"]);
}

#[test]
fn an_order_book_is_told_whole_from_its_top_and_by_what_changed() {
    let node = Running::alone();
    let client = &node.client;
    with_four(&node);
    let path = "/market/order-book/H100?region=europe";
    let whole = client.get(path).body;
    assert_eq!(whole["levels"].as_array().map(Vec::len), Some(4), "{whole}");
    assert_eq!((&whole["best_price"], &whole["levels"][0]["gpu_ids"]), (&json!(1_000_000), &json!(["g1"])));
    let top = client.get(&format!("{path}&depth=1")).body;
    assert_eq!((&top["levels"], &top["version"]), (&json!([whole["levels"][0]]), &whole["version"]));

    let since = format!("{path}&since={}", whole["version"]);
    assert_eq!(client.get(&since).body["changes"], json!([]));
    client.post("/market/bookings", &booking("b", "g1", (node.now, node.now + HOUR)));
    let delta = client.get(&since).body;
    assert_eq!(delta["since"], whole["version"], "{delta}");
    assert_eq!(delta["changes"], json!([{"price_per_hour": 1_000_000, "count": 0, "gpu_ids": []}]));
    assert_eq!(delta["best_price"], 2_000_000);
    // A version that was never answered here: the whole book.
    assert!(client.get(&format!("{path}&since=999999")).body["levels"].is_array());
}

#[test]
fn what_is_wrong_is_told_by_its_field() {
    let node = Running::alone();
    let client = &node.client;
    with_four(&node);
    let (now, past) = (node.now, node.now - HOUR);
    let put = |path: &str, body: Value| client.put(path, &body);
    let with = |field: &str, value: Value| {
        let mut body = gpu(1);
        body[field] = value;
        put("/market/gpus/g1", body)
    };
    let book = |field: &str, value: Value| {
        let mut body = booking("x", "g1", (now, now + HOUR));
        body[field] = value;
        client.post("/market/bookings", &body)
    };
    let wrong = [
        (with("base_price_per_hour", json!(-1)), 422, "base_price_per_hour"),
        (with("base_price_per_hour", json!(1.5)), 422, "base_price_per_hour"),
        (with("base_price_per_hour", json!(u64::MAX)), 422, "base_price_per_hour"),
        (with("currency", json!("EUR")), 422, "currency"),
        (with("gpu_id", json!("g2")), 422, "gpu_id"),
        (with("provider_id", json!("q")), 422, "provider_id"),
        (with("region", json!("")), 422, "region"),
        (with("availability_status", json!("asleep")), 422, "availability_status"),
        (with("colour", json!("red")), 422, "colour"),
        (put("/market/gpus/g1/status", json!({"status": "asleep"})), 422, "status"),
        (put("/market/gpus/g1/status", json!({})), 422, "status"),
        (put("/market/gpus/none/status", json!({"status": "busy"})), 404, ""),
        (
            put("/market/pricing/H100?region=europe", json!({"base_price_per_hour": "1"})),
            422,
            "base_price_per_hour",
        ),
        (put("/market/pricing/H100", json!({"base_price_per_hour": 1})), 400, "region"),
        (put("/market/pricing/none?region=europe", json!({"base_price_per_hour": 1})), 404, ""),
        (put("/market/providers/p/status", json!({"status": "busy"})), 422, "status"),
        (book("end_time", json!(now)), 422, "end_time"),
        (book("end_time", json!(past)), 422, "end_time"),
        (book("start_time", json!(past)), 422, "start_time"),
        (book("start_time", json!(-5)), 422, "start_time"),
        (book("end_time", json!(u64::MAX)), 422, "end_time"),
        (book("booking_id", json!("")), 422, "booking_id"),
        (book("user_id", Value::Null), 422, "user_id"),
        (client.get("/market/availability?region=europe"), 400, "gpu_type"),
        (client.get("/market/availability?gpu_type=H100"), 400, "region"),
        (client.get("/market/availability?gpu_type=H100&region=mars"), 404, ""),
        (client.get("/market/stats?planet=mars"), 400, "planet"),
        (client.get("/market/stats?region=a/b"), 400, "region"),
        (client.get("/market/search?limit=0"), 400, "limit"),
        (client.get("/market/search?limit=101"), 400, "limit"),
        (client.get("/market/search?limit=ten"), 400, "limit"),
        (client.get("/market/search?cursor=x"), 400, "cursor"),
        (client.get("/market/search?sort=colour"), 400, "sort"),
        (client.get("/market/search?status=asleep"), 400, "status"),
        (client.get("/market/search?max_price_per_hour=-1"), 400, "max_price_per_hour"),
        (client.get("/market/order-book/H100?region=europe&since=1&depth=1"), 400, "depth"),
        (client.get("/market/order-book/H100?region=mars"), 404, ""),
    ];
    for (n, (answer, status, field)) in wrong.iter().enumerate() {
        assert_eq!((answer.status, answer.field()), (*status, *field), "row {n}: {answer:?}");
        assert!(!answer.error().is_empty(), "row {n}");
    }
    // And nothing has changed.
    let stats = client.get("/market/stats").body;
    assert_eq!((&stats["total_gpus"], &stats["total_bookings_24h"]), (&json!(4), &json!(0)));
    assert_eq!(client.get("/market/gpus/g1").body["base_price_per_hour"], 1_000_000);
}

#[test]
fn a_booking_on_one_node_is_seen_on_another() {
    let redis = RedisServer::start();
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new());
    let url = redis.url();
    let nodes =
        ["a", "b"].map(|id| Running::start(&[("REDIS_URL", &url), ("EDGE_NODE_ID", id)], ledger.clone()));
    let [one, other] = nodes.each_ref().map(|node| &node.client);
    with_four(&nodes[0]);
    // The other node holds all that a booking changes.
    let paths = [
        "/market/gpus/g1",
        "/market/availability?region=europe&gpu_type=H100",
        "/market/pricing/H100?region=europe",
        "/market/order-book/H100?region=europe",
        "/market/stats?region=europe",
        "/market/search?status=available",
        "/market/bookings/b1",
    ];
    let before = paths.map(|path| {
        other.get(path);
        let held = other.get(path);
        assert_eq!(held.header("x-cache-tier"), Some("l1"), "{path}: {held:?}");
        held.body
    });
    let mut token = String::new();
    for (id, gpu) in [("b1", "g1"), ("b2", "g2"), ("b3", "g3")] {
        let made = one.post("/market/bookings", &booking(id, gpu, (nodes[0].now, nodes[0].now + HOUR)));
        assert_eq!((made.status, &made.body["published"]), (201, &json!(true)), "{made:?}");
        token = format!("at-least={}", made.header("x-cache-token").expect("a token"));
    }
    for (path, before) in paths.iter().zip(&before) {
        let now = other.ask("GET", path, &[("cache-freshness", &token)], None);
        assert_ne!(now.body, *before, "{path}");
        assert_eq!(now.body, one.ask("GET", path, &[("cache-freshness", "latest")], None).body, "{path}");
    }
    let again = other.post("/market/bookings", &booking("b1", "g1", (nodes[0].now, nodes[0].now + HOUR)));
    assert_eq!(again.status, 200, "the same booking on another node is the same booking: {again:?}");
    let overlap = other.post("/market/bookings", &booking("b4", "g1", (nodes[0].now, nodes[0].now + HOUR)));
    assert_eq!(overlap.status, 409, "{overlap:?}");
}

#[test]
fn a_booking_that_cannot_be_announced_is_accepted_and_announced_later() {
    let mut redis = RedisServer::start();
    let ledger: Arc<dyn Ledger> = Arc::new(MemoryLedger::new());
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "[cache]\nwrite_deadline = \"300ms\"\n").expect("writable");
    let url = redis.url();
    let env = [("REDIS_URL", url.as_str())];
    let node = Running::start_with(&env, ledger, Some(file.path().to_owned()));
    with_four(&node);
    assert_eq!(node.client.get("/market/gpus/g1").body["availability_status"], "available");
    redis.kill();
    let made = node.client.post("/market/bookings", &booking("b", "g1", (node.now, node.now + HOUR)));
    assert_eq!((made.status, &made.body["published"]), (202, &json!(false)), "{made:?}");
    assert_eq!(made.body["status"], "active");
    redis.revive();
    node.client.until_status("healthy");
    node.client.until("/market/gpus/g1", "the booking is seen", |answer| {
        answer.body["availability_status"] == "busy"
    });
}

#[test]
fn processes_on_one_redis_and_one_sqlite_share_a_market_that_outlives_them() {
    let folder = tempfile::tempdir().expect("a folder");
    share_a_market_that_outlives_them(&format!("sqlite:{}", folder.path().join("market.db").display()));
}

#[test]
fn processes_on_one_redis_and_one_postgresql_share_a_market_that_outlives_them() {
    let server = PostgresServer::start();
    share_a_market_that_outlives_them(&server.url());
}

fn share_a_market_that_outlives_them(database: &str) {
    let redis = RedisServer::start();
    let url = redis.url();
    let start = |id: &str| {
        let env = [("REDIS_URL", url.as_str()), ("DATABASE_URL", database), ("EDGE_NODE_ID", id)];
        let serving = Serving::start(&env);
        serving.client.until_status("healthy");
        serving
    };
    let (one, other) = (start("a"), start("b"));
    for n in 1..=4 {
        assert_eq!(one.client.put(&format!("/market/gpus/g{n}"), &gpu(1_000_000)).status, 200);
    }
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).expect("after 1970");
    assert_eq!(other.client.get("/market/gpus/g1").body["availability_status"], "available");
    let request = booking("b1", "g1", (now, now + HOUR));
    let made = one.client.post("/market/bookings", &request);
    assert_eq!((made.status, &made.body["published"]), (201, &json!(true)), "{made:?}");
    let token = format!("at-least={}", made.header("x-cache-token").expect("a token"));
    let seen = other.client.ask("GET", "/market/gpus/g1", &[("cache-freshness", &token)], None);
    assert_eq!(seen.body["availability_status"], "busy");
    assert_eq!(other.client.post("/market/bookings", &request).status, 200);
    let overlap = other.client.post("/market/bookings", &booking("b2", "g1", (now, now + HOUR)));
    assert_eq!(overlap.status, 409, "{overlap:?}");
    for node in [one, other] {
        let (status, log) = node.terminate();
        assert!(status.success(), "{log}");
    }
    let again = start("c");
    assert_eq!(again.client.get("/market/bookings/b1").body["status"], "active");
    assert_eq!(again.client.get("/market/stats").body["total_bookings_24h"], 1);
}

#[test]
fn a_database_that_cannot_be_used_is_told_with_the_cure_and_without_its_password() {
    let arguments = ["--listen", "127.0.0.1:0"];
    for url in ["sqlite:/does/not/exist/market.db", "postgres://u:hunter2@127.0.0.1:1/market"] {
        let refused = command(&arguments, &[("DATABASE_URL", url)]).output().expect("it runs");
        let told = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert!(told.contains("DATABASE_URL") && !told.contains("hunter2"), "{told}");
    }
}
