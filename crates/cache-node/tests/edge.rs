//! What stands between a node and the world: addresses, rates, bounds, time limits, panics, the logs of requests, the end.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use cache_bus::{HintStream, RosterRow, SyncAnswer, Transport, TransportError};
use cache_events::{NodeId, Partition, Position};
use cache_node::assembly::Shared;
use cache_testkit::RedisServer;
use serde_json::{Value, json};
use support::{Answer, InProcess, LONG, Serving, command, config, stopwatch};

fn node(text: &str) -> InProcess {
    InProcess::start(config(text))
}

fn retry_after(answer: &Answer) -> Option<u64> {
    answer.header("retry-after")?.parse().ok()
}

/// A connection on which something is said word by word.
fn connection(node: &InProcess, said: &str) -> TcpStream {
    let mut stream = TcpStream::connect(node.client.address()).expect("connected");
    stream.set_read_timeout(Some(LONG)).expect("set");
    stream.write_all(said.as_bytes()).expect("written");
    stream
}

/// All that comes until the other side ends, which it must do in time.
fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    if let Err(error) = stream.read_to_string(&mut text) {
        // The other side may have left without reading all that was said.
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the connection is still open: {error}");
    }
    text
}

const HALF: &str = "PUT /cache/session/s HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n1";

#[test]
fn a_network_that_is_not_named_is_refused() {
    let outside = InProcess::start_unasked(config("[http]\nallow = [\"10.0.0.0/8\"]"));
    for path in ["/cache/stats", "/health", "/openapi.json"] {
        let refused = outside.client.get(path);
        assert_eq!(refused.status, 403, "{path}");
        assert!(refused.error().contains("127.0.0.1"), "{refused:?}");
    }
    let spoofed = outside.client.ask("GET", "/cache/stats", &[("x-forwarded-for", "10.1.2.3")], None);
    assert_eq!(spoofed.status, 403, "nobody has said that this is a proxy");
    let behind = node("[http]\nallow = [\"10.0.0.0/8\", \"127.0.0.0/8\"]\ntrusted_proxies = [\"127.0.0.1\"]");
    let from =
        |address| behind.client.ask("GET", "/cache/stats", &[("x-forwarded-for", address)], None).status;
    assert_eq!((from("10.1.2.3"), from("11.0.0.1")), (200, 403));
    assert_eq!(behind.client.get("/cache/stats").status, 200, "the proxy for itself");
}

#[test]
fn administration_has_a_rate_and_reads_have_theirs() {
    let node = node("[http]\nadmin_requests_per_minute = 2");
    let clear = || node.client.post("/cache/clear", &json!({}));
    assert_eq!((clear().status, clear().status), (200, 200));
    let refused = clear();
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(retry_after(&refused).is_some_and(|seconds| (1..=60).contains(&seconds)), "{refused:?}");
    assert_eq!(
        node.client.post("/cache/invalidate", &json!({"tag": "a"})).status,
        429,
        "it is one allowance"
    );
    assert_eq!(node.client.get("/cache/stats").status, 200);
}

#[test]
fn each_client_has_its_requests_a_second_and_is_told_when_it_may_ask_again() {
    let node = node(&format!("{}[http]\nrequests_per_second = 1", tokens()));
    let (boss, reader) =
        (node.client.with_token("s3cret-of-the-boss"), node.client.with_token("s3cret-of-a-reader"));
    // One that comes a second after the one before may pass.
    let refused = (0..100).map(|_| boss.get("/cache/stats")).find(|answer| answer.status != 200);
    let refused = refused.expect("it is one a second");
    assert_eq!((refused.status, refused.header("content-type")), (429, Some("application/problem+json")));
    assert_eq!((&refused.body["status"], &refused.body["title"]), (&json!(429), &json!("Too Many Requests")));
    assert_eq!(retry_after(&refused), Some(1), "{refused:?}");
    assert!(refused.body["cure"].as_str().is_some_and(|cure| cure == "wait 1 s"), "{refused:?}");
    assert_eq!(reader.get("/cache/stats").status, 200, "another client has its own");
    for _ in 0..20 {
        assert_eq!(boss.get("/health").status, 200, "who asks for health is not counted");
    }
    boss.until("/cache/stats", "that the second is over", |answer| answer.status == 200);
}

/// Panics where it is asked who the nodes are.
struct Panicking(Arc<dyn Transport>);

#[async_trait::async_trait]
impl Transport for Panicking {
    fn partitions(&self) -> u32 {
        self.0.partitions()
    }

    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    async fn subscribe(&self) -> Result<Box<dyn HintStream>, TransportError> {
        self.0.subscribe().await
    }

    async fn sync(
        &self,
        partition: Partition,
        node: &NodeId,
        at: Position,
        max: u32,
    ) -> Result<SyncAnswer, TransportError> {
        self.0.sync(partition, node, at, max).await
    }

    async fn roster(&self) -> Result<Vec<RosterRow>, TransportError> {
        panic!("s3cret inside")
    }
}

#[test]
fn a_handler_that_panics_is_a_500_that_is_counted_and_the_node_goes_on() {
    let config = config("");
    let mut shared = Shared::of(&config.backing).expect("parts");
    shared.transport = Arc::new(Panicking(shared.transport));
    let node = InProcess::start_over(config, shared);
    let panics = || {
        let text = node.client.text("/metrics").1;
        let line = text.lines().find(|line| line.starts_with("edgecache_http_handler_panics_total "));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
    };
    assert_eq!(panics(), Some(0));
    for round in 1..=3 {
        let failed = node.client.ask("GET", "/nodes", &[("x-request-id", "id-9")], None);
        assert_eq!(
            (failed.status, failed.header("content-type"), failed.header("x-request-id")),
            (500, Some("application/problem+json"), Some("id-9"))
        );
        assert!(!failed.body.to_string().contains("s3cret") && failed.body["cure"].is_string(), "{failed:?}");
        assert_eq!(node.client.put("/cache/session/s", &json!(round)).status, 200);
        assert_eq!(node.client.get("/cache/session/s").body, json!(round), "the node goes on");
        assert_eq!(panics(), Some(round));
    }
}

#[test]
fn metrics_need_a_token_unless_they_are_public_and_then_nothing_else_is_open() {
    let closed = node(tokens());
    assert_eq!(closed.client.get("/metrics").status, 401, "off by default");
    let open = node(&format!("{}[http]\nmetrics_public = true\nrequests_per_second = 1", tokens()));
    let of = |client: &support::Client| client.ask_text("GET", "/metrics", &[], None).status;
    assert_eq!(of(&open.client), 200);
    assert!((0..100).any(|_| of(&open.client) == 429), "it has the rates that all others have");
    open.client.until("/cache/stats", "a refusal for want of a token", |answer| answer.status == 401);
    assert_eq!(open.client.post("/cache/clear", &json!({})).status, 401);
}

#[test]
fn past_the_bound_of_requests_under_way_there_is_a_503_and_health_still_answers() {
    let node = node("[http]\nrequests_max = 1");
    let half = connection(&node, HALF);
    node.client.until("/cache/session/s", "a refusal", |answer| {
        answer.status == 503 && retry_after(answer).is_some()
    });
    assert_eq!(node.client.get("/health/live").status, 200);
    drop(half);
    node.client.until("/cache/session/s", "that there is room again", |answer| answer.status == 404);
}

#[test]
fn a_request_that_does_not_arrive_is_given_up() {
    let node = node("[http]\nrequest_timeout = \"50ms\"\nheader_timeout = \"50ms\"");
    let answered = rest(connection(&node, HALF));
    assert!(
        answered.starts_with("HTTP/1.1 408 ") && answered.contains("application/problem+json"),
        "{answered}"
    );
    assert_eq!(rest(connection(&node, "GET /health/live HT")), "", "closed without a word");
    assert_eq!(rest(connection(&node, "")), "", "nor may a connection be idle for ever");
}

#[test]
fn connections_past_the_bound_wait_until_one_ends() {
    let node = node("[http]\nconnections_max = 2");
    // The client of the test holds one.
    let held = connection(&node, "");
    let ask = "GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut waiting = connection(&node, ask);
    waiting.set_read_timeout(Some(std::time::Duration::from_millis(100))).expect("set");
    let silence = waiting.read(&mut [0]);
    assert!(silence.is_err(), "nobody answers yet: {silence:?}");
    drop(held);
    waiting.set_read_timeout(Some(LONG)).expect("set");
    assert!(rest(waiting).starts_with("HTTP/1.1 200 "));
}

#[test]
fn every_answer_has_the_id_of_its_request() {
    let node = node("");
    let given = node.client.ask("GET", "/nowhere", &[("x-request-id", "abc-1")], None);
    assert_eq!(given.header("x-request-id"), Some("abc-1"));
    let long = "x".repeat(500);
    let made = node.client.ask("GET", "/health", &[("x-request-id", &long)], None);
    assert_eq!(made.header("x-request-id").map(str::len), Some(16), "{made:?}");
}

fn tokens() -> &'static str {
    "[[auth.tokens]]\nname = \"boss\"\ntoken = \"s3cret-of-the-boss\"\nscopes = [\"admin\"]\n\
     [[auth.tokens]]\nname = \"reader\"\ntoken = \"s3cret-of-a-reader\"\nscopes = [\"read\"]\n"
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn the_audit_log_tells_who_invalidated_what_and_why_and_who_was_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.log");
    let node = node(&format!("{}[audit]\nlog = {path:?}", tokens()));
    let boss = node.client.with_token("s3cret-of-the-boss");
    let id = [("x-request-id", "id-7")];
    let body = json!({"cache_type": "session", "resource": "s", "reason": "logout"}).to_string();
    assert_eq!(boss.ask("POST", "/cache/invalidate", &id, Some(body.as_bytes())).status, 200);
    assert_eq!(boss.put("/cache/session/s", &json!("a value")).status, 200);
    assert_eq!(boss.delete("/cache/session/s?token=s3cret").status, 200);
    assert_eq!(boss.post("/cache/clear", &json!({"cache_type": "sesion"})).status, 404);
    assert_eq!(node.client.with_token("s3cret-of-a-reader").post("/cache/clear", &json!({})).status, 403);
    assert_eq!(node.client.with_token("s3cret-guess").put("/cache/session/s", &json!(1)).status, 401);
    assert_eq!(boss.get("/cache/session/s").status, 404);
    // Closed with the node: all lines are written by then.
    drop(node);
    let told = lines(&path);
    let brief = |line: &Value| {
        let text = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
        let status = line["status"].as_u64().unwrap_or_default();
        format!("{} {} {} {} {}", text("token"), text("method"), text("path"), status, text("outcome"))
    };
    assert_eq!(
        told.iter().map(brief).collect::<Vec<_>>(),
        [
            "boss POST /cache/invalidate 200 done",
            "boss DELETE /cache/session/s 200 done",
            "boss POST /cache/clear 404 failed",
            "reader POST /cache/clear 403 refused",
            "- PUT /cache/session/s 401 refused",
        ]
    );
    let first = &told[0];
    assert_eq!((&first["reason"], &first["request_id"]), (&json!("logout"), &json!("id-7")), "{first}");
    assert_eq!((&first["address"], &first["log"]), (&json!("127.0.0.1"), &json!("audit")), "{first}");
    assert!(first["scopes"][0].as_str().is_some_and(|scope| scope.contains('s')), "{first}");
    assert!(first["time"].as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()), "{first}");
    let all = std::fs::read_to_string(&path).expect("readable");
    assert!(!all.contains("s3cret") && !all.contains("a value"), "{all}");
}

#[test]
fn an_invalidation_that_was_not_acknowledged_is_in_the_audit_with_what_and_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.log");
    let mut redis = RedisServer::start();
    let (url, ledger) = (redis.url(), "[database]\nallow_private_ledger = true");
    let node = node(&format!("{ledger}\n[audit]\nlog = {path:?}\n[redis]\nurl = {url:?}"));
    redis.kill();
    let body = json!({"cache_type": "session", "resource": "s", "reason": "logout"});
    assert_eq!(node.client.post("/cache/invalidate", &body).status, 503);
    assert_eq!(node.client.delete("/cache/session/t").status, 503);
    drop(node);
    let told = lines(&path);
    let brief = |line: &Value| json!([line["status"], line["outcome"], line["reason"], line["scopes"][0]]);
    assert_eq!(
        told.iter().map(brief).collect::<Vec<_>>(),
        [
            json!([503, "failed", "logout", "resource session/s"]),
            json!([503, "failed", "DELETE over HTTP", "resource session/t"]),
        ]
    );
}

#[test]
fn a_line_of_the_audit_that_cannot_be_written_is_counted_and_told_and_a_file_that_cannot_be_opened_stops_the_start()
 {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml").display().to_string();
    let arguments = ["--listen", "127.0.0.1:0", "--config", &file];
    let write = |log: &str| std::fs::write(&file, format!("[audit]\nlog = {log:?}\n")).expect("written");
    // Opens, and has no room for a line.
    write("/dev/full");
    let node = Serving::start_with(&arguments, &[]);
    let lost = |answer: &Answer| answer.body["log_lines_lost"].as_u64();
    assert_eq!(lost(&node.client.get("/health")), Some(0));
    assert_eq!(node.client.post("/cache/clear", &json!({})).status, 200);
    node.client.until("/health", "a lost line", |answer| lost(answer) == Some(1));
    node.until_log("lines of a log could not be written and are lost");

    write("/nonexistent/audit.log");
    let ended = command(&arguments, &[]).output().expect("it runs");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("audit.log cannot be written: name a file"), "{said}");
    // In a node that runs, the log stays what it was.
    node.hang_up();
    node.until_log("the logs of requests stay as they were");
    assert_eq!(node.client.post("/cache/clear", &json!({})).status, 200);
    node.client.until("/health", "another lost line", |answer| lost(answer) == Some(2));
}

#[test]
fn writes_are_in_the_audit_where_they_are_wanted_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.log");
    let node = node(&format!("[audit]\nlog = {path:?}\nwrites = true"));
    assert_eq!(node.client.put("/cache/session/s", &json!(1)).status, 200);
    assert_eq!(node.client.get("/cache/session/s").status, 200);
    assert_eq!(node.client.put("/market/gpus/g", &json!({})).status, 422);
    drop(node);
    let told: Vec<Value> =
        lines(&path).iter().map(|line| json!([line["method"], line["route"], line["status"]])).collect();
    let (put, gpu) = ("/cache/{cache_type}/{*resource}", "/market/gpus/{*gpu_id}");
    assert_eq!(told, [json!(["PUT", put, 200]), json!(["PUT", gpu, 422])]);
}

#[test]
fn the_access_log_tells_every_request_where_it_is_switched_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let node = node(&format!("[audit]\nlog = \"off\"\naccess_log = {path:?}"));
    node.client.put("/cache/session/s", &json!(1));
    node.client.get("/cache/session/s");
    drop(node);
    let told = lines(&path);
    let of =
        |path: &str, method: &str| told.iter().any(|line| line["path"] == path && line["method"] == method);
    assert!(
        of("/cache/session/s", "PUT") && of("/cache/session/s", "GET") && of("/health", "GET"),
        "{told:?}"
    );
    assert!(told.iter().all(|line| line["log"] == "access" && line["took_ms"].is_u64()));
}

#[test]
fn no_secret_is_in_what_a_node_says() {
    let (env, path) = ([("RUST_LOG", "trace"), ("CACHE_AUTH_TOKEN", "s3cret-t0ken")], "/cache/session/s");
    let serving = Serving::start(&env);
    let known = serving.client.with_token("s3cret-t0ken");
    let wrong = serving.client.with_token("s3cret-guess");
    let said: Vec<String> = [&known, &wrong]
        .into_iter()
        .flat_map(|client| {
            [client.get(path), client.put(path, &json!(1)), client.post("/cache/clear", &json!({}))]
        })
        .map(|answer| format!("{answer:?}"))
        .collect();
    let (status, log) = serving.terminate();
    assert!(status.success());
    assert!(log.contains("/cache/clear"), "the audit log goes to stderr by default: {log}");
    assert!(!log.contains("s3cret"), "{log}");
    assert!(!said.concat().contains("s3cret"), "{said:?}");
}

#[test]
fn a_node_that_stops_says_so_first_and_finishes_what_is_under_way() {
    let mut node = node("[http]\ndrain_delay = \"2s\"");
    let mut half = connection(&node, HALF);
    // Under way: the head has been read.
    node.client.until("/health/ready", "that it is ready", |answer| answer.status == 200);
    node.node.stop();
    node.client.until("/health/ready", "that it stops", |answer| answer.status == 503);
    assert_eq!(node.client.get("/health/live").status, 200);
    assert_eq!(node.client.get("/cache/session/s").status, 404, "it goes on as before for the delay");
    half.write_all(b"234567890").expect("written");
    let answered = rest(half);
    assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
    node.node.until_ended();
}

#[test]
fn what_is_under_way_when_nothing_more_is_taken_is_finished() {
    let mut node = node("[http]\ndrain_delay = \"0s\"\ndrain_limit = \"20s\"");
    let mut half = connection(&node, HALF);
    node.client.until("/health/ready", "that it is ready", |answer| answer.status == 200);
    node.node.stop();
    let began = stopwatch();
    while TcpStream::connect(node.client.address()).is_ok() {
        assert!(began.elapsed() < LONG, "it still takes connections");
        std::thread::yield_now();
    }
    half.write_all(b"234567890").expect("written");
    let answered = rest(half);
    assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
    node.node.until_ended();
}

#[test]
fn what_does_not_end_in_time_is_cut_off() {
    let mut node = node("[http]\ndrain_limit = \"50ms\"");
    let half = connection(&node, HALF);
    node.client.until("/health/ready", "that it is ready", |answer| answer.status == 200);
    node.node.stop();
    node.node.until_ended();
    assert_eq!(rest(half), "");
}
