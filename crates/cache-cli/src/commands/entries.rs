//! `cachectl get`, `cachectl put`

use std::io::Read;
use std::path::Path;

use cache_api::{Written, headers};
use serde::Serialize;
use serde_json::Value;

use super::{Context, path};
use crate::arguments::{GetArgs, KeyArgs, PutArgs};
use crate::client::{Answer, escaped};
use crate::failure::{Failure, Verdict};
use crate::screen::{Page, maybe, odd, plain, span};

/// Where a key is, under the routes of the cache or of explanations.
pub(super) fn place(base: &str, key: &KeyArgs) -> String {
    let whole = format!("{base}/{}/{}", escaped(&key.cache_type), escaped(&key.resource));
    let pairs: Vec<(&str, &str)> =
        key.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    path(&whole, &pairs)
}

/// What was read.
#[derive(Debug, Serialize)]
struct Got {
    /// Something is cached.
    found: bool,
    value: Value,
    tier: Option<String>,
    age_s: Option<u64>,
    lag_ms: Option<u64>,
    as_of: Option<String>,
    version: Option<u64>,
    position: Option<String>,
    stale: bool,
}

pub(super) fn get(cx: &Context, args: &GetArgs) -> Result<Verdict, Failure> {
    let wish = args.freshness.as_deref().map(|wish| (headers::CACHE_FRESHNESS, wish));
    let client = cx.one()?;
    let answer = client.ask("GET", &place("/cache", &args.key), wish.as_slice(), None)?;
    let got = match answer.status {
        // Of a name that is wrong the node names the field; that nothing is cached is an answer.
        404 if !names_a_field(&answer) => told(&answer, false)?,
        _ => told(&answer.success()?, true)?,
    };
    cx.screen.show(&got, |page| draw(page, &got))?;
    Ok(Verdict::wrong_if(!got.found))
}

fn names_a_field(answer: &Answer) -> bool {
    answer.read::<Value>().is_ok_and(|body| body["field"].is_string())
}

fn told(answer: &Answer, found: bool) -> Result<Got, Failure> {
    let text = |name: &str| answer.header(name).map(str::to_owned);
    let number = |name: &str| answer.header(name).and_then(|text| text.parse().ok());
    Ok(Got {
        found,
        value: if found { answer.read()? } else { Value::Null },
        tier: text(headers::CACHE_TIER),
        age_s: number("age"),
        lag_ms: number(headers::CACHE_LAG_MS),
        as_of: text(headers::CACHE_AS_OF),
        version: number(headers::CACHE_VERSION),
        position: text(headers::CACHE_POSITION),
        stale: answer.header(headers::CACHE_STALE) == Some("true"),
    })
}

fn draw(page: &mut Page, got: &Got) {
    if !got.found {
        page.line(&[odd("nothing is cached under this key")]);
        return;
    }
    // What JSON cannot be made of came as JSON.
    page.line(&[plain(serde_json::to_string_pretty(&got.value).unwrap_or_default())]);
    page.gap();
    page.fields([
        ("tier", maybe(got.tier.as_ref())),
        ("age", maybe(got.age_s.map(|age| span(age * 1000)))),
        ("lag", maybe(got.lag_ms.map(span))),
        ("version", maybe(got.version)),
        ("position", maybe(got.position.as_ref())),
    ]);
    if got.stale {
        page.line(&[odd("served although the staleness bound had passed")]);
    }
}

pub(super) fn put(cx: &Context, args: &PutArgs) -> Result<Verdict, Failure> {
    let client = cx.one()?;
    let text = match (&args.value, &args.file) {
        (Some(value), _) => value.clone(),
        (None, Some(file)) => read(file)?,
        // Clap sees to it that one of them is there.
        (None, None) => String::new(),
    };
    if let Err(error) = serde_json::from_str::<Value>(&text) {
        let cure = "a text is JSON in double quotes: --value '\"text\"'";
        return Err(Failure::usage(format!("the value is not JSON: {error}"), cure));
    }
    // In this header a comma is a border.
    let tags: Vec<String> = args.tags.iter().map(|tag| escaped(tag)).collect();
    let tags = tags.join(",");
    let mut wishes = Vec::new();
    if let Some(ttl) = &args.ttl {
        wishes.push((headers::CACHE_TTL, ttl.as_str()));
    }
    if !tags.is_empty() {
        wishes.push((headers::CACHE_TAGS, tags.as_str()));
    }
    let answer = client.ask("PUT", &place("/cache", &args.key), &wishes, Some(text.as_bytes()))?;
    let written: Written = answer.success()?.read()?;
    cx.screen.show(&written, |page| page.fields([("token", plain(&written.token))]))?;
    Ok(Verdict::Right)
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match file == Path::new("-") {
        true => std::io::stdin().read_to_string(&mut text).map(drop),
        false => std::fs::read_to_string(file).map(|read| text = read),
    };
    let told = |error| {
        Failure::usage(format!("--file: {} cannot be read: {error}", file.display()), "name a text file")
    };
    read.map(|()| text).map_err(told)
}
