//! The dashboard as people meet it, in a headless Chromium: what it shows, what it refuses, and that a keyboard is enough.

#[path = "dashboard/desk.rs"]
mod desk;
mod support;

use std::path::Path;

use desk::Desk;
use serde_json::{Value, json};
use support::Serving;

const VIEWS: [&str; 5] = ["overview", "events", "keys", "market", "targets"];
const TOKEN: &str = "a-token-of-this-test";
const READER: &str = "a-token-that-may-read";

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
    desk.browser
        .until("/\\d\\s%/.test(document.querySelector('#tile-hits .figure').innerText)", "a hit ratio");
    desk.until_text("gpu_pricing");
    desk.calm();
}

#[test]
fn a_booking_made_over_http_is_in_sight_within_a_second() {
    let mut desk = Desk::at("market", &[]);
    desk.with_gpus();
    desk.live();
    desk.until_text("No booking yet");
    let took = [1, 2, 3, 4].map(|n| desk.in_sight_after(&format!("b-{n}"), &format!("g{n}")));
    assert!(took.iter().all(|ms| *ms < 1_000.0), "milliseconds from the answer to the text: {took:?}");
    // It can be called off there, and the line says so.
    desk.browser.eval("document.querySelector('[aria-label=\"Cancel b-4\"]').click()");
    desk.until_text("Booking b-4 is called off.");
    desk.browser.until("[...document.querySelectorAll('.booking')].some((row) => row.innerText.includes('b-4') && row.innerText.includes('cancelled'))", "the line says cancelled");
    assert_eq!(desk.client.get("/market/bookings/b-4").body["status"], "cancelled");
    // Such an event has several places in the log, and is one event to people.
    let parts = desk.client.get("/node/events?event_type=booking_created").body["events"].clone();
    assert!(parts.as_array().is_some_and(|parts| parts.len() > 4), "{parts}");
    desk.visit("events");
    desk.until_text("b-1");
    let rows = "[...document.querySelectorAll('.event .what')].map((what) => what.innerText).filter((what) => what.startsWith('b-')).sort()";
    assert_eq!(desk.browser.eval(rows), json!(["b-1", "b-2", "b-3", "b-4", "b-4"]));
    desk.calm();
}

#[test]
fn a_page_that_is_given_no_frames_follows_all_the_same() {
    let mut desk = Desk::at("market", &[]);
    desk.with_gpus();
    desk.live();
    desk.until_text("No booking yet");
    desk.browser.eval("window.requestAnimationFrame = () => 0");
    let took = [1, 2].map(|n| desk.in_sight_after(&format!("b-{n}"), &format!("g{n}")));
    assert!(took.iter().all(|ms| *ms < 1_000.0), "milliseconds from the answer to the text: {took:?}");
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

/// Two tokens, of which one may read alone, and an audit log in a folder.
fn audited(folder: &Path) -> Serving {
    let file = folder.join("node.toml");
    let log = folder.join("audit.log");
    let text = format!(
        "[[auth.tokens]]\nname = \"boss\"\ntoken = \"{TOKEN}\"\nscopes = [\"admin\"]\n\
         [[auth.tokens]]\nname = \"reader\"\ntoken = \"{READER}\"\nscopes = [\"read\"]\n[audit]\nlog = {log:?}\n"
    );
    std::fs::write(&file, text).expect("written");
    let file = file.to_str().expect("text");
    let node = Serving::start_with(&["--listen", "127.0.0.1:0", "--config", file], &[("EDGE_NODE_ID", "n1")]);
    let put = node.client.with_token(TOKEN).put("/cache/device_info/d1", &json!({"cores": 8}));
    assert_eq!(put.status, 200, "{put:?}");
    node
}

/// Has somebody with that token ask for the invalidation of what [`audited`] put there.
fn invalidated_by(folder: &Path, token: &str, reason: &str) -> Desk {
    let mut desk = Desk::before(audited(folder), "keys?type=device_info&resource=d1");
    desk.until_text("This node asks for a token");
    desk.browser.write(token);
    desk.browser.press("Enter");
    desk.until_text("A read now is answered by L1.");
    desk.browser.eval("document.getElementById('invalidate').click()");
    desk.browser.write(reason);
    desk.browser.press("Enter");
    desk
}

/// The lines that the node wrote about invalidations, once it has ended.
fn audit(desk: Desk, folder: &Path) -> Vec<Value> {
    assert!(desk.node.terminate().0.success());
    let text = std::fs::read_to_string(folder.join("audit.log")).expect("a log");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    lines.filter(|line| line["path"] == "/cache/invalidate").collect()
}

#[test]
fn a_token_that_may_not_invalidate_is_told_so_and_nothing_is_invalidated() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut desk = invalidated_by(folder.path(), READER, "out of curiosity");
    let said = "document.getElementById('invalidate-wrong')";
    let told = desk.browser.until(&format!("{said}.checkVisibility() && {said}.innerText"), "why not");
    let told = told.as_str().expect("text");
    assert!(told.starts_with("The token may not do this:") && told.contains("`invalidate`"), "{told}");
    // In the dialog, which stays open, with the reason that was typed.
    let open =
        desk.browser.eval("[document.querySelector('dialog').open, document.getElementById('reason').value]");
    assert_eq!(open, json!([true, "out of curiosity"]));
    assert_eq!(desk.browser.eval(FAULTS), json!([]));
    let boss = desk.client.with_token(TOKEN);
    assert_eq!(boss.get("/cache/device_info/d1").status, 200);
    assert_eq!(
        boss.get("/node/events?event_type=manual_invalidation&limit=9").body["events"][0]["reason"],
        "put"
    );
    let lines = audit(desk, folder.path());
    assert_eq!(
        (lines.len(), &lines[0]["token"], &lines[0]["outcome"]),
        (1, &json!("reader"), &json!("refused"))
    );
}

#[test]
fn an_invalidation_on_the_page_leaves_its_line_in_the_audit() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut desk = invalidated_by(folder.path(), TOKEN, "the device was replaced");
    desk.until_text("is invalidated on all nodes");
    assert_eq!(desk.client.with_token(TOKEN).get("/cache/device_info/d1").status, 404);
    let lines = audit(desk, folder.path());
    let [line] = &lines[..] else { panic!("one line: {lines:?}") };
    let told = ["log", "token", "address", "reason", "outcome", "method"]
        .map(|name| line[name].as_str().unwrap_or("-"));
    assert_eq!(told, ["audit", "boss", "127.0.0.1", "the device was replaced", "done", "POST"]);
    assert!(line["scopes"].to_string().contains("d1"), "{line}");
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
        "/does not answer. What you see is \\d+\\ss old/.test(document.getElementById('banner').innerText)",
        "how old it is",
    );
    desk.browser
        .until("document.getElementById('status').innerText === 'no answer'", "nothing is called healthy");
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
