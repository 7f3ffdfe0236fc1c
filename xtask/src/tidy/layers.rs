//! Which crate may stand on which, and which libraries it may not know.

use super::Finding;

/// What tidy knows about a package of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    /// From the root, for example `crates/cache-l1`.
    pub(crate) folder: String,
    pub(crate) manifest: String,
    /// Without those for tests.
    pub(crate) depends_on: Vec<String>,
}

/// What a crate may depend on.
enum May {
    These(&'static [&'static str]),
    /// All of the workspace but what lies beside it.
    AllAbove,
    /// Whatever it needs.
    Anything,
}

/// The layer table. A row or an edge more is an architecture change: it needs a record in `docs/decisions/`.
const LAYERS: &[(&str, May)] = &[
    ("cache-events", May::These(&[])),
    ("cache-policy", May::These(&[])),
    ("cache-l1", May::These(&["cache-policy"])),
    ("cache-policy-example", May::These(&["cache-policy", "cache-l1"])),
    ("cache-l2", May::These(&["cache-events"])),
    ("cache-bus", May::These(&["cache-events"])),
    ("cache-embedded", May::These(&["cache-l2", "cache-bus", "cache-events"])),
    ("cache-redis", May::These(&["cache-l2", "cache-bus", "cache-events"])),
    ("cache-sql", May::These(&["cache-tiered", "cache-events"])),
    ("cache-tiered", May::These(&["cache-l1", "cache-l2", "cache-bus", "cache-events", "cache-macros"])),
    ("cache-macros", May::These(&[])),
    ("cache-marketplace", May::These(&["cache-tiered", "cache-events"])),
    ("cache-marketplace-sql", May::These(&["cache-marketplace", "cache-sql", "cache-events"])),
    ("cache-api", May::These(&["cache-events"])),
    ("cache-node", May::AllAbove),
    ("cache-cli", May::These(&["cache-api"])),
    ("cache-testkit", May::Anything),
    (
        "cache-sim",
        May::These(&[
            "cache-tiered",
            "cache-testkit",
            "cache-marketplace",
            "cache-bus",
            "cache-l2",
            "cache-events",
            "cache-policy",
        ]),
    ),
    (
        "cache-faults",
        May::These(&[
            "cache-tiered",
            "cache-redis",
            "cache-policy",
            "cache-bus",
            "cache-l2",
            "cache-events",
            "cache-testkit",
        ]),
    ),
    ("edgecache-benches", May::Anything),
    ("xtask", May::These(&[])),
];

/// Packages on which nothing above them stands.
const BESIDE: &[&str] = &[
    "cache-testkit",
    "cache-policy-example",
    "cache-sim",
    "cache-faults",
    "cache-cli",
    "cache-node",
    "edgecache-benches",
    "xtask",
];

const RUNTIMES: &[&str] = &["tokio", "async-std", "smol", "mio", "socket2"];
const CLOCKS: &[&str] = &["rustix", "libc", "jiff", "chrono", "time", "quanta", "coarsetime", "web-time"];
const SERDE: &[&str] = &["serde", "serde_core", "serde_json", "serde_derive"];

/// Libraries that a crate must do without.
const WITHOUT: &[(&str, &[&[&str]])] = &[
    ("cache-l1", &[RUNTIMES, CLOCKS, SERDE]),
    ("cache-events", &[RUNTIMES, CLOCKS]),
    ("cache-bus", &[CLOCKS]),
];

/// Libraries that only these packages may know. Benchmarks measure against the bare Redis client.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("figment", &["cache-node", "cache-cli", "cache-testkit", "xtask"]),
    ("bincode", &["cache-events", "cache-l2"]),
    ("redis", &["cache-redis", "edgecache-benches"]),
    ("bb8", &["cache-redis", "edgecache-benches"]),
    ("bb8-redis", &["cache-redis", "edgecache-benches"]),
];

pub(crate) fn check(packages: &[Package]) -> Vec<Finding> {
    let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    packages.iter().flat_map(|package| check_one(package, &names)).collect()
}

fn check_one(package: &Package, names: &[&str]) -> Vec<Finding> {
    let Package { name, folder, manifest, depends_on } = package;
    let mut findings = Vec::new();
    let mut found = |why: String| findings.push(Finding::new(format!("{folder}/Cargo.toml"), why));
    let Some((_, may)) = LAYERS.iter().find(|(known, _)| known == name) else {
        found(format!("{name} is not in the layer table"));
        return findings;
    };
    if let Some(of_crates) = folder.strip_prefix("crates/")
        && of_crates != name
    {
        found(format!("{name} lies in a folder of another name"));
    }
    let inherits = manifest.split("[lints]").nth(1).is_some_and(|rest| {
        rest.split('[')
            .next()
            .unwrap_or_default()
            .lines()
            .any(|line| line.replace(' ', "") == "workspace=true")
    });
    if !inherits {
        found(format!("{name} does not take over the lints of the workspace"));
    }
    for on in depends_on {
        let ours = names.contains(&on.as_str());
        let allowed = match may {
            May::These(these) => !ours || these.contains(&on.as_str()),
            May::AllAbove => !ours || !BESIDE.contains(&on.as_str()),
            May::Anything => true,
        };
        if !allowed {
            found(format!("{name} may not depend on {on}: no such edge in the layer table"));
        }
        if name == "cache-policy" {
            found(format!("{name} has no dependency at all, so not {on} either"));
        }
        let mut without = WITHOUT.iter().filter(|(who, _)| who == name).flat_map(|(_, lists)| lists.concat());
        if without.any(|library| library == on) {
            found(format!("{name} does without {on}: no runtime, clock or foreign format at this layer"));
        }
        if let Some((_, only)) =
            ONLY_IN.iter().find(|(library, only)| library == on && !only.contains(&&**name))
        {
            found(format!("{on} is for {} alone", only.join(", ")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, depends_on: &[&str]) -> Package {
        Package {
            name: name.into(),
            folder: format!("crates/{name}"),
            manifest: "[package]\n[lints]\nworkspace = true\n".into(),
            depends_on: depends_on.iter().map(ToString::to_string).collect(),
        }
    }

    fn reasons(bad: Package) -> Vec<String> {
        let own = bad.name.clone();
        let others = LAYERS.iter().map(|(name, _)| *name).filter(|name| *name != own);
        let packages: Vec<Package> = others.map(|name| package(name, &[])).chain([bad]).collect();
        check(&packages).into_iter().map(|finding| finding.why).collect()
    }

    #[test]
    fn edges_of_the_table_are_free() {
        for good in [
            package("cache-tiered", &["cache-l1", "cache-l2", "cache-bus", "cache-events", "tokio"]),
            package("cache-node", &["cache-redis", "cache-embedded", "figment", "axum"]),
            package("cache-sim", &["cache-testkit", "cache-bus", "cache-l2"]),
            package("cache-events", &["bincode", "serde"]),
            package("edgecache-benches", &["cache-redis", "redis-not"]),
        ] {
            assert_eq!(reasons(good), [""; 0]);
        }
    }

    #[test]
    fn other_edges_are_found() {
        for (from, to) in [
            ("cache-l1", "cache-events"),
            ("cache-events", "cache-l2"),
            ("cache-l2", "cache-bus"),
            ("cache-embedded", "cache-redis"),
            ("cache-redis", "cache-tiered"),
            ("cache-tiered", "cache-redis"),
            ("cache-marketplace", "cache-l2"),
            ("cache-cli", "cache-node"),
            ("cache-tiered", "cache-testkit"),
            ("cache-node", "cache-testkit"),
            ("xtask", "cache-events"),
        ] {
            let reasons = reasons(package(from, &[to]));
            assert!(reasons[0].contains("layer table"), "{from} → {to}: {reasons:?}");
        }
    }

    #[test]
    fn libraries_that_a_layer_does_without_are_found() {
        for (name, on) in [
            ("cache-policy", "hashbrown"),
            ("cache-l1", "tokio"),
            ("cache-l1", "serde"),
            ("cache-events", "tokio"),
            ("cache-events", "jiff"),
            ("cache-bus", "rustix"),
            ("cache-tiered", "figment"),
            ("cache-tiered", "bincode"),
            ("cache-node", "bb8-redis"),
        ] {
            assert_eq!(reasons(package(name, &[on])).len(), 1, "{name} → {on}");
        }
    }

    #[test]
    fn strangers_wrong_folders_and_missing_lints_are_found() {
        assert!(reasons(package("cache-extra", &[]))[0].contains("not in the layer table"));
        let mut moved = package("cache-l1", &[]);
        moved.folder = "crates/l1".into();
        assert!(reasons(moved)[0].contains("another name"));
        let mut lax = package("cache-l1", &[]);
        lax.manifest =
            "[package]\nversion.workspace = true\n[lints]\n[dependencies]\nworkspace = true\n".into();
        assert!(reasons(lax)[0].contains("lints"));
    }
}
