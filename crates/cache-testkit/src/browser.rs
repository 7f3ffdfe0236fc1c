//! A real browser for one test: a headless Chromium with one page, driven over its DevTools protocol.

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

use crate::wait::until;

/// Names the program, if it is none of [`NAMES`] on the PATH.
const BINARY_VARIABLE: &str = "CHROMIUM_BIN";
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
/// A browser that says nothing for so long on a busy machine is stuck.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Nothing that asks the net, nothing that asks the user.
const FLAGS: [&str; 12] = [
    "--headless=new",
    "--remote-debugging-port=0",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--mute-audio",
];

/// A browser with one page. Its processes end with this value, and its profile goes.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    folder: TempDir,
    socket: WebSocket<TcpStream>,
    session: String,
    asked: u64,
    problems: Vec<String>,
    requests: Vec<String>,
}

impl Browser {
    /// Starts a browser with an empty page of 1280 by 900.
    ///
    /// # Panics
    /// If there is no browser (the message says what to install) or it does not start.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = File::create(folder.path().join("log")).expect("a file in a folder of ours");
        let mut command = Command::new(program());
        command.args(FLAGS).arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
        if geteuid().is_root() {
            // Its sandbox refuses root, which is what tests in containers are.
            command.arg("--no-sandbox");
        }
        // A group of its own, so that all its processes can be ended together.
        command.arg("about:blank").process_group(0).env("HOME", folder.path());
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let mut child = started.expect("the browser is a program that can be started");
        let place = folder.path().join("profile/DevToolsActivePort");
        let mut told = String::new();
        until("the browser says where it can be driven", || {
            if let Ok(Some(status)) = child.try_wait() {
                let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
                panic!("the browser ended with {status}:\n{log}");
            }
            told = std::fs::read_to_string(&place).unwrap_or_default();
            told.lines().count() == 2
        });
        let (port, path) = told.trim().split_once('\n').expect("two lines");
        let stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("it listens");
        stream.set_read_timeout(Some(SILENCE_MAX)).expect("a time-out above zero");
        let (socket, _) = tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream)
            .unwrap_or_else(|error| panic!("the browser speaks no WebSocket: {error}"));
        let (session, asked) = (String::new(), 0);
        let (problems, requests) = (Vec::new(), Vec::new());
        let mut browser = Self { child, folder, socket, session, asked, problems, requests };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.look_at(1280, 900, "light");
        browser
    }

    /// Makes the page that large, and lets its user wish for `light` or `dark`. Below 500 pixels it is a phone.
    pub fn look_at(&mut self, width: u32, height: u32, scheme: &str) {
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.call("Emulation.setDeviceMetricsOverride", screen);
        let wish = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", wish);
    }

    /// Goes to an address, and waits until the document is there.
    ///
    /// # Panics
    /// If the address cannot be reached.
    pub fn go(&mut self, url: &str) {
        // From an empty page, since an address that differs behind its # alone would load nothing.
        self.call("Page.navigate", json!({"url": "about:blank"}));
        let gone = self.call("Page.navigate", json!({"url": url}));
        assert_eq!(gone["errorText"], Value::Null, "{url}");
        self.until(
            "document.readyState === 'complete' && location.href !== 'about:blank'",
            "the page is there",
        );
    }

    /// What an expression of JavaScript comes to in the page; waits for a promise.
    ///
    /// # Panics
    /// If it throws.
    pub fn eval(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut told = self.call("Runtime.evaluate", asked);
        assert_eq!(told.get("exceptionDetails"), None, "{expression}");
        told["result"]["value"].take()
    }

    /// Evaluates again and again until the result is something (not null, false, 0 or empty), and gives that.
    ///
    /// # Panics
    /// If it is nothing for 30 seconds, with what was waited for and what the page shows.
    pub fn until(&mut self, expression: &str, what: &str) -> Value {
        // In a document that is about to be left an expression may find nothing at all.
        let guarded = format!("(() => {{ try {{ return {expression} }} catch {{ return null }} }})()");
        let mut found = Value::Null;
        let mut rounds = 0;
        loop {
            let done = rounds < 2_000 && {
                found = self.eval(&guarded);
                !matches!(&found, Value::Null | Value::Bool(false)) && found != json!(0) && found != json!("")
            };
            if done {
                return found;
            }
            rounds += 1;
            // Between two looks the page gets its turn.
            self.eval("new Promise((done) => setTimeout(done, 15))");
            if rounds >= 2_000 {
                let shown = self.eval("document.body?.innerText");
                panic!("it never was so that {what}; the page shows {shown}\nproblems: {:?}", self.problems);
            }
        }
    }

    /// Presses a key, such as `Tab`, `Enter` or `Escape`.
    pub fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, None),
            "Enter" => (13, Some("\r")),
            "Escape" => (27, None),
            " " => (32, Some(" ")),
            other => panic!("no key {other:?} here"),
        };
        let mut down = json!({"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code});
        if let Some(text) = text {
            down["text"] = text.into();
        }
        self.call("Input.dispatchKeyEvent", down);
        let up = json!({"type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": code});
        self.call("Input.dispatchKeyEvent", up);
    }

    /// Writes a text into what has the focus.
    pub fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// A picture of the upper part of the page, at most `height_max` pixels high, as PNG.
    pub fn picture(&mut self, height_max: u32) -> Vec<u8> {
        let layout = self.call("Page.getLayoutMetrics", json!({}));
        let (width, height) =
            (&layout["cssLayoutViewport"]["clientWidth"], &layout["cssContentSize"]["height"]);
        let height = height.as_f64().unwrap_or_default().min(f64::from(height_max));
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let asked = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let told = self.call("Page.captureScreenshot", asked);
        STANDARD.decode(told["data"].as_str().expect("a picture")).expect("in base64")
    }

    /// What went wrong in the page so far: exceptions, errors on the console, what the browser refused.
    pub fn problems(&mut self) -> &[String] {
        // What happened before this answer has been told before it.
        self.eval("null");
        &self.problems
    }

    /// Every address that the page asked for so far.
    pub fn requests(&mut self) -> &[String] {
        self.eval("null");
        &self.requests
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let mut command = json!({"id": self.asked, "method": method, "params": params});
        if !self.session.is_empty() {
            command["sessionId"] = self.session.as_str().into();
        }
        self.socket.send(Message::text(command.to_string())).expect("the browser is there");
        loop {
            let message = self.socket.read().unwrap_or_else(|error| panic!("{method}: no answer: {error}"));
            let Message::Text(text) = message else { continue };
            let mut told: Value = serde_json::from_str(&text).expect("JSON");
            if told["id"] == self.asked {
                assert_eq!(told.get("error"), None, "{method}");
                return told["result"].take();
            }
            self.hear(&told);
        }
    }

    fn hear(&mut self, told: &Value) {
        let params = &told["params"];
        match told["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => {
                let details = &params["exceptionDetails"];
                let text = details["exception"]["description"].as_str();
                self.problems
                    .push(text.unwrap_or_else(|| details["text"].as_str().unwrap_or("?")).to_owned());
            }
            "Runtime.consoleAPICalled"
                if ["error", "assert"].contains(&params["type"].as_str().unwrap_or("")) =>
            {
                self.problems.push(params["args"].to_string());
            }
            "Log.entryAdded" if params["entry"]["level"] == "error" => {
                let entry = &params["entry"];
                self.problems.push(format!("{} {}", entry["text"], entry["url"]));
            }
            "Network.requestWillBeSent" => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                self.requests.push(url.to_owned());
            }
            _ => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helpers end with their group; what still writes into the profile must not keep it alive.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
        let profile = self.folder.path();
        for _ in 0..50 {
            if std::fs::remove_dir_all(profile).is_ok() || !profile.exists() {
                return;
            }
        }
    }
}

fn program() -> PathBuf {
    if let Some(named) = std::env::var_os(BINARY_VARIABLE) {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|folder| NAMES.map(|name| folder.join(name)))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "no browser: install Chromium (Debian: apt-get install chromium; Fedora: dnf install chromium), or name the \
             program in {BINARY_VARIABLE}"
        )
    })
}
