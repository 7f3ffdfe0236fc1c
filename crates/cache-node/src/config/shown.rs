//! What is in effect and where each value comes from, with no secret in it.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};
use serde_json::{Map, Value as Json};

use super::namespaces::CacheTypePlan;
use super::raw::{Origin, Raw, text_of};
use super::settings::{Field, Kind, NAMESPACE_SETTINGS_LIVE, SETTINGS, Setting, setting};

/// What stands in the place of a secret.
pub const REDACTED: &str = "<redacted>";

/// One setting as it is in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its name in the file.
    pub setting: String,
    /// Its value without secrets; `None` = unset.
    pub value: Option<Json>,
    /// Where the value was typed.
    pub origin: Origin,
    /// Whether a change takes effect without a restart.
    pub live: bool,
}

impl Shown {
    /// Whether anybody said anything about it: a source, the profile or the cache tier.
    pub fn is_said(&self) -> bool {
        self.origin != Origin::Default
    }
}

/// Every setting, then those of each cache type.
pub(crate) fn list(raw: &Raw, cache_types: &[CacheTypePlan]) -> Vec<Shown> {
    let mut list: Vec<Shown> = SETTINGS.iter().map(|setting| of_setting(raw, setting)).collect();
    let tables = raw.namespaces();
    for plan in cache_types {
        let typed = tables.iter().find(|(name, _)| plan.answers_to(name));
        let typed = typed.and_then(|(name, table)| Some((name.as_str(), table.as_dict()?)));
        list.extend(plan.described().into_iter().map(|(name, common, text)| {
            let origin = match typed.filter(|(_, table)| table.contains_key(name)) {
                Some((table, _)) => raw.origin_in_file(&format!("namespaces.{table}.{name}")),
                None => common.and_then(|path| raw.typed(path)).map_or(Origin::Default, |typed| typed.origin),
            };
            Shown {
                setting: format!("namespaces.{}.{name}", plan.cache_type),
                value: Some(Json::String(text)),
                origin,
                live: NAMESPACE_SETTINGS_LIVE.contains(&name),
            }
        }));
    }
    list
}

fn of_setting(raw: &Raw, setting: &Setting) -> Shown {
    let typed = raw.typed(setting.path);
    let value = typed.as_ref().map(|typed| match setting.kind {
        Kind::Tables(fields) => items(&typed.value, |item| table(item, fields)),
        Kind::List => items(&typed.value, |item| scalar(item, setting.secret)),
        Kind::One => scalar(&typed.value, setting.secret),
    });
    let origin = typed.map_or(Origin::Default, |typed| typed.origin);
    Shown { setting: setting.path.to_owned(), value, origin, live: setting.live }
}

fn items(value: &Value, show: impl Fn(&Value) -> Json) -> Json {
    value.as_array().unwrap_or_default().iter().map(show).collect()
}

fn table(item: &Value, fields: &[Field]) -> Json {
    let Value::Dict(_, table) = item else { return Json::Null };
    let secret = |name: &str| fields.iter().any(|field| field.name == name && field.secret);
    let show = |(name, value): (&String, &Value)| {
        let shown = match value {
            Value::Array(_, items) => items.iter().map(|item| scalar(item, secret(name))).collect(),
            value => scalar(value, secret(name)),
        };
        (name.clone(), shown)
    };
    Json::Object(table.iter().map(show).collect::<Map<String, Json>>())
}

fn scalar(value: &Value, secret: bool) -> Json {
    let Some(text) = text_of(value) else { return Json::Null };
    Json::String(if secret { of_secret(&text) } else { without_secrets(&text) })
}

/// Of a secret nothing is shown, but of one that is a URL the place it leads to.
fn of_secret(text: &str) -> String {
    if text.contains("://") || text.starts_with("sqlite:") {
        return without_secrets(text);
    }
    REDACTED.to_owned()
}

/// Names in the query of a URL whose values are no secrets.
const PLAIN_IN_QUERY: &[&str] = &["mode", "cache", "sslmode", "sslrootcert", "protocol", "insecure"];

/// The text; if it is a URL, without its password and whatever else may be one: a user without a password, unknown
/// parameters, the fragment.
pub(crate) fn without_secrets(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None if text.starts_with("sqlite:") => (String::new(), text),
        None => return text.to_owned(),
    };
    // A password with an unescaped `@`, `/`, `?` or `#` in it must not be shown either: all before the last `@` is login.
    let (login, place) = match rest.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, rest),
    };
    let login = login.map(|login| match login.split_once(':') {
        Some((user, _)) => format!("{user}:{REDACTED}@"),
        None => format!("{REDACTED}@"),
    });
    let (place, fragment) = match place.split_once('#') {
        Some((place, "insecure")) => (place, "#insecure".to_owned()),
        Some((place, _)) => (place, format!("#{REDACTED}")),
        None => (place, String::new()),
    };
    let (place, query) = match place.split_once('?') {
        Some((place, query)) => {
            let parameter = |parameter: &str| match parameter.split_once('=') {
                Some((name, _)) if !PLAIN_IN_QUERY.contains(&name) => format!("{name}={REDACTED}"),
                _ => parameter.to_owned(),
            };
            (place, format!("?{}", query.split('&').map(parameter).collect::<Vec<_>>().join("&")))
        }
        None => (place, String::new()),
    };
    format!("{scheme}{}{place}{query}{fragment}", login.unwrap_or_default())
}

/// What was typed for each setting, secrets included, to see what has changed. Hence no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct AllTyped(BTreeMap<String, String>);

impl AllTyped {
    pub(crate) fn of(raw: &Raw) -> Self {
        let value =
            |setting: &Setting| Some((setting.path.to_owned(), whole(&raw.typed(setting.path)?.value)));
        let mut all: BTreeMap<String, String> = SETTINGS.iter().filter_map(value).collect();
        for (name, table) in raw.namespaces() {
            let Value::Dict(_, table) = table else { continue };
            all.extend(
                table.iter().map(|(setting, value)| (format!("namespaces.{name}.{setting}"), whole(value))),
            );
        }
        Self(all)
    }

    /// The settings that differ, and whether a change of each takes effect without a restart.
    pub(crate) fn differences(&self, other: &Self) -> Vec<(String, bool)> {
        let mut paths: Vec<&String> = self.0.keys().chain(other.0.keys()).collect();
        paths.sort_unstable();
        paths.dedup();
        let changed = paths.into_iter().filter(|path| self.0.get(*path) != other.0.get(*path));
        changed.map(|path| (path.clone(), is_live(path))).collect()
    }
}

fn is_live(path: &str) -> bool {
    match path.strip_prefix("namespaces.").and_then(|rest| rest.rsplit_once('.')) {
        Some((_, name)) => NAMESPACE_SETTINGS_LIVE.contains(&name),
        None => setting(path).is_some_and(|setting| setting.live),
    }
}

/// A value with all that is in it, for comparison alone: 5 and "5" are the same.
fn whole(value: &Value) -> String {
    match value {
        Value::Array(_, items) => format!("{:?}", items.iter().map(whole).collect::<Vec<_>>()),
        Value::Dict(_, table) => of_table(table),
        value => text_of(value).unwrap_or_default(),
    }
}

fn of_table(table: &Dict) -> String {
    format!("{:?}", table.iter().map(|(name, value)| (name, whole(value))).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_what_may_be_secret() {
        for (typed, shown) in [
            ("redis://h:6379/1", "redis://h:6379/1"),
            ("redis://u:hunter2@h/1", "redis://u:<redacted>@h/1"),
            ("redis://:hunter2@h", "redis://:<redacted>@h"),
            ("redis://hunter2@h", "redis://<redacted>@h"),
            ("redis://u:hun@ter2/?#x@h", "redis://u:<redacted>@h"),
            ("rediss-cluster://u:hunter2@a,b:7#insecure", "rediss-cluster://u:<redacted>@a,b:7#insecure"),
            ("redis://h#hunter2", "redis://h#<redacted>"),
            (
                "postgres://h/m?sslmode=require&password=hunter2",
                "postgres://h/m?sslmode=require&password=<redacted>",
            ),
            ("sqlite:market.db?mode=rwc", "sqlite:market.db?mode=rwc"),
            ("sqlite:market.db?key=hunter2", "sqlite:market.db?key=<redacted>"),
            ("plain text", "plain text"),
        ] {
            assert_eq!(without_secrets(typed), shown);
        }
    }
}
