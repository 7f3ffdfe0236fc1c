//! `cachectl explain`

use cache_api::operate::{Explanation, Held};

use super::{Context, entries, events};
use crate::arguments::KeyArgs;
use crate::failure::{Failure, Verdict};
use crate::screen::{Page, Word, faint, good, maybe, odd, plain, span};

pub(super) fn run(cx: &Context, args: &KeyArgs) -> Result<Verdict, Failure> {
    let path = entries::place("/node/explain", args);
    cx.each(|client| client.get::<Explanation>(&path), draw, |_| false)
}

fn draw(page: &mut Page, told: &Explanation) {
    page.fields([
        ("key", plain(&told.key)),
        ("cache type", plain(&told.cache_type)),
        ("partition", plain(format!("{} ({})", told.partition, told.state))),
        ("proof of freshness", maybe(told.lag_ms.map(|ms| format!("{} old", span(ms))))),
        ("answered by", told.tier.as_ref().map_or_else(|| odd("nothing: a miss"), good)),
    ]);
    if !told.value.is_null() {
        let text = told.value.to_string();
        let shown: String = text.chars().take(400).collect();
        let more = if shown.len() < text.len() { " …" } else { "" };
        page.fields([("value", plain(format!("{shown}{more}")))]);
    }
    page.gap();
    page.table(
        &["tier", "holds it", "usable", "position", "version", "age", "expires in", "bytes", "note"],
        vec![held("L1", &told.l1), held("L2", &told.l2)],
    );
    if !told.why.is_empty() {
        page.gap();
        for (step, why) in told.why.iter().enumerate() {
            page.line(&[faint(format!("{}.", step + 1)), plain(why)]);
        }
    }
    if !told.events.is_empty() {
        page.gap();
        events::table(page, &told.events);
    }
}

fn held(tier: &str, held: &Held) -> Vec<Word> {
    let yes = |is: bool| if is { good("yes") } else { odd("no") };
    vec![
        plain(tier),
        yes(held.present),
        if held.present { yes(held.usable) } else { faint("–") },
        maybe(held.position.as_ref()),
        maybe(held.version),
        maybe(held.age_ms.map(span)),
        maybe(held.expires_in_ms.map(span)),
        maybe(held.bytes),
        maybe(held.note.as_ref()),
    ]
}
