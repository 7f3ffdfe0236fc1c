//! `cachectl alerts`

use cache_api::operate::{Alert, Alerts, Severity};

use super::Context;
use crate::failure::{Failure, Verdict};
use crate::screen::{Page, Word, bad, faint, good, odd, plain};

pub(super) fn run(cx: &Context) -> Result<Verdict, Failure> {
    cx.each(|client| client.get::<Alerts>("/node/alerts"), draw, |alerts| !alerts.active.is_empty())
}

fn severity(alert: &Alert) -> Word {
    match alert.severity {
        Severity::Warning => odd("warning"),
        Severity::Critical => bad("critical"),
    }
}

fn draw(page: &mut Page, alerts: &Alerts) {
    if alerts.active.is_empty() {
        page.line(&[good("no alert stands")]);
    }
    for alert in &alerts.active {
        page.line(&[severity(alert), plain(&alert.name), plain(&alert.message)]);
        page.fields([
            ("  now", plain(figure(alert.value, &alert.unit))),
            ("  limit", plain(figure(alert.threshold, &alert.unit))),
            ("  since", plain(&alert.since)),
            ("  cure", plain(&alert.cure)),
        ]);
    }
    if alerts.past.is_empty() {
        return;
    }
    page.gap();
    let rows = alerts.past.iter().map(|alert| {
        let until = alert.until.as_deref().unwrap_or_default();
        vec![
            severity(alert),
            plain(&alert.name),
            plain(figure(alert.value, &alert.unit)),
            plain(&alert.since),
            faint(until),
        ]
    });
    page.table(&["passed", "alert", "worst", "since", "until"], rows.collect());
}

/// A figure with its unit.
pub(super) fn figure(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        size if value.fract() == 0.0 || size >= 1000.0 => 0,
        size if size < 0.1 => 4,
        _ => 2,
    };
    format!("{value:.digits$} {unit}")
}
