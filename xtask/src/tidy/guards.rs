//! A guard that can be taken out stands in the documents, by its name.

use std::collections::BTreeMap;

use super::Finding;
use super::documents::Document;

/// The pages that tell what finds the removal of a guard.
const PAGES: [&str; 2] = ["docs/mutations.md", "docs/simulation.md"];

/// `guards`: each with its crate.
pub(crate) fn check(guards: &BTreeMap<String, String>, documents: &[Document]) -> Vec<Finding> {
    let pages: Vec<&Document> =
        documents.iter().filter(|document| PAGES.contains(&document.path.as_str())).collect();
    let told = |guard: &str| pages.iter().any(|page| page.text.contains(&format!("`{guard}`")));
    let untold = guards.iter().filter(|(guard, _)| !told(guard));
    untold
        .map(|(guard, package)| {
            Finding::new(PAGES[0], format!("does not say what finds the removal of `{guard}` ({package})"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_must_stand_by_its_whole_name_on_one_of_the_pages() {
        let guards = BTreeMap::from([("trim_unnoticed".to_owned(), "cache-sim".to_owned())]);
        let found = |path: &str, text: &str| {
            check(&guards, &[Document { path: path.into(), text: text.into() }]).len()
        };
        assert_eq!(found("docs/simulation.md", "| `trim_unnoticed` |"), 0);
        assert_eq!(found("docs/mutations.md", "`trim_unnoticed`, `x`"), 0);
        assert_eq!(found("docs/mutations.md", "`embedded_trim_unnoticed`, `…_unnoticed`"), 1);
        assert_eq!(found("docs/faults.md", "`trim_unnoticed`"), 1);
    }
}
