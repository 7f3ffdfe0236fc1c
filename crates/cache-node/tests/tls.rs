//! TLS at the HTTP side: who is answered, what is told at the start, and certificates that change while the node runs.

mod support;

use std::path::{Path, PathBuf};

use cache_testkit::certificates_for;
use support::{Client, InProcess, LONG, Serving, command, config, stopwatch};
use tempfile::TempDir;

/// A folder with certificates, and the lines of the configuration that name them.
struct Certified {
    folder: TempDir,
    files: [PathBuf; 3],
}

impl Certified {
    fn new() -> Self {
        Self::for_days(2)
    }

    fn for_days(days: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let files = certificates_for(folder.path(), days);
        Self { folder, files }
    }

    /// A node in a process of its own that reads its certificate from here.
    fn serve(&self) -> Serving {
        let file = self.folder.path().join("node.toml");
        std::fs::write(&file, self.settings(false)).expect("written");
        let path = file.display().to_string();
        Serving::start_with(&["--listen", "127.0.0.1:0", "--config", &path], &[])
    }

    /// A client of a node that trusts this CA alone.
    fn client(&self, node: &Serving) -> Client {
        Client::trusting(&node.base, &self.files[2])
    }

    /// Puts the certificate of another in the place of this one, or its key, or both.
    fn becomes(&self, other: &Self, parts: &[usize]) {
        for part in parts {
            std::fs::copy(&other.files[*part], &self.files[*part]).expect("copied");
        }
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

const CERT: usize = 0;
const KEY: usize = 1;

/// Asks over a new connection until it is, or is not, trusted.
fn until_trusted(certified: &Certified, node: &Serving, wanted: bool) {
    let began = stopwatch();
    loop {
        let answer = certified.client(node).try_ask("GET", "/health/live", &[], None);
        if answer.is_ok() == wanted {
            return;
        }
        assert!(began.elapsed() < LONG, "{answer:?}");
    }
}

/// What the doctor says about the certificate: the verdict, and what was found.
fn judged(certified: &Certified, node: &Serving) -> (String, String) {
    let findings = certified.client(node).get("/node/doctor").body["findings"].clone();
    let findings = findings.as_array().expect("a list");
    let found = findings.iter().find(|finding| finding["check"] == "certificate").expect("it is checked");
    let text = |name: &str| found[name].as_str().map(str::to_owned).unwrap_or_default();
    (text("verdict"), text("found"))
}

#[test]
fn at_sighup_new_connections_are_shown_the_new_certificate_and_open_ones_go_on() {
    let (old, new) = (Certified::new(), Certified::for_days(90));
    let before = Certified::for_days(2);
    before.becomes(&old, &[CERT, KEY]);
    let node = before.serve();
    let held = old.client(&node);
    assert_eq!(held.get("/health/live").status, 200);
    assert!(new.client(&node).try_ask("GET", "/health/live", &[], None).is_err());
    let (verdict, found) = judged(&old, &node);
    // Two days less a moment, or to the second.
    assert!(
        verdict == "problem" && ["1 days", "2 days"].iter().any(|days| found.ends_with(days)),
        "{verdict}: {found}"
    );

    before.becomes(&new, &[CERT, KEY]);
    assert!(new.client(&node).try_ask("GET", "/health/live", &[], None).is_err(), "nobody told it");
    node.hang_up();
    until_trusted(&new, &node, true);
    until_trusted(&old, &node, false);
    // Its CA is that of the old certificate: it could not connect again.
    assert_eq!(held.get("/health/live").status, 200, "an open connection goes on");
    let (verdict, found) = judged(&new, &node);
    assert!(
        verdict == "ok" && ["89 days", "90 days"].iter().any(|days| found.ends_with(days)),
        "{verdict}: {found}"
    );
}

#[test]
fn new_certificates_that_cannot_be_used_leave_the_old_ones_and_are_told() {
    let (old, new) = (Certified::for_days(90), Certified::for_days(90));
    let at = Certified::new();
    at.becomes(&old, &[CERT, KEY]);
    let node = at.serve();
    // Half of them: the key is still the old one.
    at.becomes(&new, &[CERT]);
    node.hang_up();
    node.until_log("do not go together");
    std::fs::write(&at.files[CERT], "no certificate").expect("written");
    node.hang_up();
    node.until_log("there is no certificate in it");
    until_trusted(&old, &node, true);
    let (verdict, found) = judged(&old, &node);
    assert_eq!(verdict, "warning", "{found}");
    assert!(found.contains("refused") && found.contains("there is no certificate in it"), "{found}");

    at.becomes(&new, &[CERT, KEY]);
    node.hang_up();
    until_trusted(&new, &node, true);
    assert_eq!(judged(&new, &node).0, "ok");
    let (status, log) = node.terminate();
    assert!(status.success(), "{log}");
    assert_eq!(log.matches("the certificates stay as they were").count(), 2, "{log}");
}

/// What `cache-node health` says of a node: its exit code and its words.
fn health(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cache-node"));
    let done = command.arg("health").args(arguments).env_clear().output().expect("it runs");
    (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
}

#[test]
fn the_health_command_asks_over_tls_and_believes_the_node_alone() {
    let (certified, stranger) = (Certified::new(), Certified::new());
    let node = certified.serve();
    let (_, address) = node.base.split_once("://").expect("a URL");
    let of = |certified: &Certified| certified.folder.path().join("node.toml").display().to_string();
    let own = ["--listen", address, "--config", &of(&certified)];
    assert_eq!(health(&own), (Some(0), String::new()));
    let ca = certified.files[2].display().to_string();
    assert_eq!(
        health(&["--listen", address, "--ca", &ca]),
        (Some(0), String::new()),
        "without its configuration"
    );

    let (code, said) = health(&["--listen", address]);
    assert_eq!(code, Some(1), "in the clear there is no answer: {said}");
    let (code, said) = health(&["--listen", address, "--ca", &ca, "--name", "elsewhere.example"]);
    assert!(code == Some(1) && said.contains("not valid for name"), "{said}");
    let other = stranger.files[2].display().to_string();
    let (code, said) = health(&["--listen", address, "--ca", &other]);
    assert!(code == Some(1) && said.contains("the TLS handshake failed"), "{said}");
    std::fs::write(of(&stranger), stranger.settings(false)).expect("written");
    let (code, said) = health(&["--listen", address, "--config", &of(&stranger)]);
    assert!(code == Some(1) && said.contains("send the node SIGHUP"), "{said}");
}

#[test]
fn the_health_command_shows_the_certificate_of_the_node_where_one_is_asked_for() {
    let certified = Certified::new();
    let node = InProcess::start_unasked(config(&certified.settings(true)));
    let file = certified.folder.path().join("node.toml");
    std::fs::write(&file, certified.settings(true)).expect("written");
    let file = file.display().to_string();
    assert_eq!(health(&["--listen", node.client.address(), "--config", &file]), (Some(0), String::new()));
    let ca = certified.files[2].display().to_string();
    let (code, said) = health(&["--listen", node.client.address(), "--ca", &ca]);
    assert_eq!(code, Some(1), "{said}");
}
