//! Whether what a read was given broke the promise, and why. Pure: no clock, no lock, no I/O.
//!
//! Only what can be compared is compared. A value reflects at least its position, so it is outdated by an invalidation of
//! its key at a later one; and by a higher version that L2 or the source was seen to have. Both count from when
//! *this node came to know of them* (later than the acknowledgement, never earlier), a read counts from when it
//! began (earlier than the answer, never later), and a value that this node loaded itself is right for the bound
//! after its load began, whatever this node has heard. What was loaded after an invalidation had been begun is not outdated
//! by it, whatever its position (a pattern is looked for in L2 before it comes into the log). So a race is never taken for a violation.

use std::fmt;

use cache_events::{Position, Version};

use super::history::{Happening, Look, Slice, What};
use crate::answer::Tier;
use crate::staleness::Acked;

/// Why a value was served that had been outdated for longer than the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// This node stands at or behind the invalidation, and has not applied it to the key: a gap was not noticed, or the event
    /// did not say what it covers.
    NeverApplied {
        /// The invalidation.
        event: Position,
        /// Where this node stands.
        cursor: Position,
    },
    /// This node has not come to the invalidation yet, and trusted its L1 for longer than the bound all the same.
    Unproven {
        /// The invalidation.
        event: Position,
        /// Where this node stands.
        cursor: Position,
    },
    /// The invalidation was applied, and the entry stayed in L1.
    NotDropped {
        /// The invalidation.
        event: Position,
    },
    /// The entry came into L1 after the invalidation had been applied, from a load (or a read of L2) that began before.
    InsertedAfter {
        /// The invalidation.
        event: Position,
    },
    /// The value's load began before the invalidation, and it was stored as though it had begun after it.
    Overtaken {
        /// The invalidation.
        event: Position,
    },
    /// L2 gave a record from before the invalidation.
    OldRecord {
        /// The invalidation, or the later write.
        event: Position,
    },
    /// The value is of an epoch that is over.
    DeadEpoch {
        /// The epoch that took its place.
        epoch: u64,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverApplied { event, cursor } => write!(
                f,
                "invalidation {event} was never applied to it, though this node stands at {cursor}: a gap was not noticed, \
                 or the event does not say what it covers"
            ),
            Self::Unproven { event, cursor } => write!(
                f,
                "this node stands at {cursor}, has not heard of invalidation {event}, and trusted its L1 for longer than the \
                 bound"
            ),
            Self::NotDropped { event } => {
                write!(f, "invalidation {event} was applied here, and the entry stayed in L1")
            }
            Self::InsertedAfter { event } => write!(
                f,
                "the entry came into L1 after invalidation {event} was applied, from a load that began before it"
            ),
            Self::Overtaken { event } => write!(
                f,
                "its load began before invalidation {event}, and it was stored as though it had begun after it"
            ),
            Self::OldRecord { event } => {
                write!(f, "L2 holds a record from before {event}, which was acknowledged")
            }
            Self::DeadEpoch { epoch } => {
                write!(f, "it is of an epoch that is over: epoch {epoch} took its place")
            }
        }
    }
}

/// What is known of a key, for judging what was shown of it.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// What outdated the value first, by position.
    pub(crate) outdated: Option<Acked<Position>>,
    /// The version above the value's that was known first.
    pub(crate) newer: Option<Acked<Version>>,
    /// What happened to the key; invalidations of its groups and flushes included.
    pub(crate) history: Vec<Happening>,
    /// Where this node stands.
    pub(crate) cursor: Position,
    /// The bound, and what clocks may be wrong by.
    pub(crate) grace_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As promised.
    Right,
    /// A newer version was known, and no invalidation of the key: nobody announced it, or the source itself is behind.
    Outside,
    /// Outdated for so long.
    Wrong { cause: Cause, staleness_ms: u64 },
}

/// Judges reads that saw the same.
pub(crate) fn judge(slice: &Slice, evidence: &Evidence) -> Verdict {
    let look = &slice.look;
    let over = |at: u64| since(slice.first, at, look) > evidence.grace_ms;
    if let Some((cause, at)) = outdated(look, evidence)
        && over(at)
    {
        return Verdict::Wrong { cause, staleness_ms: since(slice.last, at, look) };
    }
    let Some(newer) = evidence.newer.filter(|newer| over(newer.at)) else { return Verdict::Right };
    // It claims to reflect what outdated it: its load had begun before.
    let overtaken = evidence.history.iter().find_map(|past| match past.what {
        What::Applied { said } if past.position <= look.origin && look.born < said && over(past.at) => {
            Some((past.position, past.at))
        }
        _ => None,
    });
    match overtaken {
        Some((event, at)) => Verdict::Wrong {
            cause: Cause::Overtaken { event },
            staleness_ms: since(slice.last, at.max(newer.at), look),
        },
        None => Verdict::Outside,
    }
}

/// For how long a read at `now` has shown what was outdated at `at`: not at all within what its own load proves.
fn since(now: u64, at: u64, look: &Look) -> u64 {
    now.saturating_sub(at.max(look.load_start))
}

/// What outdates the value by its position, first of all, and why it was served all the same.
fn outdated(look: &Look, evidence: &Evidence) -> Option<(Cause, u64)> {
    let applied = |past: &&Happening| match past.what {
        What::Applied { said } => past.position > look.origin && look.born < said,
        What::Flushed(_) => past.position.epoch > look.origin.epoch,
        _ => false,
    };
    let heard = evidence.history.iter().filter(applied).min_by_key(|past| past.at);
    let known = evidence.outdated.filter(|acked| heard.is_none_or(|heard| acked.at < heard.at));
    let (event, at) = match (known, heard) {
        (Some(acked), _) => (acked.version, acked.at),
        (None, Some(past)) => (past.position, past.at),
        (None, None) => return None,
    };
    if event.epoch > look.origin.epoch {
        return Some((Cause::DeadEpoch { epoch: event.epoch }, at));
    }
    if look.tier == Tier::L2 {
        return Some((Cause::OldRecord { event }, at));
    }
    let cursor = evidence.cursor;
    let Some(heard) = heard else {
        let cause = if cursor >= event {
            Cause::NeverApplied { event, cursor }
        } else {
            Cause::Unproven { event, cursor }
        };
        return Some((cause, at));
    };
    let inserted = evidence
        .history
        .iter()
        .rev()
        .find(|past| matches!(past.what, What::Inserted { .. }) && past.position == look.origin);
    let event = heard.position;
    Some(match inserted {
        Some(inserted) if inserted.at > heard.at => (Cause::InsertedAfter { event }, at),
        _ => (Cause::NotDropped { event }, at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_bus::FlushCause;
    use cache_l1::Groups;

    const GRACE: u64 = 100;

    fn at(seq: u64) -> Position {
        Position::new(1, seq)
    }

    fn read(first: u64, look: Look) -> Slice {
        Slice { look, first, last: first + 10, reads: 3 }
    }

    fn l1(seq: u64) -> Look {
        Look { tier: Tier::L1, origin: at(seq), version: Version(7), load_start: 0, born: 900 }
    }

    fn happened(when: u64, seq: u64, what: What) -> Happening {
        Happening { at: when, position: at(seq), what }
    }

    fn applied(when: u64, seq: u64) -> Happening {
        happened(when, seq, What::Applied { said: when - 5 })
    }

    fn inserted(when: u64, seq: u64) -> Happening {
        let (tier, groups) = (Tier::Source, Groups::default());
        happened(when, seq, What::Inserted { tier, version: Version(7), load_start: 0, groups })
    }

    fn evidence(history: Vec<Happening>, cursor: u64) -> Evidence {
        Evidence { history, cursor: at(cursor), grace_ms: GRACE, ..Evidence::default() }
    }

    fn known(seq: u64, when: u64) -> Option<Acked<Position>> {
        Some(Acked { version: at(seq), at: when })
    }

    fn cause(slice: Slice, evidence: &Evidence) -> Option<Cause> {
        match judge(&slice, evidence) {
            Verdict::Wrong { cause, .. } => Some(cause),
            _ => None,
        }
    }

    #[test]
    fn what_reflects_all_that_is_known_is_right() {
        let right = evidence(vec![applied(1_000, 4), inserted(1_100, 4)], 9);
        assert_eq!(judge(&read(9_000, l1(4)), &right), Verdict::Right);
        assert_eq!(judge(&read(9_000, l1(4)), &Evidence::default()), Verdict::Right);
    }

    #[test]
    fn within_the_bound_of_what_this_node_knows_nothing_is_wrong() {
        let outdated = Evidence { outdated: known(5, 1_000), ..evidence(vec![], 5) };
        assert_eq!(judge(&read(1_100, l1(4)), &outdated), Verdict::Right);
        let wrong = judge(&read(1_101, l1(4)), &outdated);
        assert!(matches!(wrong, Verdict::Wrong { staleness_ms: 111, .. }), "{wrong:?}");
        // Its own load proves it for as long.
        let loaded = Look { load_start: 1_500, ..l1(4) };
        assert_eq!(judge(&read(1_600, loaded), &outdated), Verdict::Right);
        assert!(cause(read(1_601, loaded), &outdated).is_some());
    }

    #[test]
    fn what_was_never_applied_is_told_from_what_this_node_has_not_come_to() {
        let behind = Evidence { outdated: known(5, 1_000), ..evidence(vec![inserted(900, 4)], 4) };
        let (event, cursor) = (at(5), at(4));
        assert_eq!(cause(read(2_000, l1(4)), &behind), Some(Cause::Unproven { event, cursor }));
        let ahead = Evidence { cursor: at(6), ..behind };
        let cursor = at(6);
        assert_eq!(cause(read(2_000, l1(4)), &ahead), Some(Cause::NeverApplied { event, cursor }));
    }

    #[test]
    fn an_entry_that_stayed_is_told_from_one_that_came_too_late() {
        let event = at(5);
        let stayed = evidence(vec![inserted(900, 4), applied(1_000, 5)], 5);
        assert_eq!(cause(read(2_000, l1(4)), &stayed), Some(Cause::NotDropped { event }));
        let late = evidence(vec![applied(1_000, 5), inserted(1_001, 4)], 5);
        assert_eq!(cause(read(2_000, l1(4)), &late), Some(Cause::InsertedAfter { event }));
    }

    #[test]
    fn what_was_loaded_after_an_invalidation_began_is_not_outdated_by_it() {
        let event = evidence(vec![applied(1_000, 5)], 5);
        let before = Look { born: 994, ..l1(4) };
        assert!(cause(read(2_000, before), &event).is_some());
        let after = Look { born: 995, ..l1(4) };
        assert_eq!(judge(&read(2_000, after), &event), Verdict::Right);
    }

    #[test]
    fn a_record_that_l2_should_not_have_is_named() {
        let look = Look { tier: Tier::L2, ..l1(4) };
        let old = evidence(vec![applied(1_000, 5)], 5);
        assert_eq!(cause(read(2_000, look), &old), Some(Cause::OldRecord { event: at(5) }));
    }

    #[test]
    fn what_a_flush_outdates_is_of_a_dead_epoch_and_a_gap_outdates_nothing_by_itself() {
        let flushed = |epoch, cause| Happening {
            at: 1_000,
            position: Position::new(epoch, 0),
            what: What::Flushed(cause),
        };
        let bumped = evidence(vec![flushed(2, FlushCause::Epoch)], 5);
        assert_eq!(cause(read(2_000, l1(4)), &bumped), Some(Cause::DeadEpoch { epoch: 2 }));
        let gap = evidence(vec![flushed(1, FlushCause::Gap)], 5);
        assert_eq!(judge(&read(2_000, l1(4)), &gap), Verdict::Right);
    }

    #[test]
    fn an_older_version_is_wrong_only_if_its_load_began_before_an_invalidation_that_it_claims_to_reflect() {
        let newer = Some(Acked { version: Version(8), at: 1_000 });
        let unannounced = Evidence { newer, ..evidence(vec![], 5) };
        assert_eq!(judge(&read(1_100, l1(5)), &unannounced), Verdict::Right, "within the bound");
        assert_eq!(judge(&read(2_000, l1(5)), &unannounced), Verdict::Outside);
        let overtaken = Evidence { newer, ..evidence(vec![applied(1_050, 5)], 5) };
        assert_eq!(cause(read(2_000, l1(5)), &overtaken), Some(Cause::Overtaken { event: at(5) }));
        // One that was loaded since: the source itself gave what is old.
        let since = Look { born: 1_046, ..l1(5) };
        assert_eq!(judge(&read(2_000, since), &overtaken), Verdict::Outside);
    }
}
