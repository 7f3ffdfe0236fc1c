//! What happened, as a digest or as lines to be read.

use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3Default;

/// How much of a schedule is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Nothing: the fastest.
    Nothing,
    /// A digest of all lines.
    Digest,
    /// All lines, and their digest.
    Lines,
}

/// Collects what happens.
pub(crate) struct Trace {
    detail: Detail,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    digest: Xxh3Default,
    lines: Vec<String>,
}

impl Trace {
    pub(crate) fn new(detail: Detail) -> Self {
        Self { detail, kept: Mutex::default() }
    }

    /// Notes what happened at an instant; the text is made only if it is wanted.
    pub(crate) fn note(&self, ms: u64, what: impl FnOnce() -> String) {
        if self.detail == Detail::Nothing {
            return;
        }
        let line = format!("{:>6}.{:03}  {}", ms / 1000, ms % 1000, what());
        let mut kept = self.kept.lock();
        kept.digest.update(line.as_bytes());
        if self.detail == Detail::Lines {
            kept.lines.push(line);
        }
    }

    /// The digest of all that was noted, and the lines.
    pub(crate) fn take(&self) -> (u64, Vec<String>) {
        let mut kept = self.kept.lock();
        (kept.digest.digest(), std::mem::take(&mut kept.lines))
    }
}
