//! Documents name only what is there.

use super::Finding;

pub(crate) struct Document {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The page that names every crate.
const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";
/// What a path from the root begins with.
const TOP: [&str; 7] = ["crates/", "docs/", "xtask/", "benches/", "docker/", ".github/", ".ci/"];
/// Files of the root that documents may name.
const TOP_FILES: [&str; 4] = ["Cargo.toml", "README.md", "deny.toml", "clippy.toml"];

pub(crate) fn check(
    documents: &[Document],
    packages: &[&str],
    exists: &dyn Fn(&str) -> bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for document in documents {
        for (at, line) in document.text.lines().enumerate() {
            for path in paths(line, &document.path) {
                if !exists(&path) {
                    let place = format!("{}:{}", document.path, at + 1);
                    findings.push(Finding::new(place, format!("{path} does not exist")));
                }
            }
        }
    }
    match documents.iter().find(|document| document.path == ARCHITECTURE) {
        None => findings.push(Finding::new(ARCHITECTURE, "there is no such page")),
        Some(page) => {
            for package in packages.iter().filter(|package| !names(&page.text, package)) {
                findings.push(Finding::new(ARCHITECTURE, format!("does not name {package}")));
            }
        }
    }
    findings
}

/// Whether the name stands there as a word of its own, so that `cache-marketplace-sql` does not name
/// `cache-marketplace`. A package outside `crates/` may go by its folder.
fn names(text: &str, package: &str) -> bool {
    let word = |wanted: &str| {
        text.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_').any(|word| word == wanted)
    };
    word(package) || (package == "edgecache-benches" && word("benches"))
}

/// The paths that a line names: between backticks, or as the target of a link.
fn paths(line: &str, document: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, span) in line.split('`').enumerate() {
        if at % 2 == 1 {
            let path = span.split([' ', ':', '#']).next().unwrap_or_default().trim_end_matches('/');
            let is_path =
                TOP.iter().any(|top| format!("{path}/").starts_with(top)) || TOP_FILES.contains(&path);
            if is_path && span.contains(['/', '.']) && !path.contains(['*', '<', '{', '…', '$']) {
                paths.push(path.to_owned());
            }
        }
    }
    for link in line.split("](").skip(1) {
        let target = link.split([')', '#', ' ']).next().unwrap_or_default();
        if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
            paths.push(resolve(document, target));
        }
    }
    paths
}

/// A link's target from the root.
fn resolve(document: &str, target: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    if target.starts_with('/') {
        parts.clear();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(path: &str, text: &str) -> Vec<String> {
        let exists = |path: &str| {
            matches!(path, "crates/cache-l1/src/lib.rs" | "docs/stampede.md" | "crates/cache-l1")
        };
        let page = Document { path: ARCHITECTURE.into(), text: "cache-l1".into() };
        let documents = [page, Document { path: path.into(), text: text.into() }];
        check(&documents, &["cache-l1"], &exists).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn paths_that_exist_are_fine_and_other_words_are_no_paths() {
        for good in [
            "`crates/cache-l1/src/lib.rs:12`, `crates/cache-l1/`",
            "[page](stampede.md#leases) and [again](../docs/stampede.md) and [web](https://example.com/a)",
            "`crates/*/src`, `docs/decisions/<number>.md`, `gpu_pricing/H100/`, `cargo run`, `benches`",
            "[above](#title)",
        ] {
            assert_eq!(wrong("docs/page.md", good), [""; 0]);
        }
    }

    #[test]
    fn paths_that_are_gone_are_found_with_their_line() {
        assert_eq!(
            wrong("docs/page.md", "a\n`crates/gone/src`"),
            ["docs/page.md:2: crates/gone/src does not exist"]
        );
        assert_eq!(wrong("docs/page.md", "[x](gone.md)"), ["docs/page.md:1: docs/gone.md does not exist"]);
        assert_eq!(wrong("README.md", "[x](docs/gone.md)"), ["README.md:1: docs/gone.md does not exist"]);
        assert_eq!(wrong("README.md", "`deny.toml`").len(), 1);
    }

    #[test]
    fn a_crate_that_the_map_leaves_out_is_found() {
        let page = |text: &str| [Document { path: ARCHITECTURE.into(), text: text.into() }];
        let check = |text: &str| check(&page(text), &["cache-marketplace"], &|_| true).len();
        assert_eq!(check("| `cache-marketplace` | GPUs |"), 0);
        assert_eq!(check("only cache-marketplace-sql"), 1);
        assert_eq!(super::check(&[], &[], &|_| true).len(), 1);
    }
}
