//! What stands between a node and the world: addresses, rates, bounds, time limits, TLS, the logs of requests, the end.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use cache_node::config::{NodeConfig, Sources, load};
use cache_testkit::{RedisServer, certificates};
use serde_json::{Value, json};
use support::{Answer, InProcess, LONG, Serving, command};
use tempfile::TempDir;

/// A configuration as a file holds it.
fn config(text: &str) -> NodeConfig {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("node.toml");
    std::fs::write(&file, text).expect("written");
    let flags = vec![("listen", "--listen", "127.0.0.1:0".to_owned())];
    load(&Sources { file: Some(file), flags, ..Sources::default() }).expect("right")
}

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

/// All that comes until the other side ends.
fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
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

/// A folder with certificates, and the lines of the configuration that name them.
struct Certified {
    folder: TempDir,
    files: [PathBuf; 3],
}

impl Certified {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let files = certificates(folder.path());
        Self { folder, files }
    }

    fn settings(&self, mutual: bool) -> String {
        let [cert, key, ca] = &self.files;
        let client_ca = if mutual { format!("client_ca_file = {ca:?}\n") } else { String::new() };
        format!("[http]\ntls_cert_file = {cert:?}\ntls_key_file = {key:?}\n{client_ca}")
    }

    /// What `curl` gets: the status, 0 where there was no answer.
    fn curl(&self, url: &str, arguments: &[&str]) -> u16 {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "15"]);
        let done = curl.args(arguments).arg(url).current_dir(self.folder.path()).output();
        let done = done.expect("curl asks over TLS: install it (Debian: apt-get install curl)");
        String::from_utf8_lossy(&done.stdout).parse().unwrap_or(0)
    }
}

#[test]
fn over_tls_the_node_answers_those_who_trust_its_ca() {
    let certified = Certified::new();
    let node = InProcess::start_unasked(config(&certified.settings(false)));
    let url = format!("https://{}/health/live", node.client.address());
    assert_eq!(certified.curl(&url, &["--cacert", "ca.pem"]), 200);
    assert_eq!(certified.curl(&url, &["--cacert", "ca.pem", "--tls-max", "1.2"]), 200);
    assert_eq!(certified.curl(&url, &["--cacert", "ca.pem", "--tls-max", "1.1"]), 0);
    assert_eq!(certified.curl(&url, &[]), 0, "nobody else vouches for it");
    assert_eq!(certified.curl(&url.replace("https", "http"), &[]), 0, "nothing is said in the clear");
}

#[test]
fn with_mutual_tls_who_has_no_certificate_is_not_heard() {
    let certified = Certified::new();
    let node = InProcess::start_unasked(config(&certified.settings(true)));
    let url = format!("https://{}/health/live", node.client.address());
    let own = ["--cacert", "ca.pem", "--cert", "cert.pem", "--key", "key.pem"];
    assert_eq!(certified.curl(&url, &own), 200);
    assert_eq!(certified.curl(&url, &["--cacert", "ca.pem"]), 0);
    let stranger = Certified::new();
    let [cert, key, _] = stranger.files.each_ref().map(|path| path.display().to_string());
    let other = ["--cacert", "ca.pem", "--cert", &cert, "--key", &key];
    assert_eq!(certified.curl(&url, &other), 0, "of another CA");
}

#[test]
fn certificates_that_cannot_be_used_are_told_at_the_start() {
    let (one, other) = (Certified::new(), Certified::new());
    let [cert, key, _] = &one.files;
    let absent = Path::new("/nonexistent/file.pem");
    let cases = [
        (absent, key.as_path(), "http.tls_cert_file = /nonexistent/file.pem"),
        (cert.as_path(), absent, "http.tls_key_file = /nonexistent/file.pem"),
        (cert.as_path(), other.files[1].as_path(), "do not go together"),
        (key.as_path(), key.as_path(), "there is no certificate in it"),
    ];
    for (cert, key, told) in cases {
        let file = one.folder.path().join("node.toml");
        std::fs::write(&file, format!("[http]\ntls_cert_file = {cert:?}\ntls_key_file = {key:?}"))
            .expect("written");
        let path = file.display().to_string();
        let ended = command(&["--listen", "127.0.0.1:0", "--config", &path], &[]).output().expect("it runs");
        let log = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && log.contains(told), "{log}");
    }
}

#[test]
fn a_node_that_stops_says_so_first_and_finishes_what_is_under_way() {
    let mut node = node("[http]\ndrain_delay = \"2s\"");
    let mut half = connection(&node, HALF);
    // Under way: the head has been read.
    node.client.until("/health/ready", "that it is ready", |answer| answer.status == 200);
    node.stop();
    node.client.until("/health/ready", "that it stops", |answer| answer.status == 503);
    assert_eq!(node.client.get("/health/live").status, 200);
    assert_eq!(node.client.get("/cache/session/s").status, 404, "it goes on as before for the delay");
    half.write_all(b"234567890").expect("written");
    let answered = rest(half);
    assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
    node.until_ended();
}

#[test]
fn what_does_not_end_in_time_is_cut_off() {
    let mut node = node("[http]\ndrain_limit = \"50ms\"");
    let half = connection(&node, HALF);
    node.client.until("/health/ready", "that it is ready", |answer| answer.status == 200);
    node.stop();
    node.until_ended();
    assert_eq!(rest(half), "");
}
