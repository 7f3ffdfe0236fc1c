//! The dashboard as people meet it, in a headless Chromium: what it shows, what it refuses, and that a keyboard is enough.

mod support;

use cache_testkit::Browser;
use serde_json::{Value, json};
use support::{Client, Serving};

const TOKEN: &str = "a-token-of-this-test";

/// A node alone on any port, and a browser at one of its views.
struct Desk {
    browser: Browser,
    base: String,
    client: Client,
    node: Serving,
}

impl Desk {
    fn at(view: &str, env: &[(&str, &str)]) -> Self {
        let node = Serving::start(&[&[("EDGE_NODE_ID", "n1"), ("EDGE_NODE_REGION", "europe")], env].concat());
        let (base, client) = (node.base.clone(), node.client.clone());
        client.until_status("healthy");
        let mut desk = Self { browser: Browser::start(), base, client, node };
        desk.visit(view);
        desk
    }

    /// Goes to a view.
    fn visit(&mut self, view: &str) {
        self.browser.go(&format!("{}/ui/#/{view}", self.base));
    }

    fn until_text(&mut self, text: &str) {
        let looked = format!("document.body.innerText.includes({})", json!(text));
        self.browser.until(&looked, text);
    }

    /// Four GPUs, `g1` to `g4`.
    fn with_gpus(&self) {
        for n in 1..=4 {
            let gpu = json!({"provider_id": "p", "gpu_type": "H100", "region": "europe", "memory_gb": 80,
                "base_price_per_hour": n * 1_000_000});
            assert_eq!(self.client.put(&format!("/market/gpus/g{n}"), &gpu).status, 200);
        }
    }

    fn focused(&mut self) -> String {
        let asked = "(document.activeElement.id || document.activeElement.innerText || document.activeElement.tagName)";
        self.browser.eval(asked).as_str().unwrap_or_default().trim().to_owned()
    }
}

#[test]
fn figures_move_as_reads_are_made() {
    let mut desk = Desk::at("overview", &[]);
    desk.with_gpus();
    let reads = "Number(document.querySelector('#tile-reads .note').innerText.replace(/[^0-9]/g, ''))";
    desk.until_text("since it started");
    let before = desk.browser.eval(reads).as_u64().expect("a number");
    for _ in 0..50 {
        assert_eq!(desk.client.get("/market/pricing/H100?region=europe").status, 200);
    }
    desk.browser.until(&format!("{reads} >= {}", before + 50), "the reads are counted");
    desk.browser.until("/\\d %/.test(document.querySelector('#tile-hits .figure').innerText)", "a hit ratio");
    desk.until_text("gpu_pricing");
}

#[test]
fn without_a_token_it_asks_for_one_and_with_it_all_is_there() {
    let mut desk = Desk::at("overview", &[("CACHE_AUTH_TOKEN", TOKEN)]);
    desk.until_text("This node asks for a token");
    assert_eq!(desk.focused(), "token");
    let shown = desk.browser.eval("document.querySelectorAll('.tile, table').length");
    assert_eq!(shown, 0, "no figures without a token");
    desk.browser.write("another-token");
    desk.browser.press("Enter");
    desk.until_text("The node refused this token");
    desk.browser.eval("document.getElementById('token').value = ''");
    desk.browser.write(TOKEN);
    desk.browser.press("Enter");
    desk.until_text("since it started");
    // It stays for this tab, and goes when it is told to.
    desk.visit("market");
    desk.until_text("Latest bookings");
    let kept = desk
        .browser
        .eval("[Object.values(sessionStorage).join(), Object.values(localStorage).join(), document.cookie]");
    assert_eq!(kept, json!([TOKEN, "", ""]));
    assert!(desk.browser.requests().iter().all(|url| !url.contains(TOKEN)), "never in an address");
    desk.browser.eval("document.getElementById('forget').click()");
    desk.until_text("This node asks for a token");
    assert_eq!(desk.browser.eval("sessionStorage.length"), 0);
}

#[test]
fn a_node_that_is_gone_is_said_to_be_gone() {
    let mut desk = Desk::at("overview", &[]);
    desk.until_text("since it started");
    let hidden: Value = desk.browser.eval("document.getElementById('banner').hidden");
    assert_eq!(hidden, true);
    desk.node.kill();
    desk.browser.until("!document.getElementById('banner').hidden", "the page says that nobody answers");
    desk.browser.until(
        "/does not answer. What you see is \\d+ s old/.test(document.getElementById('banner').innerText)",
        "how old it is",
    );
    desk.browser
        .until("document.getElementById('status').innerText === 'no answer'", "nothing is called healthy");
}
