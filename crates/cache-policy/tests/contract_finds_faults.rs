//! The contract is worth something only if it fails for broken policies: each fault below must be found.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cache_policy::{Family, MARK_MAX, Newcomer, Policy, Residents, Touch, contract};

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    NamesRemovedSlots,
    NamesAVictimTwice,
    HidesAResident,
    HitsProtectForEver,
    TrustsTheHint,
    PromotesStrangers,
    AsksForHashesOfStrangers,
    MarksHigh,
    MarksStrangers,
}

/// First in, first out, with a fault.
struct Faulty {
    queue: Vec<u32>,
    hits: Vec<std::sync::atomic::AtomicU32>,
    hint: usize,
    fault: Fault,
}

impl Policy for Faulty {
    fn touched(&self, slot: u32, _hash: u64, mark: u8) -> Touch {
        if let Some(hits) = self.hits.get(slot as usize) {
            hits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        let marks_high = self.fault == Fault::MarksHigh;
        Touch {
            mark: if marks_high { MARK_MAX + 1 } else { mark },
            tend: self.fault == Fault::PromotesStrangers,
        }
    }

    fn inserted(&mut self, slot: u32, _newcomer: Newcomer) {
        if self.fault == Fault::TrustsTheHint && slot as usize > 2 * self.hint {
            return;
        }
        self.queue.push(slot);
        self.hits.resize_with(self.hits.len().max(slot as usize + 1), Default::default);
        *self.hits[slot as usize].get_mut() = 0;
    }

    fn removed(&mut self, slot: u32, _hash: u64) {
        if self.fault != Fault::NamesRemovedSlots {
            self.queue.retain(|&other| other != slot);
        }
    }

    fn evict(&mut self, residents: &mut dyn Residents) -> Option<u32> {
        match self.fault {
            Fault::HidesAResident if self.queue.len() == 1 => None,
            Fault::NamesAVictimTwice => self.queue.first().copied(),
            Fault::HitsProtectForEver => {
                let hits = |slot: &u32| self.hits[*slot as usize].load(std::sync::atomic::Ordering::Relaxed);
                // The most recent of the least hit.
                let victim = self.queue.iter().copied().rev().min_by_key(hits)?;
                self.queue.retain(|&other| other != victim);
                Some(victim)
            }
            Fault::AsksForHashesOfStrangers => {
                residents.hash(1_000_000);
                self.queue.pop()
            }
            Fault::MarksStrangers => {
                residents.set_mark(1_000_000, 0);
                self.queue.pop()
            }
            _ => (!self.queue.is_empty()).then(|| self.queue.remove(0)),
        }
    }

    fn tend(&mut self) {
        if self.fault == Fault::PromotesStrangers && !self.queue.contains(&7) {
            self.queue.push(7);
        }
    }

    fn residents(&self) -> usize {
        self.queue.len()
    }
}

fn found(fault: Fault) -> bool {
    let build = |hint| Faulty { queue: Vec::new(), hits: Vec::new(), hint, fault };
    catch_unwind(AssertUnwindSafe(|| contract::check(build))).is_err()
}

#[test]
fn a_sound_policy_passes() {
    assert!(!found(Fault::None));
}

#[test]
fn every_fault_is_found() {
    assert!(found(Fault::NamesRemovedSlots));
    assert!(found(Fault::NamesAVictimTwice));
    assert!(found(Fault::HidesAResident));
    assert!(found(Fault::HitsProtectForEver));
    assert!(found(Fault::TrustsTheHint));
    assert!(found(Fault::PromotesStrangers));
    assert!(found(Fault::AsksForHashesOfStrangers));
    assert!(found(Fault::MarksHigh));
    assert!(found(Fault::MarksStrangers));
}

/// Keeps residents under a key that two of them can share.
struct Confusing {
    by: fn(&Newcomer) -> u64,
    order: BTreeMap<u64, u32>,
    keys: BTreeMap<u32, u64>,
}

impl Confusing {
    fn new(by: fn(&Newcomer) -> u64) -> Self {
        Self { by, order: BTreeMap::new(), keys: BTreeMap::new() }
    }
}

impl Policy for Confusing {
    fn touched(&self, _slot: u32, _hash: u64, mark: u8) -> Touch {
        Touch { mark, tend: false }
    }

    fn inserted(&mut self, slot: u32, newcomer: Newcomer) {
        let key = (self.by)(&newcomer);
        self.order.insert(key, slot);
        self.keys.insert(slot, key);
    }

    fn removed(&mut self, slot: u32, _hash: u64) {
        if let Some(key) = self.keys.remove(&slot) {
            self.order.remove(&key);
        }
    }

    fn evict(&mut self, _residents: &mut dyn Residents) -> Option<u32> {
        let (_, slot) = self.order.pop_first()?;
        self.keys.remove(&slot);
        Some(slot)
    }

    fn residents(&self) -> usize {
        self.order.len()
    }
}

#[test]
fn who_takes_residents_that_look_alike_for_one_is_found() {
    for (tie, by) in [
        (contract::Tie::Deadline, (|newcomer| newcomer.deadline) as fn(&Newcomer) -> u64),
        (contract::Tie::Never, |newcomer| newcomer.deadline),
        (contract::Tie::Hash, |newcomer| newcomer.hash),
    ] {
        let run = |tie| {
            catch_unwind(AssertUnwindSafe(|| contract::ties_are_told_apart(|_| Confusing::new(by), 8, tie)))
        };
        assert!(run(tie).is_err(), "{tie:?}");
        assert!(run(contract::Tie::Weight).is_ok(), "and found for that reason");
        assert!(catch_unwind(AssertUnwindSafe(|| contract::check(|_| Confusing::new(by)))).is_err());
    }
}

/// Shares with the other members what each should have for itself.
struct Shared(Arc<Mutex<Faulty>>);

impl Shared {
    fn all(&self) -> MutexGuard<'_, Faulty> {
        // A rule that was broken may have panicked meanwhile.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Policy for Shared {
    fn touched(&self, slot: u32, hash: u64, mark: u8) -> Touch {
        self.all().touched(slot, hash, mark)
    }

    fn inserted(&mut self, slot: u32, newcomer: Newcomer) {
        self.all().inserted(slot, newcomer);
    }

    fn removed(&mut self, slot: u32, hash: u64) {
        self.all().removed(slot, hash);
    }

    fn evict(&mut self, residents: &mut dyn Residents) -> Option<u32> {
        self.all().evict(residents)
    }

    fn residents(&self) -> usize {
        self.all().residents()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.all().queue.clear();
    }
}

struct OneForAll(Arc<Mutex<Faulty>>);

impl Family for OneForAll {
    type Member = Shared;

    fn member(&self, _entries_hint: usize) -> Shared {
        Shared(self.0.clone())
    }
}

#[test]
fn a_family_whose_members_mix_up_their_slots_is_found() {
    let sound = || Faulty { queue: Vec::new(), hits: Vec::new(), hint: 0, fault: Fault::None };
    let family = || OneForAll(Arc::new(Mutex::new(sound())));
    let fails = |rule: &dyn Fn()| catch_unwind(AssertUnwindSafe(rule)).is_err();
    assert!(!fails(&|| contract::check(|hint| family().member(hint))), "a member alone is sound");
    assert!(fails(&|| contract::members_keep_to_their_own_slots(family(), 3, 1)));
    assert!(fails(&|| contract::members_may_come_late_and_go_early(family(), 3)));
    assert!(fails(&|| contract::hits_on_many_members_do_no_harm(family(), 3)));
    assert!(fails(&|| contract::check_family(family)));
    // And a family of strangers passes.
    contract::check_family(|| |hint: usize| Faulty { hint, ..sound() });
}
