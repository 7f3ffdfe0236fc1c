//! `GET /node/doctor`: each thing that can be wrong is found on a real server that has it, and not on one that is right.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cache_api::operate::{Finding, Verdict};
use cache_node::assembly::Shared;
use cache_node::config::{Backing, NodeConfig};
use cache_testkit::{
    Fault, FaultProxy, FaultyTransport, JumpingClock, RedisReplicated, RedisServer, RedisServerOptions,
};
use serde_json::json;
use support::{Answer, Client, InProcess, LONG, Serving, config, stopwatch};

type Findings = BTreeMap<String, Finding>;

fn options(more: &[&str]) -> RedisServerOptions {
    let well = ["--maxmemory", "200mb", "--maxmemory-policy", "volatile-ttl"];
    RedisServerOptions {
        args: well.iter().chain(more).map(ToString::to_string).collect(),
        ..Default::default()
    }
}

/// Makes the user of the recipe in the documentation of the adapter, who may also ask for settings.
fn with_user(server: &RedisServer) -> String {
    let docs = include_str!("../../cache-redis/src/lib.rs");
    let recipe =
        docs.split("//! ACL SETUSER").nth(1).and_then(|text| text.split("```").next()).expect("a recipe");
    let words = recipe.split_whitespace().filter(|word| *word != "//!");
    server.command(&["ACL", "SETUSER"].into_iter().chain(words).chain(["+config|get"]).collect::<Vec<_>>());
    format!("redis://edge:secret@{}", server.addr())
}

fn node(url: &str) -> Serving {
    let node = Serving::start(&[("REDIS_URL", url)]);
    node.client.until_status("healthy");
    node
}

fn findings(node: &Serving) -> Findings {
    findings_of(&node.client)
}

/// What is found once the server has had time to answer: on a busy machine it may have too little for one look.
fn findings_of(client: &Client) -> Findings {
    let began = stopwatch();
    loop {
        let answer = client.get("/node/doctor");
        assert_eq!(answer.status, 200, "{answer:?}");
        let told: cache_api::operate::Findings = serde_json::from_value(answer.body).expect("findings");
        let found: Findings =
            told.findings.into_iter().map(|finding| (finding.check.clone(), finding)).collect();
        let late = |text: &str| text.contains("no answer within") || text.contains("no connection within");
        if !found.get("redis").is_some_and(|finding| late(&finding.found)) || began.elapsed() > LONG / 2 {
            return found;
        }
    }
}

/// What a check comes to; a verdict that is not `ok` has a cure.
fn verdict(findings: &Findings, check: &str) -> Verdict {
    let finding = findings.get(check).unwrap_or_else(|| panic!("no check {check} in {findings:?}"));
    assert_eq!(finding.cure.is_none(), finding.verdict == Verdict::Ok, "{finding:?}");
    finding.verdict
}

/// Looks until a check comes to a verdict.
fn until(node: &Serving, check: &str, wanted: Verdict) -> Findings {
    until_of(&node.client, check, wanted)
}

fn until_of(client: &Client, check: &str, wanted: Verdict) -> Findings {
    let began = stopwatch();
    loop {
        let found = findings_of(client);
        if verdict(&found, check) == wanted {
            return found;
        }
        assert!(began.elapsed() < LONG, "{check} never came to {wanted:?}: {found:?}");
    }
}

#[test]
fn a_good_server_and_a_good_node_have_no_finding() {
    let server = RedisServer::start_with(options(&[]));
    let node = node(&with_user(&server));
    let found = findings(&node);
    assert!(found.len() > 14, "{found:?}");
    let bad: Vec<_> = found.values().filter(|finding| finding.verdict != Verdict::Ok).collect();
    // How long a round trip takes is up to the machine.
    assert!(bad.iter().all(|finding| finding.check == "redis latency"), "{bad:?}");
    // Nothing stays behind, and nobody was disturbed: the knock was neither unreadable nor a reason to sync.
    assert_eq!(node.client.get("/health").body["status"], "healthy");
}

#[test]
fn a_node_without_redis_is_judged_too() {
    let node = Serving::start(&[]);
    node.client.until_status("healthy");
    let found = findings(&node);
    assert!(!found.contains_key("maxmemory-policy"));
    assert!(found.values().all(|finding| finding.verdict == Verdict::Ok), "{found:?}");
}

#[test]
fn a_policy_that_evicts_what_must_stay_is_found() {
    let server = RedisServer::start_with(options(&[]));
    let node = node(&with_user(&server));
    let set = |name: &str, value: &str| drop(server.command(&["CONFIG", "SET", name, value]));
    let policies = [
        ("allkeys-lru", Verdict::Problem),
        ("volatile-lru", Verdict::Problem),
        ("noeviction", Verdict::Warning),
        ("volatile-ttl", Verdict::Ok),
    ];
    for (policy, wanted) in policies {
        set("maxmemory-policy", policy);
        assert_eq!(verdict(&findings(&node), "maxmemory-policy"), wanted, "{policy}");
    }
    set("maxmemory", "0");
    assert_eq!(verdict(&findings(&node), "maxmemory-policy"), Verdict::Warning, "no limit");
    // Full, and nothing may leave.
    set("maxmemory-policy", "noeviction");
    set("maxmemory", "1mb");
    assert_eq!(verdict(&findings(&node), "maxmemory-policy"), Verdict::Problem, "full");
}

#[test]
fn records_that_were_evicted_are_found() {
    let server = RedisServer::start_with(options(&[]));
    let node = node(&with_user(&server));
    assert_eq!(verdict(&findings(&node), "evicted records"), Verdict::Ok);
    let value = "x".repeat(10_000);
    for number in 0..300 {
        server.command(&["SET", &format!("other:{number}"), &value, "EX", "1000"]);
    }
    let used: u64 = server.info("memory", "used_memory").parse().expect("a number");
    server.command(&["CONFIG", "SET", "maxmemory", &(used - 1_000_000).to_string()]);
    server.command(&["SET", "other:last", "x", "EX", "1000"]);
    until(&node, "evicted records", Verdict::Warning);
}

#[test]
fn small_buffers_for_hints_are_found_and_a_right_to_ask_is_a_cure() {
    let server = RedisServer::start_with(options(&[]));
    let node = node(&with_user(&server));
    server.command(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 512kb 60"]);
    assert_eq!(verdict(&findings(&node), "client-output-buffer-limit"), Verdict::Warning);
    server.command(&["ACL", "SETUSER", "edge", "-config|get"]);
    let found = findings(&node);
    assert_eq!(verdict(&found, "client-output-buffer-limit"), Verdict::Unknown);
    let cure = found["client-output-buffer-limit"].cure.as_deref().unwrap_or_default();
    assert!(cure.contains("+config|get"), "{cure}");
    let words: Vec<&str> = cure.split_once(": ").expect("a command").1.split(' ').collect();
    server.command(&words);
    assert_eq!(verdict(&findings(&node), "client-output-buffer-limit"), Verdict::Warning, "the cure helps");
}

#[test]
fn rights_that_are_missing_or_too_many_are_found() {
    let server = RedisServer::start_with(options(&[]));
    let node = node(&with_user(&server));
    server.command(&["ACL", "SETUSER", "edge", "-unlink", "-xinfo|stream"]);
    let found = findings(&node);
    assert_eq!(verdict(&found, "rights"), Verdict::Problem);
    let cure = found["rights"].cure.clone().expect("a cure");
    assert!(cure.contains("+unlink") && cure.contains("+xinfo|stream") && !cure.contains("+get"), "{cure}");
    server.command(&cure.split(' ').collect::<Vec<_>>());
    assert_eq!(verdict(&findings(&node), "rights"), Verdict::Ok, "the cure helps");
    server.command(&["ACL", "SETUSER", "edge", "-scan"]);
    assert_eq!(verdict(&findings(&node), "rights"), Verdict::Warning, "patterns do not work");
    for wide in [["~*"], ["+acl|list"]] {
        let user = [&["ACL", "SETUSER", "edge"][..], &wide].concat();
        assert_eq!(verdict(&findings(&node), "least rights"), Verdict::Ok);
        server.command(&user);
        assert_eq!(verdict(&findings(&node), "least rights"), Verdict::Warning, "{wide:?}");
        server.command(&["ACL", "SETUSER", "edge", "resetkeys", "~ec:*", "-acl|list"]);
    }
}

#[test]
fn a_redis_without_a_password_is_found() {
    let server = RedisServer::start_with(options(&[]));
    let found = findings(&node(&server.url()));
    assert_eq!(verdict(&found, "least rights"), Verdict::Warning);
    assert!(found["least rights"].found.contains("no password"));
}

#[test]
fn masters_that_go_on_alone_or_cannot_write_are_found() {
    let mut servers = RedisReplicated::start_with(1, options(&[]));
    let node = node(&with_user(&servers.master));
    assert_eq!(verdict(&findings(&node), "min-replicas-to-write"), Verdict::Problem);
    // Nothing on disk, and replicas that a restart would empty.
    assert_eq!(verdict(&findings(&node), "persistence"), Verdict::Warning);
    servers.master.command(&["CONFIG", "SET", "appendonly", "yes"]);
    assert_eq!(verdict(&findings(&node), "persistence"), Verdict::Ok);
    servers.master.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    servers.master.command(&["CONFIG", "SET", "min-replicas-max-lag", "1"]);
    until(&node, "min-replicas-to-write", Verdict::Ok);
    servers.replicas[0].kill();
    let found = until(&node, "min-replicas-to-write", Verdict::Problem);
    assert!(found["min-replicas-to-write"].found.contains("refuses writes"), "{found:?}");
}

#[test]
fn a_node_of_another_layout_is_found() {
    let server = RedisServer::start_with(options(&[]));
    let url = with_user(&server);
    let right = node(&url);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    std::fs::write(&file, "[redis]\npartitions = 2\n").expect("a file");
    let arguments = ["--config", file.to_str().expect("text"), "--listen", "127.0.0.1:0"];
    let wrong = Serving::start_with(&arguments, &[("REDIS_URL", &url)]);
    let found = until(&wrong, "layout", Verdict::Problem);
    assert!(found["layout"].found.contains("fenced"), "{found:?}");
    // It must not be asked, and nobody has to restart it for that.
    let ready = wrong.client.get("/health/ready");
    assert_eq!((ready.status, &ready.body["status"]), (503, &json!("unhealthy")), "{ready:?}");
    assert!(ready.body["error"].as_str().is_some_and(|why| why.contains("fenced off")), "{ready:?}");
    assert_eq!(wrong.client.get("/health/live").status, 200);
    assert_eq!(verdict(&findings(&right), "layout"), Verdict::Ok);
}

#[test]
fn a_redis_that_is_away_and_what_waits_for_it_are_found() {
    let mut server = RedisServer::start_with(options(&[]));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    std::fs::write(&file, "[cache]\nwrite_deadline = \"200ms\"\n").expect("a file");
    let arguments = ["--config", file.to_str().expect("text"), "--listen", "127.0.0.1:0"];
    let node = Serving::start_with(&arguments, &[("REDIS_URL", &with_user(&server))]);
    node.client.until_status("healthy");
    server.kill();
    assert_eq!(node.client.put("/cache/inventory/widget", &json!(1)).status, 503);
    let found = until(&node, "outbox", Verdict::Warning);
    assert_eq!(verdict(&found, "redis"), Verdict::Problem);
    server.revive();
    with_user(&server);
    until(&node, "outbox", Verdict::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_redis_is_found() {
    let server = RedisServer::start_with(options(&[]));
    let url = with_user(&server);
    let proxy = FaultProxy::start(server.addr()).await.expect("a port");
    let node = node(&url.replace(&server.addr().to_string(), &proxy.addr().to_string()));
    proxy.set(Fault::Delay(Duration::from_millis(20)));
    let found = until(&node, "redis latency", Verdict::Problem);
    assert!(found["redis latency"].cure.as_deref().unwrap_or_default().contains("operation_timeout"));
}

#[test]
fn a_clock_that_is_five_seconds_wrong_is_found_and_misleads_no_figure() {
    let server = RedisServer::start_with(options(&[]));
    let url = with_user(&server);
    let settings = format!("[redis]\nurl = {url:?}\n[database]\nallow_private_ledger = true\n");
    let config = config(&settings);
    let mut shared = Shared::of(&config.backing).expect("parts");
    let clock = Arc::new(JumpingClock::new(shared.clock));
    clock.back(Duration::from_secs(5));
    shared.clock = clock.clone();
    let wrong = InProcess::start_over(config, shared);
    let right = node(&url);
    let found = until_of(&wrong.client, "clock", Verdict::Warning);
    let told = &found["clock"].found;
    let ahead = told.split(' ').find_map(|word| word.parse::<i64>().ok()).expect("a figure");
    assert!((4_900..5_100).contains(&ahead), "{told}");
    until(&right, "clock", Verdict::Ok);

    // What one changes, the other hears, and both know how long it took: by the clock of Redis, and not by their own.
    for (writer, hearer) in [(&right.client, &wrong.client), (&wrong.client, &right.client)] {
        let samples = |answer: &Answer| answer.body["event_propagation"]["samples"].as_u64().unwrap_or(0);
        let before = samples(&hearer.get("/cache/stats"));
        assert_eq!(writer.put("/cache/session/s", &json!(1)).status, 200);
        hearer.until("/cache/stats", "an event", |answer| samples(answer) > before);
        let took = hearer.get("/cache/stats").body["event_propagation_latency_ms"].as_f64();
        assert!(took.is_some_and(|ms| ms < 1_000.0), "{took:?} ms");
    }
    let told = wrong.client.text("/metrics").1;
    let offset = told.lines().find_map(|line| line.strip_prefix("edgecache_clock_offset_seconds "));
    let offset = offset.and_then(|text| text.parse::<f64>().ok());
    assert!(offset.is_some_and(|seconds| (4.9..5.1).contains(&seconds)), "{offset:?}");
    clock.forward(Duration::from_secs(5));
    until_of(&wrong.client, "clock", Verdict::Ok);
}

/// Another way to look: the transport of this node loses every hint, and Redis knows nothing of it.
#[test]
fn a_subscription_over_which_nothing_comes_is_found() {
    let server = RedisServer::start_with(options(&[]));
    let mut config =
        NodeConfig { backing: Backing::redis(&with_user(&server)).expect("a URL"), ..NodeConfig::default() };
    config.http.listen = "127.0.0.1:0".to_owned();
    let mut shared = Shared::of(&config.backing).expect("parts");
    let transport = Arc::new(FaultyTransport::new(shared.transport.clone(), 1));
    shared.transport = transport.clone();
    let node = InProcess::start_over(config, shared);
    let come = |wanted: Verdict| until_of(&node.client, "events arrive", wanted);
    come(Verdict::Ok);
    transport.lose_hints(true);
    let found = come(Verdict::Problem);
    assert!(found["events arrive"].found.contains("does not come back"), "{found:?}");
    transport.lose_hints(false);
    come(Verdict::Ok);
}

#[test]
fn an_open_door_is_found() {
    let open = Serving::start_with(&["--listen", "0.0.0.0:0"], &[]);
    open.client.until_status("healthy");
    assert_eq!(verdict(&findings(&open), "access"), Verdict::Problem);
    let guarded = Serving::start_with(&["--listen", "0.0.0.0:0"], &[("CACHE_AUTH_TOKEN", "secret")]);
    guarded.client.until_status("healthy");
    let answer = guarded.client.with_token("secret").get("/node/doctor");
    assert!(answer.body.to_string().contains("must show a token"), "{answer:?}");
    assert_eq!(guarded.client.get("/node/doctor").status, 401);
}
