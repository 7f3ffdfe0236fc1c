//! The configuration file: TOML, with no name in it that does not exist.

use std::path::Path;

use figment::value::{Dict, Value};

use super::errors::{ConfigError, ConfigErrors};
use super::nearest::nearest;
use super::raw::Origin;
use super::settings::{NAMESPACE_SETTINGS, SETTINGS};

/// Reads a TOML file. Its own messages show lines of the file, which may hold secrets: only the place is told.
///
/// # Errors
/// It cannot be read or is not TOML.
pub(crate) fn read(path: &Path) -> Result<Dict, ConfigErrors> {
    let wrong = |rule: String| {
        let origin = Origin::Flag("--config");
        ConfigErrors(vec![ConfigError::new("config", origin, Some(path.display().to_string()), rule)])
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        wrong(format!("cannot be read ({error}); name a readable TOML file or leave --config out"))
    })?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        wrong(format!("is not TOML: line {line}: {}", error.message()))
    })?;
    match Value::serialize(table) {
        Ok(Value::Dict(_, dict)) => Ok(dict),
        _ => Err(wrong("holds a value that is no text, number, truth value, list or table".to_owned())),
    }
}

/// Takes out what has no place in a configuration, and says what that was.
pub(crate) fn take_misfits(dict: &mut Dict, path: &Path) -> Vec<ConfigError> {
    let origin = Origin::File(path.to_path_buf());
    let mut misfits = Vec::new();
    let mut unknown = |path: String, rule: String| {
        misfits.push(ConfigError::new(path, origin.clone(), None, rule));
    };
    let sections: Vec<&str> =
        SETTINGS.iter().filter_map(|setting| Some(setting.path.split_once('.')?.0)).collect();
    let single: Vec<&str> =
        SETTINGS.iter().map(|setting| setting.path).filter(|path| !path.contains('.')).collect();
    dict.retain(|name, value| {
        let table = match value {
            _ if single.contains(&name.as_str()) => return true,
            Value::Dict(_, table) if name == "namespaces" || sections.contains(&name.as_str()) => table,
            _ if name == "namespaces" || sections.contains(&name.as_str()) => {
                unknown(name.clone(), format!("must be a table: write [{name}]"));
                return false;
            }
            _ => {
                let known = sections.iter().chain(&single).chain(&["namespaces"]).copied();
                unknown(name.clone(), unknown_rule(name, known));
                return false;
            }
        };
        if name == "namespaces" {
            table.retain(|namespace, value| {
                let Value::Dict(_, settings) = value else {
                    let rule = format!("must be a table: write [namespaces.{namespace}]");
                    unknown(format!("namespaces.{namespace}"), rule);
                    return false;
                };
                settings.retain(|setting, _| {
                    let known = NAMESPACE_SETTINGS.contains(&setting.as_str());
                    if !known {
                        let rule = unknown_rule(setting, NAMESPACE_SETTINGS.iter().copied());
                        unknown(format!("namespaces.{namespace}.{setting}"), rule);
                    }
                    known
                });
                true
            });
            return true;
        }
        let prefix = format!("{name}.");
        table.retain(|setting, _| {
            let path = format!("{prefix}{setting}");
            let known = SETTINGS.iter().any(|known| known.path == path);
            if !known {
                let rule = unknown_rule(&path, SETTINGS.iter().map(|setting| setting.path));
                unknown(path, rule);
            }
            known
        });
        true
    });
    misfits
}

fn unknown_rule<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(typed, known) {
        Some(nearest) => format!("unknown setting; did you mean {nearest}?"),
        None => format!("unknown setting"),
    }
}
