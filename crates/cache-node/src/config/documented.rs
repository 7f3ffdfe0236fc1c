//! The page of all settings cannot rot: each setting has its row, as it is.

use std::path::Path;

use super::settings::{NAMESPACE_SETTINGS, NAMESPACE_SETTINGS_LIVE, SETTINGS};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn change(live: bool) -> &'static str {
    if live { "live" } else { "restart" }
}

#[test]
fn every_setting_has_its_row_and_no_row_is_of_another() {
    let page = page();
    let quoted = |text: &str| format!("`{text}`");
    let mut rows = Vec::new();
    for setting in SETTINGS {
        let env = match (setting.env, setting.env_file()) {
            (Some(name), Some(file)) => format!("`{name}`, `{file}`"),
            (Some(name), None) => quoted(name),
            _ => "–".to_owned(),
        };
        let default = setting.default.map_or_else(|| "–".to_owned(), quoted);
        let row = format!("| `{}` | {env} | {default} | {} | ", setting.path, change(setting.live));
        let found = page.lines().find_map(|line| line.strip_prefix(&row));
        let meaning =
            found.unwrap_or_else(|| panic!("docs/configuration.md has no row that begins with {row}"));
        assert!(meaning.len() > 5, "{row} does not say what it means");
        rows.push(row);
    }
    let table = page.lines().filter(|line| line.starts_with("| `") && line.matches(" | ").count() >= 4);
    for line in table {
        assert!(rows.iter().any(|row| line.starts_with(row)), "no setting is so: {line}");
    }
}

#[test]
fn every_setting_of_a_cache_type_has_its_row() {
    let page = page();
    for name in NAMESPACE_SETTINGS {
        let begin = format!("| `{name}` | ");
        let row = page.lines().find(|line| line.starts_with(&begin) && line.matches(" | ").count() == 3);
        let row = row.unwrap_or_else(|| panic!("docs/configuration.md has no row for {name}"));
        let live = NAMESPACE_SETTINGS_LIVE.contains(name);
        assert!(row.contains(&format!(" | {} | ", change(live))), "{row}");
    }
}
