//! The contract is worth something only if it fails for broken policies: each fault below must be found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cache_policy::{Newcomer, Policy, contract};

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
}

/// First in, first out, with a fault.
struct Faulty {
    queue: Vec<u32>,
    hits: Vec<std::sync::atomic::AtomicU32>,
    hint: usize,
    fault: Fault,
}

impl Policy for Faulty {
    fn touched(&self, slot: u32, _hash: u64) -> bool {
        if let Some(hits) = self.hits.get(slot as usize) {
            hits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        self.fault == Fault::PromotesStrangers
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

    fn evict(&mut self, hash_of: &dyn Fn(u32) -> u64) -> Option<u32> {
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
                hash_of(1_000_000);
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
}
