//! What a node exports, read by a parser: complete, consistent, growing, described; and what is built on it names what is there.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use prometheus_parse::{Scrape, Value};
use serde_json::{Value as Json, json};
use support::{LONG, Serving, stopwatch};

use cache_testkit::RedisServer;

/// Metrics of a node in text form, parsed.
struct Told {
    text: String,
    /// By name, as `# TYPE` says.
    types: BTreeMap<String, String>,
    scrape: Scrape,
}

impl Told {
    fn by(node: &Serving) -> Self {
        let (status, text) = node.client.text("/metrics");
        assert_eq!(status, 200, "{text}");
        let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).expect("it can be read");
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let types = types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
        Self { text, types, scrape }
    }

    /// The values of a metric, by its labels.
    fn values(&self, name: &str) -> BTreeMap<String, f64> {
        let of = self.scrape.samples.iter().filter(|sample| sample.metric == name);
        let number = |value: &Value| match value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => *value,
            other => panic!("{name} is {other:?}"),
        };
        of.map(|sample| (sample.labels.to_string(), number(&sample.value))).collect()
    }

    fn value(&self, name: &str) -> f64 {
        let all = self.values(name);
        assert!(!all.is_empty(), "{name} is not there:\n{}", self.text);
        all.values().sum()
    }

    /// The names under which samples stand, histograms by that of the family.
    fn exported(&self) -> BTreeSet<String> {
        let sample = |(name, kind): (&String, &String)| match kind.as_str() {
            "counter" => format!("{name}_total"),
            _ => name.clone(),
        };
        self.types.iter().map(sample).collect()
    }
}

/// Reads and writes of all kinds.
fn exercise(node: &Serving) {
    let path = "/cache/inventory/widget";
    assert_eq!(node.client.put(path, &json!(1)).status, 200);
    for _ in 0..300 {
        assert_eq!(node.client.get(path).status, 200);
    }
    assert_eq!(node.client.get("/cache/inventory/nothing").status, 404);
    assert_eq!(node.client.delete(path).status, 200);
}

/// Has the first hear of a change by the second.
fn hears_of(node: &Serving, other: &Serving) {
    assert_eq!(other.client.put("/cache/session/s", &json!(1)).status, 200);
    node.client.until("/cache/stats", "an event", |answer| answer.body["last_event_time"].is_string());
}

fn pair(redis: &RedisServer) -> [Serving; 2] {
    let url = redis.url();
    ["a", "b"].map(|id| {
        let serving =
            Serving::start(&[("REDIS_URL", &url), ("EDGE_NODE_ID", id), ("EDGE_NODE_REGION", "us")]);
        serving.client.until_status("healthy");
        serving
    })
}

#[test]
fn everything_that_is_asked_for_is_exported_consistent_and_described() {
    let redis = RedisServer::start();
    let [node, other] = pair(&redis);
    exercise(&node);
    other
        .client
        .until("/cache/stats", "an event", |answer| !answer.body["event_propagation_latency_ms"].is_null());
    let first = Told::by(&node);
    exercise(&node);
    let later = Told::by(&node);

    // The names that the statistics have.
    let names = [
        "edgecache_cache_hits_total",
        "edgecache_cache_misses_total",
        "edgecache_events_processed_total",
        "edgecache_invalidations_total",
        "edgecache_last_event_time_seconds",
        "edgecache_l1_cache_size",
        "edgecache_l1_cache_max_size",
        "edgecache_redis_memory_used_bytes",
        "edgecache_redis_connected_clients",
        "edgecache_cache_hit_ratio",
        "edgecache_avg_response_time_seconds",
        "edgecache_event_propagation_latency_seconds",
        "edgecache_invalidation_latency_seconds",
        "edgecache_memory_utilization_ratio",
        "edgecache_connection_pool_utilization_ratio",
        "edgecache_redis_info",
        "edgecache_redis_keys",
        "edgecache_redis_connected",
        "edgecache_hit_rate_percent",
        "edgecache_avg_latency_seconds",
        "edgecache_memory_usage_bytes",
        "edgecache_eviction_rate",
        "edgecache_build_info",
        "edgecache_node_info",
        "process_resident_memory_bytes",
    ];
    let exported = later.exported();
    for name in names {
        assert!(exported.contains(name), "{name} is missing:\n{}", later.text);
    }
    assert!(later.value("process_resident_memory_bytes") > 1e6);
    assert!(
        later
            .values("edgecache_node_info")
            .keys()
            .all(|labels| { labels.contains("node_id=\"a\"") && labels.contains("region=\"us\"") })
    );

    // Counters only grow, and what was done is in them.
    for (name, _) in later.types.iter().filter(|(_, kind)| *kind == "counter") {
        let name = format!("{name}_total");
        let now = later.values(&name);
        for (labels, before) in first.values(&name) {
            assert!(now[&labels] >= before, "{name}{labels}: {before}, then {}", now[&labels]);
        }
    }
    let grown = |name| later.value(name) - first.value(name);
    assert_eq!(grown("edgecache_reads_total"), 301.0);
    assert_eq!(grown("edgecache_cache_hits_total"), 300.0);
    assert_eq!(grown("edgecache_writes_total"), 1.0);
    // What the statistics tell too is the same there.
    let stats = node.client.get("/cache/stats").body;
    for (name, field) in [
        ("edgecache_cache_hits_total", "cache_hits"),
        ("edgecache_cache_misses_total", "cache_misses"),
        ("edgecache_events_processed_total", "events_processed"),
        ("edgecache_invalidations_total", "invalidations"),
        ("edgecache_l1_cache_size", "l1_cache_size"),
        ("edgecache_l1_cache_max_size", "l1_cache_max_size"),
        ("edgecache_cache_hit_ratio", "cache_hit_ratio"),
    ] {
        assert_eq!(Some(later.value(name)), stats[field].as_f64(), "{name}: {stats}");
    }

    // Histograms: cumulative, ended by all, whose number is the count.
    let mut histograms = 0;
    for sample in &later.scrape.samples {
        let Value::Histogram(buckets) = &sample.value else { continue };
        let (name, labels) = (&sample.metric, sample.labels.to_string());
        histograms += 1;
        assert!(
            buckets.is_sorted_by(|a, b| a.less_than < b.less_than && a.count <= b.count),
            "{name}{labels}"
        );
        let last = buckets.last().expect("at least one bucket");
        assert!(last.less_than.is_infinite(), "{name}{labels}");
        let (count, sum) = (later.values(&format!("{name}_count")), later.values(&format!("{name}_sum")));
        assert_eq!(count[&labels], last.count, "{name}{labels}");
        let most =
            buckets.iter().rev().find(|bucket| bucket.less_than.is_finite()).expect("bounds").less_than;
        let all_within = buckets[buckets.len() - 2].count == last.count;
        assert!(!all_within || sum[&labels] <= last.count * most * 1.01, "{name}{labels}: {}", sum[&labels]);
        assert!((sum[&labels] > 0.0) == (last.count > 0.0) || name.contains("propagation"), "{name}{labels}");
    }
    assert!(histograms > 20, "{histograms}");
    let invalidations = later.values("edgecache_invalidation_latency_seconds_count");
    assert_eq!(invalidations.values().sum::<f64>(), 2.0);

    // Each is described in a sentence.
    for name in later.types.keys() {
        let help = later.text.lines().find_map(|line| line.strip_prefix(&format!("# HELP {name} ")));
        let help = help.unwrap_or_else(|| panic!("{name} is not described"));
        assert!(
            help.len() > 5 && help.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit()),
            "{help}"
        );
        assert!(help.ends_with('.'), "{help}");
    }
}

#[test]
fn propagation_between_two_nodes_is_plausible() {
    let redis = RedisServer::start();
    let [writer, reader] = pair(&redis);
    for n in 0..50 {
        assert_eq!(writer.client.put(&format!("/cache/inventory/w{n}"), &json!(n)).status, 200);
    }
    reader
        .client
        .until("/cache/stats", "50 events", |answer| answer.body["event_propagation"]["samples"] == 50);
    let stats = reader.client.get("/cache/stats").body;
    let median = stats["event_propagation_latency_ms"].as_f64().expect("a figure");
    // On one machine: well below the interval of the syncs that would bring it without a hint.
    assert!((0.0..250.0).contains(&median), "{stats}");
    assert_eq!(writer.client.get("/cache/stats").body["event_propagation"]["samples"], 0, "its own are none");
    assert_eq!(stats["redis_connection"], "connected");
    assert!(stats["redis_version"].as_str().is_some_and(|version| version.contains('.')), "{stats}");
    assert!(stats["connection_pool_utilization"].as_f64().is_some_and(|used| (0.0..=1.0).contains(&used)));
}

#[test]
fn connections_that_fail_are_counted() {
    let redis = RedisServer::start();
    let url = redis.url();
    let node = Serving::start(&[("REDIS_URL", &url)]);
    node.client.until_status("healthy");
    drop(redis);
    node.client.until("/cache/stats", "failures", |answer| {
        answer.body["redis_connection"] == "disconnected"
            && answer.body["connection_failures_per_minute"].as_f64() > Some(5.0)
    });
    let told = Told::by(&node);
    assert!(told.value("edgecache_redis_connection_failures_total") > 0.0);
    assert_eq!(told.value("edgecache_redis_connected"), 0.0);
}

#[test]
fn switched_off_metrics_say_which_switch_it_was() {
    let node = Serving::start(&[("CACHE_ENABLE_METRICS", "false")]);
    let refused = node.client.get("/metrics");
    assert_eq!(refused.status, 404);
    assert!(refused.body.to_string().contains("cache.enable_metrics"), "{refused:?}");
}

#[test]
fn the_hottest_keys_are_told() {
    let node = Serving::start(&[]);
    for resource in ["cold", "hot"] {
        assert_eq!(node.client.put(&format!("/cache/inventory/{resource}"), &json!(1)).status, 200);
    }
    let began = stopwatch();
    loop {
        for n in 0..256 {
            let resource = if n % 16 == 0 { "cold" } else { "hot" };
            assert_eq!(node.client.get(&format!("/cache/inventory/{resource}")).status, 200);
        }
        let hot = node.client.get("/node/hot-keys?limit=1").body;
        let first = &hot["keys"][0];
        if first["key"].as_str().is_some_and(|key| key == "inventory/hot/") {
            assert_eq!(first["cache_type"], "inventory");
            assert!(first["reads_per_s"].as_f64() > Some(0.0), "{hot}");
            break;
        }
        assert!(began.elapsed() < LONG, "{hot}");
    }
    assert_eq!(node.client.get("/node/hot-keys?limit=0").status, 400);
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn file(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of ours that stand in an expression.
fn named(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("edgecache_") || word.starts_with("process_"));
    ours.map(str::to_owned).collect()
}

/// A node's names as expressions spell them.
fn all_names(redis: &RedisServer) -> BTreeSet<String> {
    let [node, other] = pair(redis);
    exercise(&node);
    hears_of(&node, &other);
    let told = Told::by(&node);
    let mut names = told.exported();
    for (name, _) in told.types.iter().filter(|(_, kind)| *kind == "histogram") {
        names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
    }
    names
}

fn expressions(json: &Json, found: &mut Vec<String>) {
    match json {
        Json::Object(fields) => fields.iter().for_each(|(name, value)| match value {
            Json::String(text) if name == "expr" || name == "query" || name == "definition" => {
                found.push(text.clone());
            }
            value => expressions(value, found),
        }),
        Json::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
fn dashboard_rules_and_documentation_name_what_a_node_exports() {
    let redis = RedisServer::start();
    let names = all_names(&redis);
    let dashboard: Json =
        serde_json::from_str(&file("docker/grafana/dashboards/edgecache.json")).expect("JSON");
    let mut asked = Vec::new();
    expressions(&dashboard, &mut asked);
    assert!(asked.len() > 20, "{}", asked.len());
    let rules = file("docker/prometheus/rules.yml");
    let rules: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).collect();
    assert_eq!(
        rules.len(),
        11,
        "a warning and a critical alert of each figure, and one of a node that is away"
    );
    asked.extend(rules.iter().map(|rule| (*rule).to_owned()));
    for expression in &asked {
        for name in named(expression) {
            assert!(names.contains(&name), "no node exports {name}, which this asks for: {expression}");
        }
    }
    // The table of the documentation is complete, and true.
    let page = file("docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let rows = rows.map(|(name, _)| name.to_owned());
    let described: BTreeSet<String> =
        rows.filter(|name| name.starts_with("edgecache_") || name.starts_with("process_")).collect();
    let families: BTreeSet<String> =
        names.iter().filter(|name| !names.iter().any(|family| is_part(name, family))).cloned().collect();
    assert_eq!(described, families);
}

/// Whether it is a part of a histogram.
fn is_part(name: &str, family: &str) -> bool {
    ["_bucket", "_sum", "_count"].iter().any(|part| name.strip_suffix(part) == Some(family))
}
