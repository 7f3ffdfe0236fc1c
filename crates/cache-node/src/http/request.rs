//! What a request says about a key and about its wishes.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use cache_api::headers;
use cache_events::{Key, Namespace, Tag};
use cache_tiered::{Freshness, FreshnessError};
use percent_encoding::percent_decode_str;

use super::problem::Problem;

static TTL: HeaderName = HeaderName::from_static(headers::CACHE_TTL);
static FRESHNESS: HeaderName = HeaderName::from_static(headers::CACHE_FRESHNESS);
static TAGS: HeaderName = HeaderName::from_static(headers::CACHE_TAGS);

/// The key of a resource with the parameters of a query.
pub(crate) fn key(namespace: &Namespace, resource: &str, query: Option<&str>) -> Result<Key, Problem> {
    let mut builder = Key::builder(namespace, resource);
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            Problem::bad(pair, format!("parameter {pair:?} has no value"))
                .cure("parameters are spelled name=value")
        })?;
        builder = builder.param(decoded(name, pair)?, decoded(value, pair)?);
    }
    builder.build().map_err(|error| {
        let field = if error.what == "parameter" { error.value.clone() } else { error.what.to_owned() };
        Problem::bad(&field, error.to_string())
    })
}

/// In queries a plus stands for a space, as forms and most clients write it.
pub(crate) fn decoded<'a>(text: &'a str, pair: &str) -> Result<Cow<'a, str>, Problem> {
    if !text.bytes().any(|byte| matches!(byte, b'+' | b'%')) {
        return Ok(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    let decoded = decoded.map_err(|_| Problem::bad(pair, format!("parameter {pair:?} is not UTF-8")))?;
    Ok(Cow::Owned(decoded.into_owned()))
}

/// The hard TTL that was asked for.
pub(crate) fn ttl(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let Some(value) = single(headers, &TTL)? else { return Ok(None) };
    let parsed = humantime::parse_duration(value.trim()).ok().filter(|ttl| *ttl >= Duration::from_millis(1));
    parsed.map(Some).ok_or_else(|| {
        Problem::bad(headers::CACHE_TTL, format!("{value:?} is not a duration of at least 1 ms"))
            .cure("give a number with a unit, such as 30s, 5m or 1h 30m")
    })
}

/// How fresh the answer must be.
pub(crate) fn freshness(headers: &HeaderMap) -> Result<Freshness, Problem> {
    let Some(value) = single(headers, &FRESHNESS)? else { return Ok(Freshness::Bounded) };
    value.parse().map_err(|error: FreshnessError| {
        Problem::bad(headers::CACHE_FRESHNESS, error.to_string())
            .cure("leave it out for what the cache type promises")
    })
}

/// The tags that were asked for.
pub(crate) fn tags(headers: &HeaderMap) -> Result<Vec<Tag>, Problem> {
    let Some(value) = single(headers, &TAGS)? else { return Ok(Vec::new()) };
    let tag = |text: &str| {
        let wrong = |rule: &str| Problem::bad(headers::CACHE_TAGS, format!("tag {text:?}: {rule}"));
        let decoded = percent_decode_str(text).decode_utf8().map_err(|_| wrong("is not UTF-8"))?;
        Tag::new(decoded).map_err(|error| wrong(&error.rule))
    };
    value.split(',').map(str::trim).filter(|text| !text.is_empty()).map(tag).collect()
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::bad(name.as_str(), format!("{name} is given twice")));
    }
    let text = HeaderValue::to_str(first)
        .map_err(|_| Problem::bad(name.as_str(), format!("{name} is not plain ASCII")))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(query: &str) -> Result<String, Problem> {
        let namespace = Namespace::new("n").unwrap();
        key(&namespace, "r", Some(query)).map(|key| key.to_string())
    }

    #[test]
    fn parameters_become_those_of_the_key_in_any_order() {
        assert_eq!(spelled("b=2&a=1").unwrap(), "n/r/a=1&b=2");
        assert_eq!(spelled("a=x+y%2Fz&").unwrap(), "n/r/a=x%20y%2Fz");
        assert_eq!(spelled("").unwrap(), "n/r/");
    }

    #[test]
    fn what_is_no_parameter_is_refused() {
        for query in ["a", "a=1&a=2", "=1", "a=%FF"] {
            assert!(spelled(query).is_err(), "{query}");
        }
    }

    #[test]
    fn a_wish_for_a_ttl_needs_its_unit() {
        let wish = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(headers::CACHE_TTL, HeaderValue::from_static(text));
            ttl(&headers).ok().flatten()
        };
        assert_eq!(wish("30s"), Some(Duration::from_secs(30)));
        assert_eq!(wish("1m 30s"), Some(Duration::from_secs(90)));
        for wrong in ["30", "-1s", "0s", "soon", ""] {
            assert_eq!(wish(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn tags_are_separated_by_commas_and_may_hold_escaped_ones() {
        let mut headers = HeaderMap::new();
        headers.insert(headers::CACHE_TAGS, HeaderValue::from_static("a, b%2Cc,"));
        let tags = tags(&headers).unwrap();
        assert_eq!(tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["a", "b,c"]);
    }
}
