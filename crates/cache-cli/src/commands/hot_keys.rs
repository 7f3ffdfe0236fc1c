//! `cachectl hot-keys`

use cache_api::operate::HotKeys;

use super::{Context, nothing, path};
use crate::arguments::LimitArgs;
use crate::failure::{Failure, Verdict};
use crate::screen::{Page, plain};

pub(super) fn run(cx: &Context, args: &LimitArgs) -> Result<Verdict, Failure> {
    let path = path("/node/hot-keys", &[("limit", &args.limit.to_string())]);
    cx.each(|client| client.get::<HotKeys>(&path), draw, |_| false)
}

fn draw(page: &mut Page, hot: &HotKeys) {
    if hot.keys.is_empty() {
        return nothing(page, "no key is read often");
    }
    let rows = hot
        .keys
        .iter()
        .map(|key| vec![plain(format!("{:.1}", key.reads_per_s)), plain(&key.cache_type), plain(&key.key)]);
    page.table(&["reads/s", "cache type", "key"], rows.collect());
}
