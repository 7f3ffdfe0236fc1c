//! The dashboard as people meet it, in a headless Chromium: what it shows, what it refuses, and that a keyboard is enough.

mod support;

use std::time::Duration;

use cache_testkit::Browser;
use serde_json::{Value, json};
use support::{Client, Serving};

const VIEWS: [&str; 5] = ["overview", "events", "keys", "market", "targets"];
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

    fn live(&mut self) {
        self.browser.until("document.body.dataset.stream === 'open'", "changes arrive");
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

    fn book(&mut self, id: &str, gpu: &str) {
        let now = self.browser.eval("Date.now()").as_u64().expect("a time");
        let booking = json!({"booking_id": id, "gpu_id": gpu, "user_id": "u", "start_time": now, "end_time": now + 3_600_000});
        let booked = self.client.post("/market/bookings", &booking);
        assert_eq!(booked.status, 201, "{booked:?}");
    }

    fn focused(&mut self) -> String {
        let asked = "(document.activeElement.id || document.activeElement.innerText || document.activeElement.tagName)";
        self.browser.eval(asked).as_str().unwrap_or_default().trim().to_owned()
    }

    /// Goes on with Tab until the focus is there.
    fn tab_to(&mut self, wanted: &str) {
        let mut seen = Vec::new();
        while seen.len() < 60 {
            self.browser.press("Tab");
            seen.push(self.focused());
            if seen.last().is_some_and(|last| last == wanted) {
                let outline = self.browser.eval("getComputedStyle(document.activeElement).outlineStyle");
                assert_ne!(outline, "none", "the focus on {wanted} can be seen");
                return;
            }
        }
        panic!("no way to {wanted:?} with Tab; it went over {seen:?}");
    }

    fn calm(&mut self) {
        assert_eq!(self.browser.problems(), [""; 0]);
    }
}

#[test]
fn every_view_loads_without_an_error_and_asks_its_own_node_alone() {
    let mut desk = Desk::at("overview", &[]);
    desk.with_gpus();
    assert_eq!(desk.client.get("/market/availability?region=europe&gpu_type=H100").status, 200);
    // From the bare address.
    let base = desk.base.clone();
    desk.browser.go(&format!("{base}/"));
    desk.until_text("n1 · europe");
    for view in VIEWS {
        desk.visit(view);
        let title = format!("{}{}", view[..1].to_uppercase(), &view[1..]);
        let heading = format!("document.querySelector('h1')?.innerText === '{title}'");
        desk.browser.until(&heading, "the heading of the view");
        desk.browser
            .until("document.getElementById('status').innerText === 'healthy'", "the state of the node");
        desk.live();
    }
    desk.visit("overview");
    desk.browser.until("document.querySelectorAll('.line, .dot').length > 4", "lines in the charts");
    desk.until_text("No alert stands.");
    desk.until_text("1 of 1 healthy");
    desk.visit("targets");
    desk.until_text("propagation");
    desk.visit("market?gpu_type=H100&region=europe");
    desk.until_text("4 of 4 free");
    desk.until_text("g4");
    let absent = desk.browser.eval("document.body.innerText.includes('Not offered')");
    assert_eq!(absent, false);
    desk.calm();
    let strange: Vec<&String> =
        desk.browser.requests().iter().filter(|url| !url.starts_with(&base)).collect();
    assert!(strange.iter().all(|url| url.starts_with("about:")), "{strange:?}");
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
    desk.calm();
}

#[test]
fn a_booking_made_over_http_is_in_sight_within_a_second() {
    let mut desk = Desk::at("market", &[]);
    desk.with_gpus();
    desk.live();
    desk.until_text("No booking yet");
    // The page itself notes when the text came, so that looking takes no time.
    desk.browser.eval(
        "(() => { window.came = {}; new MutationObserver(() => { for (const id of ['b-1', 'b-2', 'b-3', 'b-4']) \
         if (!came[id] && document.body.innerText.includes(id)) came[id] = Date.now(); }) \
         .observe(document.body, { childList: true, subtree: true, characterData: true }); })()",
    );
    let mut took = Vec::new();
    for n in 1..=4 {
        desk.book(&format!("b-{n}"), &format!("g{n}"));
        let answered = wall_ms();
        let came = desk.browser.until(&format!("came['b-{n}']"), "the booking is in sight");
        took.push(came.as_f64().expect("a time") - answered);
    }
    took.sort_by(f64::total_cmp);
    // One of four may fall into a moment in which the machine has no time for anybody.
    assert!(took[2] < 1_000.0, "milliseconds from the answer to the text: {took:?}");
    // It can be called off there, and the line says so.
    desk.browser.eval("document.querySelector('[aria-label=\"Cancel b-4\"]').click()");
    desk.until_text("Booking b-4 is called off.");
    desk.browser.until("[...document.querySelectorAll('.booking')].some((row) => row.innerText.includes('b-4') && row.innerText.includes('cancelled'))", "the line says cancelled");
    assert_eq!(desk.client.get("/market/bookings/b-4").body["status"], "cancelled");
    desk.calm();
}

#[test]
fn a_gpu_is_booked_on_the_page() {
    let mut desk = Desk::at("market", &[]);
    desk.with_gpus();
    desk.live();
    desk.browser.until("document.querySelector('[aria-label=\"Book g2\"]')", "an offer to book");
    desk.browser.eval("document.querySelector('[aria-label=\"Book g2\"]').click()");
    assert_eq!(desk.focused(), "book-user");
    desk.browser.write("somebody");
    desk.browser.press("Enter");
    let id = desk
        .browser
        .until("(document.body.innerText.match(/Booking (ui-[0-9a-f]+) is made/) ?? [])[1]", "it is made");
    let booking = desk.client.get(&format!("/market/bookings/{}", id.as_str().expect("an id"))).body;
    assert_eq!((&booking["gpu_id"], &booking["user_id"]), (&json!("g2"), &json!("somebody")));
    // The same GPU once more: the node's own words.
    desk.browser.eval(
        "document.getElementById('book-gpu').value = 'g2'; document.querySelector('.book').requestSubmit()",
    );
    desk.browser.until("document.querySelector('.book .bad-text').innerText.length > 10", "why not");
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
    desk.live();
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
fn a_key_is_explained_and_invalidated_with_a_reason() {
    let mut desk = Desk::at("keys", &[]);
    let invalidations =
        |desk: &Desk| desk.client.get("/cache/stats").body["invalidations"].as_u64().expect("a count");
    assert_eq!(desk.client.put("/cache/device_info/d%2F1?os=linux", &json!({"cores": 8})).status, 200);
    desk.live();
    desk.browser.until("document.querySelector('#key-type option[value=device_info]')", "the types");
    desk.browser.eval(
        "(() => { const set = (id, value) => { document.getElementById(id).value = value; }; \
         set('key-type', 'device_info'); set('key-resource', 'd/1'); set('key-params', 'os=linux'); \
         document.querySelector('.keyform').requestSubmit(); })()",
    );
    desk.until_text("A read now is answered by L1.");
    desk.until_text("\"cores\": 8");
    let before = invalidations(&desk);
    desk.browser.eval("document.getElementById('invalidate').click()");
    desk.until_text("Invalidate on all nodes?");
    // Without a reason nothing happens.
    desk.browser.press("Enter");
    assert_eq!(desk.browser.eval("document.querySelector('dialog').open"), true);
    desk.browser.write("   ");
    desk.browser.press("Enter");
    desk.until_text("Say why.");
    assert_eq!(invalidations(&desk), before);
    desk.browser.write("the device was replaced");
    desk.browser.press("Enter");
    desk.until_text("is invalidated on all nodes");
    desk.until_text("Neither tier would answer");
    assert!(invalidations(&desk) > before);
    assert_eq!(desk.client.get("/cache/device_info/d%2F1?os=linux").status, 404);
    // The event carries the reason, for all who look.
    desk.visit("events");
    desk.until_text("manual invalidation");
    desk.browser.eval("document.querySelectorAll('.event details').forEach((one) => { one.open = true; })");
    desk.until_text("the device was replaced");
    desk.calm();
}

#[test]
fn a_keyboard_is_enough() {
    let mut desk = Desk::at("overview", &[]);
    assert_eq!(desk.client.put("/cache/device_info/d1", &json!(1)).status, 200);
    desk.until_text("since it started");
    desk.browser.press("Tab");
    assert_eq!(desk.focused(), "skip");
    desk.browser.press("Enter");
    assert_eq!(desk.focused(), "main");
    desk.visit("overview");
    desk.until_text("since it started");
    desk.tab_to("Keys");
    desk.browser.press("Enter");
    desk.browser.until(
        "document.activeElement.tagName === 'H1' && document.activeElement.innerText === 'Keys'",
        "the focus is at the new view",
    );
    desk.browser.until("document.querySelector('#key-type option[value=device_info]')", "the types");
    desk.tab_to("key-type");
    desk.browser.write("");
    desk.browser.eval("document.activeElement.value = 'device_info'");
    desk.tab_to("key-resource");
    desk.browser.write("d1");
    desk.browser.press("Enter");
    desk.until_text("A read now is answered by L1.");
    desk.tab_to("invalidate");
    desk.browser.press("Enter");
    assert_eq!(desk.focused(), "reason");
    desk.browser.press("Escape");
    desk.browser.until("!document.querySelector('dialog').open", "Escape closes it");
    assert_eq!(desk.focused(), "invalidate", "the focus is where it was");
    desk.browser.press("Enter");
    desk.browser.write("by keyboard");
    desk.tab_to("Invalidate");
    desk.browser.press("Enter");
    desk.until_text("is invalidated on all nodes");
    desk.visit("market");
    desk.until_text("Book a GPU");
    for control in [
        "theme",
        "market-type",
        "market-region",
        "book-gpu",
        "book-user",
        "book-hours",
        "Book from now",
        "offer-status",
    ] {
        desk.tab_to(control);
    }
    desk.calm();
}

/// Every text whose contrast with what lies behind it is below 4.5 : 1, and every part that is wider than the page.
const FAULTS: &str = r"(() => {
  const parts = (text) => text.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => { for (; node; node = node.parentElement) { const c = parts(getComputedStyle(node).backgroundColor); if (c[3] !== 0) return c; } return [255, 255, 255]; };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.checkVisibility() || node.closest(':disabled, .hidden, .skip, option, noscript')) continue;
    const style = getComputedStyle(node);
    const ink = node instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(parts(ink)), light(behind(node))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.push(`${walker.currentNode.textContent.trim()}: ${contrast.toFixed(2)}`);
  }
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth)
    for (const node of document.querySelectorAll('main *')) if (node.getBoundingClientRect().right > innerWidth + 1 && !node.closest('.scroll')) found.push(`too wide: ${node.tagName}.${node.className}`);
  return found;
})()";

#[test]
fn it_can_be_read_in_light_and_dark_on_desks_and_phones() {
    let mut desk = Desk::at("overview", &[]);
    desk.with_gpus();
    desk.book("b-1", "g1");
    for view in [
        "overview",
        "events",
        "keys?type=booking&resource=b-1",
        "market?gpu_type=H100&region=europe",
        "targets",
    ] {
        let mut grounds = Vec::new();
        for (width, scheme) in [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")] {
            desk.browser.look_at(width, 844, scheme);
            if grounds.is_empty() {
                desk.visit(view);
                desk.live();
                desk.browser.until("document.querySelectorAll('.panel').length > 0 && !document.body.innerText.includes('Waiting for the node')", "all is there");
            }
            let faults = desk.browser.eval(FAULTS);
            assert_eq!(faults, json!([]), "{view} at {width}, {scheme}");
            let wide = desk.browser.eval("document.documentElement.scrollWidth - innerWidth");
            assert!(
                wide.as_f64().is_some_and(|by| by <= 0.0),
                "{view} at {width}, {scheme}: {wide} too wide"
            );
            grounds.push(desk.browser.eval("getComputedStyle(document.body).backgroundColor"));
        }
        assert_ne!(grounds[0], grounds[1], "dark is another colour");
        assert_eq!((&grounds[0], &grounds[1]), (&grounds[2], &grounds[3]));
    }
    // Who chooses a theme gets it, whatever the system says, and again after a reload.
    desk.browser.eval("(() => { const theme = document.getElementById('theme'); theme.value = 'light'; theme.dispatchEvent(new Event('change')); })()");
    desk.visit("targets");
    let ground = desk.browser.eval("getComputedStyle(document.body).backgroundColor");
    desk.browser.look_at(390, 844, "light");
    assert_eq!(ground, desk.browser.eval("getComputedStyle(document.body).backgroundColor"));
    desk.calm();
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

/// The wall clock, which the browser shares.
#[expect(clippy::disallowed_methods, reason = "the test itself measures")]
fn wall_ms() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs_f64() * 1000.0
}

#[test]
fn a_tag_is_invalidated_by_keyboard() {
    let mut desk = Desk::at("keys", &[]);
    let put = desk.client.ask("PUT", "/cache/device_info/d1", &[("cache-tags", "rack-7")], Some(b"1"));
    assert_eq!(put.status, 200);
    desk.live();
    desk.tab_to("scope-text");
    desk.browser.write("rack-7");
    desk.browser.press("Enter");
    assert_eq!(desk.focused(), "reason");
    desk.browser.write("the rack was replaced");
    desk.tab_to("Invalidate");
    desk.browser.press("Enter");
    desk.until_text("is invalidated on all nodes");
    assert_eq!(desk.client.get("/cache/device_info/d1").status, 404);
}
