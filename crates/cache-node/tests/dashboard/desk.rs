//! A node and a browser that looks at it.

use cache_testkit::Browser;
use serde_json::json;

use crate::support::{Client, Serving};

/// A node alone on any port, and a browser at one of its views.
pub(crate) struct Desk {
    pub(crate) browser: Browser,
    pub(crate) base: String,
    pub(crate) client: Client,
    pub(crate) node: Serving,
}

impl Desk {
    pub(crate) fn at(view: &str, env: &[(&str, &str)]) -> Self {
        let env = [&[("EDGE_NODE_ID", "n1"), ("EDGE_NODE_REGION", "europe")], env].concat();
        Self::before(Serving::start(&env), view)
    }

    /// The same with a node that is there.
    pub(crate) fn before(node: Serving, view: &str) -> Self {
        let (base, client) = (node.base.clone(), node.client.clone());
        client.until_status("healthy");
        let mut desk = Self { browser: Browser::start(), base, client, node };
        desk.visit(view);
        desk
    }

    /// Goes to a view.
    pub(crate) fn visit(&mut self, view: &str) {
        self.browser.go(&format!("{}/ui/#/{view}", self.base));
    }

    pub(crate) fn live(&mut self) {
        self.browser.until("document.body.dataset.stream === 'open'", "changes arrive");
    }

    pub(crate) fn until_text(&mut self, text: &str) {
        let looked = format!("document.body.innerText.includes({})", json!(text));
        self.browser.until(&looked, text);
    }

    /// Four GPUs, `g1` to `g4`.
    pub(crate) fn with_gpus(&self) {
        for n in 1..=4 {
            let gpu = json!({"provider_id": "p", "gpu_type": "H100", "region": "europe", "memory_gb": 80,
                "base_price_per_hour": n * 1_000_000});
            assert_eq!(self.client.put(&format!("/market/gpus/g{n}"), &gpu).status, 200);
        }
    }

    pub(crate) fn book(&mut self, id: &str, gpu: &str) {
        let now = self.browser.eval("Date.now()").as_u64().expect("a time");
        let booking = json!({"booking_id": id, "gpu_id": gpu, "user_id": "u", "start_time": now, "end_time": now + 3_600_000});
        let booked = self.client.post("/market/bookings", &booking);
        assert_eq!(booked.status, 201, "{booked:?}");
    }

    /// Books as a program does, and gives the milliseconds from the answer to the line in sight; less than 0 if the line was
    /// first. All by the clock of the page, which makes the request itself, so that looking takes no time.
    pub(crate) fn in_sight_after(&mut self, id: &str, gpu: &str) -> f64 {
        let took = self.browser.eval(&format!(
            "(async () => {{
                const came = new Promise((done) => {{
                    const look = () => {{ if (document.body.innerText.includes('{id}')) done(performance.now()); }};
                    new MutationObserver(look).observe(document.body, {{ childList: true, subtree: true, characterData: true }});
                    setTimeout(() => done(Infinity), 20_000);
                }});
                const start_time = Date.now();
                const booking = {{ booking_id: '{id}', gpu_id: '{gpu}', user_id: 'u', start_time, end_time: start_time + 3_600_000 }};
                const answer = await fetch('/market/bookings', {{ method: 'POST', body: JSON.stringify(booking) }});
                const answered = performance.now();
                if (answer.status !== 201) throw new Error(await answer.text());
                return Math.min(await came - answered, 1e9);
            }})()"
        ));
        took.as_f64().expect("a time")
    }

    pub(crate) fn focused(&mut self) -> String {
        let asked = "(document.activeElement.id || document.activeElement.innerText || document.activeElement.tagName)";
        self.browser.eval(asked).as_str().unwrap_or_default().trim().to_owned()
    }

    /// Goes on with Tab until the focus is there.
    pub(crate) fn tab_to(&mut self, wanted: &str) {
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

    pub(crate) fn calm(&mut self) {
        assert_eq!(self.browser.problems(), [""; 0]);
    }
}
