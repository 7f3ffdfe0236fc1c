//! Takes the pictures of the dashboard in `docs/images/`: `cargo xtask screenshot`. A demo runs meanwhile.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use cache_testkit::Browser;

/// Enough nodes for every region to have two, and few enough rows that a page of events can be read.
const DEMO: [&str; 10] =
    ["demo", "--ui", "--nodes", "6", "--readers", "2", "--speed", "12", "--seconds", "600"];
/// Before the first picture, so that the charts have something to show.
const WARM_UP: &str = "new Promise((done) => setTimeout(done, 30000))";
const WARM_UPS: usize = 5;

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Result<()> {
    // Beside this example's folder.
    let here = std::env::current_exe()?;
    let program = here.parent().and_then(Path::parent).context("an example has a folder")?.join("cache-node");
    let mut command = Command::new(&program);
    let started = command.args(DEMO).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut demo = Ended(started.with_context(|| format!("{} is built first", program.display()))?);
    let mut told = BufReader::new(demo.0.stderr.take().context("piped")?).lines();
    let first = told.next().context("the demo says where it serves")??;
    let (_, url) = first.split_once(": ").with_context(|| first.clone())?;
    let mut browser = Browser::start();
    browser.go(&format!("{url}#/overview"));
    for _ in 0..WARM_UPS {
        browser.eval(WARM_UP);
    }
    browser.eval("(() => { const time = document.getElementById('window'); time.value = 5; time.dispatchEvent(new Event('change')); })()");
    browser.until("document.querySelectorAll('.line').length > 8", "the charts are drawn");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/images");
    let keep = |name: &str, picture: Vec<u8>| -> Result<()> {
        let file = folder.join(name);
        std::fs::write(&file, &picture).with_context(|| file.display().to_string())?;
        println!("{name}: {} bytes", picture.len());
        Ok(())
    };
    keep("dashboard.png", down_to(&mut browser, "section[aria-labelledby=part-nodes]"))?;
    browser.look_at(1280, 900, "dark");
    browser.go(&format!("{url}#/market?gpu_type=H100_80GB_SXM5&region=us-east"));
    browser.until("document.querySelectorAll('.booking').length > 3", "bookings are there");
    browser.until("document.querySelectorAll('.line').length > 1", "the past is drawn");
    keep("dashboard-market.png", down_to(&mut browser, ".pair"))?;
    browser.look_at(390, 844, "light");
    browser.go(&format!("{url}#/overview"));
    browser.until("document.querySelectorAll('.line').length > 8", "the charts are drawn");
    keep("dashboard-phone.png", down_to(&mut browser, ".chart:nth-of-type(2)"))?;
    Ok(())
}

/// A picture that ends behind a part of the page, and cuts none in two.
fn down_to(browser: &mut Browser, part: &str) -> Vec<u8> {
    const MARGIN: f64 = 8.0;
    let bottom = format!("document.querySelector({part:?}).getBoundingClientRect().bottom + window.scrollY");
    let bottom = browser.eval(&bottom).as_f64().unwrap_or_default();
    browser.picture((bottom + MARGIN) as u32)
}
