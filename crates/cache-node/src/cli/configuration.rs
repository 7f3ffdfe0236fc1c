//! `cache-node config`: is it right, and what is in effect.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::config::{Origin, Reading, Shown};

/// What `config check` says of a configuration that is right.
pub(super) fn checked(reading: &Reading) -> String {
    let mut text = String::new();
    for warning in &reading.config.warnings {
        // Writing to a String does not fail.
        let _ = writeln!(text, "warning: {warning}");
    }
    let config = &reading.config;
    let _ = write!(
        text,
        "the configuration is right: transport {}, {} cache types, {} warnings",
        config.backing,
        config.cache_types.len(),
        config.warnings.len()
    );
    text
}

/// What `config show` says: a line for each setting; of cache types only what somebody said, unless `all` is asked for.
pub(super) fn shown(reading: &Reading, all: bool) -> String {
    let lines = chosen(reading, all).map(|shown| {
        let value = match &shown.value {
            None => "(unset)".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let live = if shown.live { "; live" } else { "" };
        format!("{} = {value}  # {}{live}", shown.setting, shown.origin)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The same as JSON.
pub(super) fn shown_as_json(reading: &Reading, all: bool) -> String {
    let settings = chosen(reading, all).map(|shown| {
        let (kind, place, line) = origin(&shown.origin);
        json!({
            "setting": shown.setting,
            "value": shown.value,
            "origin": kind,
            "origin_name": place,
            "line": line,
            "live": shown.live,
        })
    });
    json!({"settings": settings.collect::<Vec<_>>(), "warnings": reading.config.warnings}).to_string()
}

fn chosen(reading: &Reading, all: bool) -> impl Iterator<Item = &Shown> {
    let told = move |shown: &&Shown| all || !shown.setting.starts_with("namespaces.") || shown.is_said();
    reading.shown.iter().filter(told)
}

fn origin(origin: &Origin) -> (&'static str, Option<String>, Option<usize>) {
    match origin {
        Origin::Default => ("default", None, None),
        Origin::Profile(name) => ("profile", Some((*name).to_owned()), None),
        Origin::CacheTier(name) => ("cache_tier", Some((*name).to_owned()), None),
        Origin::File(path, line) => ("file", Some(path.display().to_string()), *line),
        Origin::Env(name) => ("environment", Some((*name).to_owned()), None),
        Origin::EnvFile(name) => ("environment", Some(format!("{name}_FILE")), None),
        Origin::Flag(name) => ("flag", Some((*name).to_owned()), None),
    }
}
