//! `cachectl invalidate`, `cachectl clear`

use cache_api::{ClearRequest, Written};
use serde_json::{Map, Value};

use super::Context;
use crate::arguments::{ClearArgs, InvalidateArgs};
use crate::ask;
use crate::failure::{Failure, Verdict};
use crate::screen::{good, plain};

pub(super) fn invalidate(cx: &Context, args: InvalidateArgs) -> Result<Verdict, Failure> {
    let client = cx.one()?;
    let InvalidateArgs { cache_type, resource, tag, pattern, reason } = args;
    if resource.is_none() && tag.is_none() && pattern.is_none() {
        let cure =
            "name a resource behind the cache type, --tag or --pattern; `clear` drops all of a cache type";
        return Err(Failure::usage("nothing is named to be invalidated", cure));
    }
    let reason = ask::reason(reason)?;
    let told = match (&resource, &tag, &pattern) {
        (Some(resource), _, _) => format!("{}/{resource}", cache_type.as_deref().unwrap_or_default()),
        (_, Some(tag), _) => format!("tag {tag}"),
        (_, _, pattern) => {
            let place = cache_type.as_deref().map_or("all cache types".to_owned(), str::to_owned);
            format!("pattern {} of {place}", pattern.as_deref().unwrap_or_default())
        }
    };
    let fields = [
        ("cache_type", cache_type),
        ("resource", resource),
        ("tag", tag),
        ("pattern", pattern),
        ("reason", Some(reason)),
    ];
    let body: Map<String, Value> =
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect();
    send(cx, client, "/cache/invalidate", Value::Object(body).to_string(), &format!("invalidated {told}"))
}

pub(super) fn clear(cx: &Context, args: ClearArgs) -> Result<Verdict, Failure> {
    let client = cx.one()?;
    let what = args.cache_type.as_deref().map_or("everything".to_owned(), |name| format!("all of {name}"));
    let reason = ask::reason(args.reason)?;
    ask::confirmation(
        &format!("This drops {what}, on all nodes that share the store of {}", client.node()),
        args.yes,
    )?;
    let request = ClearRequest { cache_type: args.cache_type, reason: Some(reason) };
    let body =
        serde_json::to_string(&request).map_err(|error| Failure::from(std::io::Error::other(error)))?;
    send(cx, client, "/cache/clear", body, &format!("cleared {what}"))
}

fn send(
    cx: &Context,
    client: &crate::client::Client,
    path: &str,
    body: String,
    done: &str,
) -> Result<Verdict, Failure> {
    let written: Written = client.ask("POST", path, &[], Some(body.as_bytes()))?.success()?.read()?;
    cx.screen.show(&written, |page| {
        page.line(&[good(done)]);
        page.fields([("token", plain(&written.token))]);
    })?;
    Ok(Verdict::Right)
}
