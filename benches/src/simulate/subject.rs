//! What is replayed against: our tier with each of its policies, and the peers.

use std::fmt;

use anyhow::{Result, bail, ensure};
use cache_policy::PolicyKind;

use super::{ours, peers};

/// Caches with fewer entries are replayed with one shard, ours and peers: shards of a few entries each would
/// say more about the hash than about the policy.
pub(crate) const ONE_SHARD_BELOW: usize = 1_024;

/// A cache that is read through.
pub trait Subject {
    /// Asks for a key and stores it if it was not there. Whether it was.
    fn request(&mut self, key: u32) -> bool;

    /// Entries held at rest, where the cache can tell.
    fn entries(&mut self) -> Option<usize>;
}

/// Who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// [`opt`](super::opt): no cache at all.
    Optimum,
    /// The tier of this project with a policy that stays.
    Fixed,
    /// The tier of this project with the policy that chooses among the others.
    Auto,
    /// A crate from the registry.
    Peer,
}

impl Side {
    /// Of this project.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Fixed | Self::Auto)
    }
}

/// Makes a subject of a capacity in entries and a seed.
pub(crate) type Maker = fn(usize, u64) -> Result<Box<dyn Subject>>;

/// One that can be replayed against.
#[derive(Clone, Copy)]
pub struct Candidate {
    pub(crate) name: &'static str,
    pub(crate) side: Side,
    /// Entries up to which it is replayed unless asked for by name.
    pub(crate) patience_entries: usize,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Optimum,
    Ours(PolicyKind),
    Peer(Maker),
}

impl Candidate {
    /// An empty cache; `None` for the optimum.
    ///
    /// # Errors
    /// If the peer refuses the capacity.
    pub fn build(&self, capacity: usize, seed: u64) -> Result<Option<Box<dyn Subject>>> {
        match self.kind {
            Kind::Optimum => Ok(None),
            Kind::Ours(kind) => Ok(Some(ours::build(kind, capacity, seed))),
            Kind::Peer(make) => make(capacity, seed).map(Some),
        }
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Who takes part, the optimum first, then ours, then peers.
#[derive(Clone, Debug)]
pub struct Subjects(Vec<Candidate>);

impl Subjects {
    /// All there are.
    pub fn all() -> Self {
        let patience_entries = usize::MAX;
        let optimum = Candidate { name: "OPT", side: Side::Optimum, patience_entries, kind: Kind::Optimum };
        let ours = PolicyKind::ALL.into_iter().map(|kind| Candidate {
            name: kind.name(),
            side: if kind.name() == "auto" { Side::Auto } else { Side::Fixed },
            patience_entries,
            kind: Kind::Ours(kind),
        });
        let peers = peers::ALL.iter().map(|&(name, make)| Candidate {
            name,
            side: Side::Peer,
            patience_entries: if name == peers::SLOW { peers::SLOW_ENTRIES_MAX } else { patience_entries },
            kind: Kind::Peer(make),
        });
        Self([optimum].into_iter().chain(ours).chain(peers).collect())
    }

    /// Only the named ones of ours and of the peers, and the optimum; an empty list stands for all of its side,
    /// and the peer `none` for no peer.
    ///
    /// # Errors
    /// For a name that is none; the message lists those there are.
    pub fn chosen(policies: &[String], peers: &[String]) -> Result<Self> {
        let all = Self::all();
        let without_peers = peers == ["none"];
        check(&all, "policy", policies, Side::is_ours)?;
        if !without_peers {
            check(&all, "peer", peers, |side| side == Side::Peer)?;
        }
        let wanted = |candidate: &Candidate| {
            let names = match candidate.side {
                Side::Optimum => return true,
                Side::Peer => peers,
                Side::Fixed | Side::Auto => policies,
            };
            names.is_empty() || names.iter().any(|name| name.eq_ignore_ascii_case(candidate.name))
        };
        let mut chosen: Vec<Candidate> = all.0.into_iter().filter(wanted).collect();
        if !peers.is_empty() {
            // By name, so whatever it takes.
            chosen.iter_mut().for_each(|candidate| candidate.patience_entries = usize::MAX);
        }
        Ok(Self(chosen))
    }

    /// Them.
    pub fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.0.iter()
    }
}

fn check(all: &Subjects, what: &str, names: &[String], of: impl Fn(Side) -> bool) -> Result<()> {
    let known: Vec<&str> = all.iter().filter(|one| of(one.side)).map(|one| one.name).collect();
    for name in names {
        ensure!(!name.is_empty(), "an empty name is no {what}; there are: {}", known.join(", "));
        if !known.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            bail!("there is no {what} {name:?}; there are: {}", known.join(", "));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(subjects: &Subjects) -> Vec<&str> {
        subjects.iter().map(|one| one.name).collect()
    }

    #[test]
    fn every_policy_and_peer_is_there_once() {
        let all = Subjects::all();
        let all = names(&all);
        assert_eq!(all[0], "OPT");
        assert!(PolicyKind::ALL.iter().all(|kind| all.contains(&kind.name())));
        assert!(all.iter().all(|name| all.iter().filter(|other| *other == name).count() == 1));
    }

    #[test]
    fn one_side_can_be_narrowed() {
        let of = |policies: &[&str], peers: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
            Subjects::chosen(&owned(policies), &owned(peers))
        };
        assert_eq!(names(&of(&["Sieve"], &["none"]).unwrap()), ["OPT", "sieve"]);
        assert_eq!(names(&of(&["lru"], &["moka"]).unwrap()), ["OPT", "lru", "moka"]);
        assert_eq!(names(&of(&[], &[]).unwrap()), names(&Subjects::all()));
        let error = of(&["mru"], &[]).unwrap_err().to_string();
        assert!(error.contains("mru") && error.contains("sieve") && !error.contains("moka"), "{error}");
        assert!(of(&[], &["sieve"]).unwrap_err().to_string().contains("quick_cache"));
    }

    /// Never more than the capacity at rest: a cache that keeps more would win by that.
    #[test]
    fn no_one_holds_more_than_the_capacity() {
        let mut rng = fastrand::Rng::with_seed(1);
        for capacity in [1, 7, 64, 1_000] {
            for candidate in Subjects::all().iter() {
                let Some(mut cache) = candidate.build(capacity, 1).unwrap() else { continue };
                for _ in 0..4 * capacity + 100 {
                    let skewed = rng.usize(0..3 * capacity + 3).min(rng.usize(0..3 * capacity + 3));
                    cache.request(skewed as u32);
                }
                if let Some(entries) = cache.entries() {
                    assert!(entries <= capacity, "{candidate:?} holds {entries} of {capacity}");
                }
            }
        }
    }
}
