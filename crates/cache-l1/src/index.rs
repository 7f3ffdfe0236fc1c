//! Which slots hold variants of a resource, without a walk over all.
//!
//! A table *resource → first slot* and a chain through the slots: nothing is allocated per resource, and nothing
//! at all as long as there are no variants.

use hashbrown::HashTable;

use crate::slots::reach;

const NIL: u32 = u32::MAX;
const IDLE: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug)]
struct Link {
    resource: u64,
    prev: u32,
    next: u32,
}

/// The chains of all resources of a shard.
#[derive(Debug, Default)]
pub(crate) struct Index {
    firsts: HashTable<u32>,
    links: Vec<Link>,
}

impl Index {
    /// Lists a slot that is not listed.
    pub(crate) fn add(&mut self, slot: u32, resource: u64) {
        let at = slot as usize;
        reach(&mut self.links, at, Link { resource: 0, prev: IDLE, next: NIL });
        debug_assert_eq!(self.links[at].prev, IDLE);
        let links = &mut self.links;
        if let Some(first) =
            self.firsts.find_mut(resource, |&first| links[first as usize].resource == resource)
        {
            // In as the second, so that the table stays as it is.
            let next = std::mem::replace(&mut links[*first as usize].next, slot);
            if next != NIL {
                links[next as usize].prev = slot;
            }
            links[at] = Link { resource, prev: *first, next };
        } else {
            links[at] = Link { resource, prev: NIL, next: NIL };
            self.firsts.insert_unique(resource, slot, |&first| links[first as usize].resource);
        }
    }

    /// Takes a slot off its list, if it is on one.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(&Link { resource, prev, next }) = self.links.get(slot as usize) else { return };
        if prev == IDLE {
            return;
        }
        if prev != NIL {
            self.links[prev as usize].next = next;
        } else if let Ok(mut first) = self.firsts.find_entry(resource, |&first| first == slot) {
            if next == NIL {
                first.remove();
            } else {
                *first.get_mut() = next;
            }
        }
        if next != NIL {
            self.links[next as usize].prev = prev;
        }
        self.links[slot as usize].prev = IDLE;
    }

    /// All slots of a resource.
    pub(crate) fn slots(&self, resource: u64) -> impl Iterator<Item = u32> + '_ {
        let first = self.firsts.find(resource, |&first| self.links[first as usize].resource == resource);
        std::iter::successors(first.copied(), |&slot| {
            Some(self.links[slot as usize].next).filter(|&next| next != NIL)
        })
    }

    /// The resource under which the slot is listed.
    pub(crate) fn resource_of(&self, slot: u32) -> Option<u64> {
        self.links.get(slot as usize).filter(|link| link.prev != IDLE).map(|link| link.resource)
    }

    /// Panics if a chain is broken; the answer is the number of listed slots.
    pub(crate) fn validate(&self) -> usize {
        let mut count = 0;
        for &first in &self.firsts {
            let resource = self.links[first as usize].resource;
            let mut prev = NIL;
            for slot in self.slots(resource) {
                let link = self.links[slot as usize];
                assert_eq!((link.prev, link.resource), (prev, resource), "index: link of slot {slot}");
                prev = slot;
                count += 1;
            }
        }
        assert_eq!(
            count,
            self.links.iter().filter(|link| link.prev != IDLE).count(),
            "index: slots outside of chains"
        );
        count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use cache_policy::contract::{Rng, mix};

    use super::*;

    #[test]
    fn same_as_a_map_of_sets() {
        let mut rng = Rng::new(5);
        let mut index = Index::default();
        let mut model: HashMap<u64, BTreeSet<u32>> = HashMap::new();
        for _ in 0..20_000 {
            let slot = rng.below(100) as u32;
            let listed = model.iter().find(|(_, slots)| slots.contains(&slot)).map(|(&resource, _)| resource);
            match listed {
                Some(resource) => {
                    index.remove(slot);
                    model.entry(resource).or_default().remove(&slot);
                }
                None => {
                    let resource = mix(rng.below(10));
                    index.add(slot, resource);
                    model.entry(resource).or_default().insert(slot);
                }
            }
            for (&resource, slots) in &model {
                assert_eq!(&index.slots(resource).collect::<BTreeSet<_>>(), slots);
            }
            index.validate();
        }
    }
}
