//! What must not stand in which file.

use super::Finding;
use super::lexer::{Texts, code, line_of, test_items};

/// A longer file is listed.
const LINES_AIM: usize = 500;
/// A longer file is an error.
const LINES_MAX: usize = 600;

/// A Rust file, prepared for reading.
pub(crate) struct Source {
    pub(crate) package: String,
    /// From the root.
    pub(crate) path: String,
    /// Without comments and texts, tests included.
    all: String,
    /// Without comments, texts and tests.
    code: String,
    /// Without comments and tests, texts included.
    words: String,
    lines: usize,
}

impl Source {
    pub(crate) fn new(package: &str, path: &str, text: &str) -> Self {
        let all = code(text, Texts::Blank);
        let mut words = code(text, Texts::Keep);
        let mut bare = all.clone();
        let mut lines = text.lines().count();
        if is_test(path) {
            (bare, words, lines) = (String::new(), String::new(), 0);
        } else {
            for item in test_items(&all) {
                lines -= text[item.clone()].lines().count();
                for kept in [&mut bare, &mut words] {
                    let blank = kept[item.clone()]
                        .chars()
                        .map(|c| if c == '\n' { "\n".into() } else { " ".repeat(c.len_utf8()) });
                    let blank: String = blank.collect();
                    kept.replace_range(item.clone(), &blank);
                }
            }
        }
        Self { package: package.into(), path: path.into(), all, code: bare, words, lines }
    }

    /// Lines of the file, tests not counted.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    pub(crate) fn is_long(&self) -> bool {
        self.lines > LINES_AIM
    }

    fn in_package(&self, packages: &[&str]) -> bool {
        packages.contains(&self.package.as_str())
    }
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// A text that may stand only in some places.
struct Absence {
    text: &'static str,
    /// Whether the rule holds for the file.
    holds: fn(&Source) -> bool,
    why: &'static str,
}

/// Crates that know GPUs.
const DOMAIN: &[&str] =
    &["cache-marketplace", "cache-marketplace-sql", "cache-api", "cache-node", "cache-cli", "cache-sim"];
const GPU_WORDS: &[&str] = &["gpu", "gpus", "nvidia", "cuda", "a100", "h100", "h200", "b200", "gh200"];
/// The programs and the testkit. Benchmarks are programs too: they take options.
const MAY_READ_ENVIRONMENT: &[&str] =
    &["cache-node", "cache-cli", "cache-testkit", "xtask", "edgecache-benches"];
/// Which guard is taken out is told by the environment, in builds for that alone.
const MUTATION: &str = "/src/mutation.rs";
const PURE: &[&str] = &["cache-policy", "cache-l1", "cache-events"];
const COARSE_CLOCK: &str = "crates/cache-tiered/src/coarse_clock.rs";
const MACHINE_TIME: &[&str] = &["Instant::now", "SystemTime::now", "clock_gettime", "UNIX_EPOCH.elapsed"];
/// Modules that hold bincode.
const BINCODE: &[&str] = &["crates/cache-events/src/wire.rs", "crates/cache-l2/src/envelope.rs"];

fn is_pure(source: &Source) -> bool {
    source.in_package(PURE) || source.path.starts_with("crates/cache-bus/src/protocol")
}

const ABSENCES: &[Absence] = &[
    Absence {
        text: "std::env",
        holds: |source| !source.in_package(MAY_READ_ENVIRONMENT) && !source.path.ends_with(MUTATION),
        why: "the environment is read in cache-node alone",
    },
    Absence {
        text: "env::var",
        holds: |source| !source.in_package(MAY_READ_ENVIRONMENT) && !source.path.ends_with(MUTATION),
        why: "the environment is read in cache-node alone",
    },
    Absence {
        text: "figment",
        holds: |source| !source.in_package(MAY_READ_ENVIRONMENT),
        why: "configuration is read in cache-node alone",
    },
    Absence {
        text: "bincode",
        holds: |source| !BINCODE.contains(&source.path.as_str()),
        why: "bincode stays in the wire module of cache-events and one module of cache-l2",
    },
    Absence { text: "Instant::now", holds: is_pure, why: "no clock at this layer: `now` is an argument" },
    Absence { text: "SystemTime", holds: is_pure, why: "no clock at this layer: `now` is an argument" },
    Absence { text: "tokio", holds: is_pure, why: "no runtime at this layer" },
    Absence { text: "std::net", holds: is_pure, why: "no I/O at this layer" },
    Absence { text: "std::fs", holds: is_pure, why: "no I/O at this layer" },
    Absence {
        text: "get_unfenced",
        holds: |source| !source.in_package(&["cache-l1", "edgecache-benches"]),
        why: "serves what is outdated: a benchmark tells by it what the fence costs",
    },
    Absence {
        text: "redis::",
        holds: |source| !source.in_package(&["cache-redis", "edgecache-benches"]),
        why: "the Redis client is known to cache-redis alone",
    },
    Absence {
        text: "bb8::",
        holds: |source| !source.in_package(&["cache-redis", "edgecache-benches"]),
        why: "the connection pool is known to cache-redis alone",
    },
];

/// Never, in tests neither.
const NEVER: &[(&str, &str)] = &[
    ("#[ignore", "a test runs or goes"),
    ("todo!", "unfinished code does not land"),
    ("unimplemented!", "unfinished code does not land"),
];

pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        for absence in ABSENCES.iter().filter(|absence| (absence.holds)(source)) {
            for line in places(&source.code, absence.text) {
                findings.push(Finding::at(source, line, format!("{}: {}", absence.text, absence.why)));
            }
        }
        for (text, why) in NEVER {
            for line in places(&source.all, text) {
                findings.push(Finding::at(source, line, format!("{text}: {why}")));
            }
        }
        domain_words(source, &mut findings);
        machine_clock(source, &mut findings);
        public_signatures(source, &mut findings);
        if source.lines > LINES_MAX {
            let why = format!("{} lines without tests; at most {LINES_MAX}", source.lines);
            findings.push(Finding::new(&source.path, why));
        }
    }
    findings
}

/// The lines on which the text stands as words of its own.
fn places(code: &str, text: &str) -> Vec<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let own = |at: &usize| {
        let before = code[..*at].chars().next_back().is_some_and(is_word);
        let after = code[at + text.len()..].chars().next().is_some_and(is_word);
        let runs_on = (before && text.starts_with(is_word)) || (after && text.ends_with(is_word));
        !runs_on
    };
    code.match_indices(text).map(|(at, _)| at).filter(own).map(|at| line_of(code, at)).collect()
}

/// Comments may tell an example; names and texts of the code may not know the domain.
fn domain_words(source: &Source, findings: &mut Vec<Finding>) {
    if source.in_package(DOMAIN) || !source.package.starts_with("cache-") {
        return;
    }
    for (at, line) in source.words.lines().enumerate() {
        // `GpuInfo` is two words as `gpu_info` is.
        let mut split = String::new();
        for c in line.chars() {
            if c.is_uppercase() && split.chars().next_back().is_some_and(char::is_lowercase) {
                split.push(' ');
            }
            split.push(c);
        }
        let lower = split.to_lowercase();
        let mut words = lower.split(|c: char| !c.is_alphanumeric());
        if let Some(word) = words.find(|word| GPU_WORDS.contains(word)) {
            findings.push(Finding::at(source, at + 1, format!("{word}: only the domain knows such words")));
        }
    }
}

fn machine_clock(source: &Source, findings: &mut Vec<Finding>) {
    if source.in_package(&["cache-node", "cache-testkit"]) || source.path == COARSE_CLOCK {
        return;
    }
    let reads = MACHINE_TIME.iter().any(|text| source.code.contains(text));
    for line in places(&source.code, "Clock for").into_iter().filter(|_| reads) {
        findings.push(Finding::at(
            source,
            line,
            "a clock that reads the machine's time belongs into cache-node",
        ));
    }
}

/// In cache-redis, what is public does not speak of the client's types, constructors excepted.
fn public_signatures(source: &Source, findings: &mut Vec<Finding>) {
    if source.package != "cache-redis" {
        return;
    }
    for (at, _) in source.code.match_indices("pub ") {
        let rest = &source.code[at..];
        let item = rest["pub ".len()..].trim_start();
        let is_item = ["fn", "async", "const", "use", "type", "struct", "enum", "trait", "static"]
            .iter()
            .any(|word| item.strip_prefix(word).is_some_and(|behind| behind.starts_with(' ')));
        let end = if is_item { rest.find(['{', ';']) } else { rest.find([',', '\n', '}']) };
        let signature = &rest[..end.unwrap_or(rest.len())];
        let name = signature.split("fn ").nth(1).unwrap_or_default();
        let constructs =
            ["new", "connect", "open", "with", "from"].iter().any(|start| name.starts_with(start));
        let speaks =
            ["redis::", "bb8::", "bb8_redis::"].iter().find(|text| !places(signature, text).is_empty());
        if let (Some(text), false) = (speaks, constructs) {
            let why = format!("{text} in a public signature: only constructors may take the client's types");
            findings.push(Finding::at(source, line_of(&source.code, at), why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(package: &str, path: &str, text: &str) -> Vec<String> {
        let findings = check(&[Source::new(package, path, text)]);
        findings.into_iter().map(|finding| finding.to_string()).collect()
    }

    fn lib(package: &str, text: &str) -> Vec<String> {
        found(package, &format!("crates/{package}/src/lib.rs"), text)
    }

    #[test]
    fn bad_samples_are_found_with_their_line() {
        for (package, text) in [
            ("cache-tiered", "\nfn a() { std::env::var(\"X\"); }"),
            ("cache-tiered", "\nuse bincode::config;"),
            ("cache-events", "\nuse bincode::config;"),
            ("cache-events", "\nfn now() { SystemTime::now(); }"),
            ("cache-l1", "\nuse tokio::sync::Mutex;"),
            ("cache-policy", "\nlet now = Instant::now();"),
            ("cache-tiered", "\nfn a(b: redis::Client) {}"),
            ("cache-tiered", "\nstruct GpuInfo;"),
            ("cache-tiered", "\nlet name = \"gpu_pricing\";"),
            ("cache-redis", "\nlet model = \"H100\";"),
            ("cache-tiered", "\nimpl Clock for Mine { fn now() { Instant::now() } }"),
            ("cache-redis", "\npub fn client(&self) -> redis::Client {"),
            ("cache-redis", "\npub async fn get(\n  pool: &bb8::Pool) {}"),
            ("cache-redis", "\npub struct A { b: u8,\n}\nstruct B {\n    pub c: redis::Client,\n}"),
            ("cache-redis", "\npub use redis::Client;"),
            ("cache-tiered", "\nfn a() { todo!() }"),
        ] {
            let findings = lib(package, text);
            assert!(!findings.is_empty(), "{package}: {text}");
            assert!(findings[0].contains("lib.rs:2: ") || text.contains("struct B"), "{findings:?}");
        }
        let protocol = "crates/cache-bus/src/protocol/track.rs";
        assert_eq!(found("cache-bus", protocol, "use tokio::time;").len(), 1);
    }

    #[test]
    fn good_samples_are_left_alone() {
        for (package, text) in [
            ("cache-tiered", "// std::env, bincode and GPUs\nlet a = \"std::env todo!() #[ignore]\";"),
            ("cache-tiered", "#[cfg(test)]\nmod tests { use bincode::x; const GPU: &str = \"H100\"; }"),
            ("cache-tiered", "let environment = my_std::environment; let gpux = 1_000; let page = GPUX;"),
            ("cache-marketplace", "struct GpuInfo;"),
            ("cache-node", "std::env::var(\"X\"); impl Clock for A { fn now() { Instant::now() } }"),
            ("cache-redis", "pub fn connect(client: redis::Client) -> Self {"),
            ("cache-redis", "pub(crate) fn raw(&self) -> redis::Client {"),
            ("cache-redis", "pub fn get(&self) -> u8 { redis::cmd(\"GET\") }"),
            ("cache-events", "impl<C: Clock> Clock for Arc<C> {}"),
            ("cache-bus", "use tokio::sync::mpsc;"),
        ] {
            assert_eq!(lib(package, text), [""; 0], "{package}: {text}");
        }
        assert_eq!(found("cache-events", "crates/cache-events/src/wire.rs", "use bincode::x;"), [""; 0]);
        assert_eq!(found("cache-tiered", COARSE_CLOCK, "impl Clock for A { Instant::now() }"), [""; 0]);
        assert_eq!(found("cache-l1", "crates/cache-l1/tests/model.rs", "use tokio::x; // gpu"), [""; 0]);
    }

    #[test]
    fn tests_too_may_not_be_ignored() {
        assert_eq!(found("cache-l1", "crates/cache-l1/tests/model.rs", "#[ignore]\nfn a() {}").len(), 1);
        assert_eq!(lib("cache-l1", "#[cfg(test)]\nmod tests { #[ignore = \"slow\"] fn a() {} }").len(), 1);
    }

    #[test]
    fn long_files_are_found_and_their_tests_do_not_count() {
        let long = "fn a() {}\n".repeat(LINES_MAX + 1);
        assert_eq!(lib("cache-l1", &long).len(), 1);
        assert!(!Source::new("p", "src/lib.rs", &"\n".repeat(LINES_AIM)).is_long());
        let tested = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert_eq!(lib("cache-l1", &tested), [""; 0]);
        assert_eq!(found("cache-l1", "crates/cache-l1/tests/a.rs", &long), [""; 0]);
    }
}
