//! How fresh an answer must be: the wish of one read, and how it is met.
//!
//! What this node holds is as fresh as its last proof: the sync that showed that it stands at the head of the log. So a
//! read that asks for more than is proven pays for one sync (callers that come together share it), and then L1 may
//! answer after all: it holds nothing that an acknowledged write has outdated.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use cache_events::{Key, Partition, Position, WriteToken};
use cache_l1::Facts;

use crate::answer::{Answer, ReadOptions};
use crate::core::Core;
use crate::settings::Degraded;
use crate::space::{Cacheable, Space};
use crate::stats::count;

/// How long a read waits for the proof that it needs.
const PROOF_WAIT: Duration = Duration::from_millis(400);

/// How fresh the answer to a read must be.
///
/// As text, in HTTP headers and commands: `bounded`, `any`, `at-most=2s`, `at-least=<token>`, `latest`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Freshness {
    /// Within the [staleness bound](crate::NamespaceSettings::staleness_bound) of the namespace; beyond it, what the
    /// namespace [permits](crate::NamespaceSettings::degraded).
    #[default]
    Bounded,
    /// Whatever is in memory and has not expired, flagged as stale where it is beyond the bound; where the store may be read
    /// at replicas, whatever one of these has, flagged as stale and kept nowhere. Critical namespaces do not go beyond
    /// their bound for this either.
    Any,
    /// No change is missing that was acknowledged longer ago than this (in a namespace that lives by TTL alone: the value
    /// was read from the source no longer ago than this). The clock of reads adds up to 10 ms. Answers beyond the bound of
    /// the namespace are flagged as stale, and a critical namespace gives none.
    AtMost(Duration),
    /// Reflects the write that gave this token, on whichever node that was. Positions of other partitions than the key's
    /// say nothing about it.
    AtLeast(WriteToken),
    /// Reflects everything that was acknowledged before the read began: read from L2 after a proof, or from the source.
    Latest,
}

/// Why a text is no [`Freshness`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a freshness: {why}; it is any, at-most=2s, at-least=<token>, latest or bounded")]
pub struct FreshnessError {
    why: String,
}

impl fmt::Display for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bounded => f.write_str("bounded"),
            Self::Any => f.write_str("any"),
            Self::AtMost(most) => write!(f, "at-most={}", humantime::format_duration(*most)),
            Self::AtLeast(token) => write!(f, "at-least={token}"),
            Self::Latest => f.write_str("latest"),
        }
    }
}

impl FromStr for Freshness {
    type Err = FreshnessError;

    fn from_str(text: &str) -> Result<Self, FreshnessError> {
        let (name, value) = match text.trim().split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
            None => (text.trim(), None),
        };
        let wrong = |why: String| FreshnessError { why };
        match (name, value) {
            ("bounded", None) => Ok(Self::Bounded),
            ("any", None) => Ok(Self::Any),
            ("latest", None) => Ok(Self::Latest),
            ("at-most", Some(most)) => humantime::parse_duration(most)
                .map(Self::AtMost)
                .map_err(|error| wrong(format!("{most:?} is no duration with a unit ({error})"))),
            ("at-least", Some(token)) => {
                token.parse().map(Self::AtLeast).map_err(|error| wrong(format!("{error}")))
            }
            _ => Err(wrong(format!("{text:?}"))),
        }
    }
}

/// How fresh an entry of L1 is known to be.
#[derive(Clone, Copy)]
pub(crate) struct Proof {
    /// Milliseconds since it was read from the source.
    pub(crate) age_ms: u64,
    /// Milliseconds since it was last known to be current.
    pub(crate) lag_ms: u64,
    /// That is beyond the bound.
    pub(crate) stale: bool,
}

impl<V: Cacheable> Space<V> {
    /// Whether an entry of L1 is what a read asks for: how long ago it was last known to be current, and whether that is
    /// beyond the bound. `asked`: when the read began, if a proof was fetched for it since. Runs under the lock of a shard of L1.
    #[inline]
    pub(crate) fn trusted(
        &self,
        core: &Core,
        partition: Partition,
        facts: &Facts,
        freshness: &Freshness,
        (asked, now): (Option<u64>, u64),
    ) -> Option<(u64, bool)> {
        let Proof { age_ms, lag_ms, stale } = self.proof(core, partition, facts.born, facts.load_start, now);
        let enough = match freshness {
            Freshness::Bounded => !stale || self.may_serve_stale(age_ms),
            wish => self.suffices(core, partition, facts, wish, stale, (asked, now)),
        };
        enough.then_some((lag_ms, stale))
    }

    /// How fresh an entry of L1 is known to be.
    #[inline(always)]
    pub(crate) fn proof(
        &self,
        core: &Core,
        partition: Partition,
        born: u64,
        load_start: u64,
        now: u64,
    ) -> Proof {
        let age_ms = now.saturating_sub(born);
        let lag_ms = match self.settings.event_driven {
            true => core.unproven_for(partition, load_start, now),
            false => age_ms,
        };
        let stale = self.settings.event_driven && lag_ms > self.bound_ms && !mutated!("bound_unchecked");
        Proof { age_ms, lag_ms, stale }
    }

    /// Kept out of the way of a usual hit.
    #[inline(never)]
    fn suffices(
        &self,
        core: &Core,
        partition: Partition,
        facts: &Facts,
        wish: &Freshness,
        stale: bool,
        (asked, now): (Option<u64>, u64),
    ) -> bool {
        let age_ms = now.saturating_sub(facts.born);
        let began = asked.unwrap_or(now);
        match wish {
            Freshness::Bounded => !stale || self.may_serve_stale(age_ms),
            Freshness::Any => !stale || self.served_stale(!self.settings.critical),
            Freshness::AtMost(most) => {
                let lag_ms = match self.settings.event_driven {
                    true => core.unproven_for(partition, facts.load_start, began),
                    false => began.saturating_sub(facts.born),
                };
                let within = u128::from(lag_ms) <= most.as_millis();
                within && (!stale || self.served_stale(!self.settings.critical))
            }
            Freshness::AtLeast(token) => {
                let origin = Position::new(facts.origin.epoch, facts.origin.seq);
                let shown = |at: Position| {
                    (origin.epoch == at.epoch && origin >= at) || core.view.shows(partition, at)
                };
                let reflected = mutated!("token_ignored") || token.positions_in(partition).all(shown);
                reflected && (!stale || self.may_serve_stale(age_ms))
            }
            // Where L2 has nothing to say, what is here is the latest as soon as that is proven.
            Freshness::Latest => asked.is_some() && !self.settings.tiers.l2(),
        }
    }

    #[cold]
    fn may_serve_stale(&self, age_ms: u64) -> bool {
        self.served_stale(self.permits_stale(age_ms))
    }

    /// Whether the namespace has what is beyond the bound and of this age served.
    pub(crate) fn permits_stale(&self, age_ms: u64) -> bool {
        let Degraded::BoundedStale(max) = self.settings.degraded else { return false };
        u128::from(age_ms) <= max.as_millis()
    }

    fn served_stale(&self, served: bool) -> bool {
        if served {
            count(&self.counters.stale_served);
        }
        served
    }

    /// Sees to it that what this node knows is as fresh as a read asks for that began at `asked`; says whether it is.
    pub(crate) async fn proven_enough(
        &self,
        core: &Core,
        partition: Partition,
        wish: &Freshness,
        asked: u64,
    ) -> bool {
        match wish {
            Freshness::Bounded | Freshness::Any => true,
            _ if mutated!("wish_unproven") => true,
            // Its age is all that counts.
            Freshness::AtMost(_) if !self.settings.event_driven => true,
            Freshness::AtMost(most) => {
                u128::from(core.unproven_for(partition, 0, asked)) <= most.as_millis()
                    || core.bus.sync(partition, PROOF_WAIT).await
            }
            Freshness::AtLeast(token) => {
                for written in token.positions_in(partition) {
                    // A proof is asked for at once: the hint may be lost, and a token of another epoch comes with none.
                    if !core.bus.shows(partition, written, PROOF_WAIT).await {
                        return false;
                    }
                }
                true
            }
            Freshness::Latest => core.bus.sync(partition, PROOF_WAIT).await,
        }
    }

    /// Whether what was found below L1 is what was asked for. It may be what another caller's flight brought that began long
    /// before, and a node that stood still or hears nothing has not learned what happened since: that is no answer, or one
    /// that is flagged where the caller takes such.
    pub(crate) fn meets(&self, answer: &mut Answer<V>, wish: &Freshness, asked: u64, now: u64) -> bool {
        let before = answer.lag_ms.saturating_sub(now.saturating_sub(asked));
        let within = match wish {
            Freshness::AtMost(most) => u128::from(before) <= most.as_millis(),
            _ => true,
        };
        if !self.settings.event_driven || before <= self.bound_ms || mutated!("old_flight_joined") {
            return within;
        }
        answer.stale = matches!(wish, Freshness::Any | Freshness::AtMost(_)) && !self.settings.critical;
        within && self.served_stale(answer.stale)
    }

    /// Reads L1 and L2 for a caller with a wish that L1 could not meet as it was. `None`: neither has what was asked for.
    pub(crate) async fn find_fresh(
        &self,
        core: &Core,
        key: &Key,
        options: &ReadOptions,
        asked: u64,
    ) -> Option<Answer<V>> {
        let wish = &options.freshness;
        if !self.proven_enough(core, self.partition(key), wish, asked).await {
            return None;
        }
        // What was not trusted may be now.
        if let Some(answer) = self.resident_since(core, key, options, Some(asked)) {
            return Some(answer);
        }
        if let Some(answer) = self.find_at_a_replica(core, key, options).await {
            return Some(answer);
        }
        let proven = self.proven(core, key);
        let found = self.find_in_l2(core, key, options).await?;
        let mut answer = self.answer(core, proven, found);
        self.meets(&mut answer, wish, asked, core.clock.now()).then_some(answer)
    }

    /// What a read through all tiers may do for a caller with a wish: `Ok` with the answer of L1, else whether L2 may be
    /// asked.
    pub(crate) async fn prepare(
        &self,
        core: &Core,
        key: &Key,
        options: &ReadOptions,
        asked: u64,
    ) -> Result<Answer<V>, bool> {
        if options.freshness == Freshness::Bounded {
            return Err(true);
        }
        if !self.proven_enough(core, self.partition(key), &options.freshness, asked).await {
            return Err(false);
        }
        if let Some(answer) = self.resident_since(core, key, options, Some(asked)) {
            return Ok(answer);
        }
        self.find_at_a_replica(core, key, options).await.ok_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_survives_its_text() {
        let token = WriteToken::single(Partition(3), Position::new(7, 9));
        let all = [
            Freshness::Bounded,
            Freshness::Any,
            Freshness::AtMost(Duration::from_millis(2_500)),
            Freshness::AtMost(Duration::ZERO),
            Freshness::AtLeast(token),
            Freshness::Latest,
        ];
        for wish in all {
            assert_eq!(wish.to_string().parse(), Ok(wish));
        }
        assert_eq!(" at-most = 2s ".parse(), Ok(Freshness::AtMost(Duration::from_secs(2))));
    }

    #[test]
    fn what_is_no_wish_says_what_one_is() {
        for wrong in ["", "at-most", "at-most=2", "at-most=-1s", "at-least=x", "latest=1", "newest", "any=1"]
        {
            let error = wrong.parse::<Freshness>().expect_err(wrong).to_string();
            assert!(error.contains("at-least=<token>"), "{error}");
        }
    }
}
