//! YAML as JSON: with the keys that `<<` brings, as Compose reads it.

use std::path::Path;

use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

/// The documents of a file.
pub(crate) fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let documents = YamlLoader::load_from_str(&text);
    let documents = documents.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    documents.iter().map(json).collect()
}

/// The only document of a text.
#[allow(dead_code, reason = "each test crate uses its part")]
pub(crate) fn parsed(text: &str) -> Value {
    let documents = YamlLoader::load_from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    json(documents.first().unwrap_or_else(|| panic!("nothing is in {text}")))
}

/// The only document of a file.
pub(crate) fn document(path: &Path) -> Value {
    let mut documents = documents(path);
    assert_eq!(documents.len(), 1, "{}", path.display());
    documents.remove(0)
}

fn json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Integer(number) => Value::from(*number),
        Yaml::Real(_) => Value::from(yaml.as_f64()),
        Yaml::Boolean(yes) => Value::from(*yes),
        Yaml::Array(items) => items.iter().map(json).collect(),
        Yaml::Null => Value::Null,
        Yaml::Alias(_) | Yaml::BadValue => panic!("a value that is none"),
        Yaml::Hash(table) => {
            let mut map = Map::new();
            for (name, value) in table {
                let name = name.as_str().map(str::to_owned).unwrap_or_else(|| json(name).to_string());
                match json(value) {
                    Value::Object(merged) if name == "<<" => {
                        // What stands beside it outranks it.
                        merged.into_iter().for_each(|(name, value)| {
                            map.entry(name).or_insert(value);
                        });
                    }
                    value => {
                        map.insert(name, value);
                    }
                }
            }
            Value::Object(map)
        }
    }
}
