//! What things are called in Redis.
//!
//! ```text
//! <prefix>:fp                                  fingerprint of the deployment, on each master
//! <prefix>:{T}:fp                              the same in a Cluster, where a key belongs to a slot
//! <prefix>:{T}:m                               meta of a partition (hash)
//! <prefix>:{T}:l                               its log (stream)
//! <prefix>:{T}:n                               who the nodes say they are (hash), in the first partition
//! <prefix>:{T}:v:<ns>/<resource>/<params>      a record
//! <prefix>:{T}:w:<ns>/<resource>/<params>      its load lease, or a hold
//! <prefix>:{T}:r:<ns>/<resource>               stamp of a resource
//! <prefix>:{T}:r:<ns>/<resource>/<params>      version floor of a key
//! <prefix>:<db>:{T}:ch                         hints (channels ignore the database, so it is in the name)
//! ```
//!
//! `T` is the hash tag: all of a partition is in one slot, so one script can do all of a step. It is the number of the
//! partition, but in a Cluster, where [`tags`] chooses it.

use std::fmt::Write;

use cache_events::{Key, Namespace, Partition, hash64};

use crate::config::RedisConfig;
use crate::tags;
use crate::topology::Topology;

/// Longer texts are cut; so many bytes stay readable.
const TEXT_BYTES_MAX: usize = 512;
const TEXT_BYTES_KEPT: usize = 400;
/// Stands before the hash of a cut text. Canonical key texts do not contain it, so a cut one is never taken for whole.
const CUT: char = '#';

/// The names of one deployment.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    prefix: String,
    fingerprint: String,
    /// One for each partition, spelled once: every command needs them.
    parts: Vec<Part>,
}

impl Layout {
    pub(crate) fn new(config: &RedisConfig) -> Self {
        let RedisConfig { prefix, db, partitions, topology, .. } = config;
        let in_cluster = matches!(topology, Topology::Cluster(_));
        let part = |partition| {
            let tag = if in_cluster { tags::tag(partition, *partitions) } else { partition.to_string() };
            let shared = format!("{prefix}:fp");
            Part {
                stem: format!("{prefix}:{{{tag}}}:"),
                meta: format!("{prefix}:{{{tag}}}:m"),
                log: format!("{prefix}:{{{tag}}}:l"),
                roster: format!("{prefix}:{{{tag}}}:n"),
                channel: format!("{prefix}:{db}:{{{tag}}}:ch"),
                fingerprint: if in_cluster { format!("{prefix}:{{{tag}}}:fp") } else { shared },
                slot: tags::slot(&tag),
            }
        };
        let (tags, masters) = match topology {
            Topology::Standalone => ("number", "1".to_owned()),
            Topology::Sentinel(sentinel) => ("number", fingerprint_of_masters(&sentinel.masters)),
            Topology::Cluster(_) => ("slots", "cluster".to_owned()),
        };
        let fingerprint =
            format!("edgecache protocol=1 partitions={partitions} tags={tags} masters={masters}");
        Self { prefix: prefix.clone(), fingerprint, parts: (0..*partitions).map(part).collect() }
    }

    pub(crate) fn partitions(&self) -> u32 {
        self.parts.len() as u32
    }

    /// What all names of the deployment begin with.
    pub(crate) fn stem(&self) -> String {
        format!("{}:", self.prefix)
    }

    /// What all nodes of a deployment must agree on. Another text in Redis means: not our data.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The names in one partition, which must be below [`partitions`](Self::partitions).
    pub(crate) fn part(&self, partition: Partition) -> &Part {
        &self.parts[partition.index()]
    }
}

/// The names in one partition.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    stem: String,
    pub(crate) meta: String,
    pub(crate) log: String,
    pub(crate) roster: String,
    pub(crate) channel: String,
    /// Under which name all nodes of the deployment say what they agree on.
    pub(crate) fingerprint: String,
    /// The slot of all these names, where there are slots.
    pub(crate) slot: u16,
}

/// One master is the same as one without Sentinel. Several are told by their names, since those decide where a
/// partition is.
fn fingerprint_of_masters(masters: &[String]) -> String {
    let mut names: Vec<&str> = masters.iter().map(String::as_str).collect();
    names.sort_unstable();
    if names.len() == 1 { "1".to_owned() } else { names.join(",") }
}

/// A text that stands for itself in a glob.
pub(crate) fn glob_escaped(text: &str) -> String {
    let mut glob = String::new();
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            glob.push('\\');
        }
        glob.push(c);
    }
    glob
}

/// The names of a key.
#[derive(Debug, Clone)]
pub(crate) struct KeyNames {
    pub(crate) value: String,
    pub(crate) lease: String,
    pub(crate) floor: String,
    pub(crate) stamp: String,
}

impl Part {
    /// Hands out the names of a record and of the stamp of its resource: what a read asks for. All are written into
    /// `scratch`, since this is the way of every read.
    pub(crate) fn with_stamp(&self, key: &Key, scratch: &mut String, mut each: impl FnMut(&str)) {
        scratch.clear();
        // Writing to a String does not fail.
        let _ = write!(scratch, "{}v:{key}", self.stem);
        let text = &scratch[self.stem.len() + 2..];
        if text.len() > TEXT_BYTES_MAX {
            each(&self.named('v', text));
            return each(&self.named('r', resource_of(text)));
        }
        let end = self.stem.len() + 2 + resource_of(text).len();
        each(scratch);
        let kind = self.stem.len();
        scratch.replace_range(kind..=kind, "r");
        each(&scratch[..end]);
    }

    pub(crate) fn key(&self, key: &Key) -> KeyNames {
        let text = key.to_string();
        KeyNames {
            value: self.named('v', &text),
            lease: self.named('w', &text),
            floor: self.named('r', &text),
            stamp: self.named('r', resource_of(&text)),
        }
    }

    /// The stamp of a resource; nothing if the name cannot be that of one.
    pub(crate) fn resource(&self, namespace: &Namespace, resource: &str) -> Option<String> {
        let text = Key::new(namespace, resource).ok()?.to_string();
        Some(self.named('r', resource_of(&text)))
    }

    /// The glob of all records and leases of a namespace.
    pub(crate) fn glob(&self, namespace: &Namespace) -> String {
        glob_escaped(&self.stem) + "[vw]:" + namespace.as_str() + "/*"
    }

    /// What a name that the glob found says: the text behind `v:` or `w:`.
    pub(crate) fn text_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        let rest = name.strip_prefix(self.stem.as_str())?;
        rest.strip_prefix("v:").or_else(|| rest.strip_prefix("w:"))
    }

    /// The record, lease and floor that belong to a text from [`text_of`](Self::text_of), which may be a cut one.
    pub(crate) fn names_of(&self, text: &str) -> [String; 3] {
        ['v', 'w', 'r'].map(|kind| format!("{}{kind}:{text}", self.stem))
    }

    fn named(&self, kind: char, text: &str) -> String {
        let mut name = String::with_capacity(self.stem.len() + text.len().min(TEXT_BYTES_MAX) + 2);
        name.push_str(&self.stem);
        name.push(kind);
        name.push(':');
        if text.len() <= TEXT_BYTES_MAX {
            name.push_str(text);
        } else {
            // Key texts are ASCII (all else is percent-encoded), so any byte is a boundary.
            let (head, whole) = (&text[..TEXT_BYTES_KEPT], text.as_bytes());
            let (one, two) = (hash64([whole]), hash64([b"cut".as_slice(), whole]));
            name.push_str(&format!("{head}{CUT}{one:016x}{two:016x}"));
        }
        name
    }
}

/// Whether a text was cut, so that its key cannot be told from it.
pub(crate) fn is_cut(text: &str) -> bool {
    text.contains(CUT)
}

/// The text of a key up to its resource, without the slash behind it.
fn resource_of(text: &str) -> &str {
    let namespace = text.find('/').map_or(0, |at| at + 1);
    text[namespace..].find('/').map_or(text, |at| &text[..namespace + at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> Part {
        Layout::new(&RedisConfig { db: 3, ..RedisConfig::default() }).part(Partition(0)).clone()
    }

    #[test]
    fn names_are_those_of_the_table() {
        let ns = Namespace::new("gpu_pricing").unwrap();
        let key = Key::builder(&ns, "H100 80GB").param("region", "us").build().unwrap();
        let (part, names) = (part(), part().key(&key));
        assert_eq!(part.meta, "ec:{0}:m");
        assert_eq!(part.log, "ec:{0}:l");
        assert_eq!(part.channel, "ec:3:{0}:ch");
        assert_eq!(names.value, "ec:{0}:v:gpu_pricing/H100%2080GB/region=us");
        assert_eq!(names.lease, "ec:{0}:w:gpu_pricing/H100%2080GB/region=us");
        assert_eq!(names.floor, "ec:{0}:r:gpu_pricing/H100%2080GB/region=us");
        assert_eq!(names.stamp, "ec:{0}:r:gpu_pricing/H100%2080GB");
        assert_eq!(part.resource(&ns, "H100 80GB").unwrap(), names.stamp);
        assert_eq!(part.glob(&ns), "ec:{0}:[vw]:gpu_pricing/*");
        assert_eq!(part.text_of(&names.lease), Some("gpu_pricing/H100%2080GB/region=us"));
    }

    #[test]
    fn a_read_asks_for_the_same_names_as_a_write_uses() {
        let ns = Namespace::new("n").unwrap();
        let mut scratch = "left over".to_owned();
        for resource in ["a", "a/b c", &"x".repeat(600), &"%".repeat(300)] {
            let key = Key::builder(&ns, resource).param("p", "q").build().unwrap();
            let (mut asked, names) = (Vec::new(), part().key(&key));
            part().with_stamp(&key, &mut scratch, |name| asked.push(name.to_owned()));
            assert_eq!(asked, [names.value, names.stamp]);
        }
    }

    #[test]
    fn a_long_key_is_cut_and_stays_its_own() {
        let ns = Namespace::new("n").unwrap();
        let long = |tail: &str| Key::new(&ns, format!("{}{tail}", "x".repeat(600))).unwrap();
        let (a, b) = (part().key(&long("a")).value, part().key(&long("b")).value);
        assert!(a.len() < 500 && is_cut(&a) && a != b);
        assert!(!is_cut(&part().key(&Key::new(&ns, "a#b").unwrap()).value));
    }

    #[test]
    fn a_key_without_parameters_and_its_resource_have_different_stamps() {
        let key = Key::new(&Namespace::new("n").unwrap(), "a").unwrap();
        let names = part().key(&key);
        assert_ne!(names.floor, names.stamp);
    }

    #[test]
    fn a_prefix_with_wildcards_is_taken_literally() {
        let config = RedisConfig { prefix: "a*[b]".into(), ..RedisConfig::default() };
        let part = Layout::new(&config).part(Partition(0)).clone();
        assert_eq!(part.glob(&Namespace::new("n").unwrap()), "a\\*\\[b\\]:{0}:[vw]:n/*");
    }

    #[test]
    fn the_fingerprint_knows_the_masters_and_not_their_order() {
        let of = |url: &str| Layout::new(&RedisConfig::from_url(url).unwrap()).fingerprint().to_owned();
        assert_eq!(of("redis-sentinel://s/a,b"), of("redis-sentinel://other:1/b,a"));
        assert_ne!(of("redis-sentinel://s/a,b"), of("redis-sentinel://s/a,c"));
        assert_eq!(of("redis-sentinel://s/a"), of("redis://h"));
        assert_ne!(of("redis-cluster://a"), of("redis-sentinel://s/a,b"));
    }
}
