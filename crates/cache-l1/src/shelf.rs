//! The inside of one shard: entries, the ways to find them, and the policy. Plain `&mut` code; the lock is
//! around it.

mod replace;

use cache_policy::{Newcomer, Policy, Residents};
use hashbrown::HashTable;

use crate::entry::{Admission, Back, Front, Home, Notes, Parts};
use crate::index::Index;
use crate::sliding::{LOOK_HERE, Sliding};
use crate::slots::{Slots, push_sparingly};
use crate::table::{Glance, Table};
use crate::tally::Tally;
use crate::wheel::Wheel;
use crate::{Address, Cause, Groups, Left, Meta};

pub(crate) use replace::Victim;

/// Entries in slots; table, index, wheel and policy all speak of slots.
#[derive(Debug)]
pub(crate) struct Shelf<K, V, P> {
    table: Table,
    fronts: Slots<Front<K, V>>,
    /// As many as fronts.
    notes: Vec<Notes>,
    /// As many as fronts.
    backs: Vec<Back>,
    free: Vec<u32>,
    policy: P,
    wheel: Wheel,
    /// A slot that became free and is still on the wheel, at or before the given time: who takes it next needs not be
    /// filed anew if it expires no earlier.
    filed: Option<(u32, u64)>,
    index: Index,
    /// (slot, epoch) of entries that came with another epoch than the fence knew: hardly any.
    strays: HashTable<(u32, u64)>,
    sliding: Sliding,
    bytes: u64,
    pub(crate) tally: Tally,
    /// Where the walk for dead entries goes on, and the fence's version it began at and last completed.
    walk: Walk,
}

/// A slot with what every look-up reads of it.
type Found<'a, K, V> = Option<(u32, &'a Front<K, V>)>;

#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    next: usize,
    began_at: u64,
    completed: u64,
}

impl<K, V, P: Policy> Shelf<K, V, P> {
    /// Reserves room for so many entries; memory that is not used is not touched.
    pub(crate) fn new(policy: P, expected: usize) -> Self {
        Self {
            table: Table::new(expected),
            fronts: Slots::with_capacity(expected),
            notes: Vec::with_capacity(expected),
            backs: Vec::with_capacity(expected),
            free: Vec::new(),
            policy,
            wheel: Wheel::new(expected),
            filed: None,
            index: Index::default(),
            strays: HashTable::new(),
            sliding: Sliding::default(),
            bytes: 0,
            tally: Tally::default(),
            walk: Walk::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    #[inline]
    pub(crate) fn policy(&self) -> &P {
        &self.policy
    }

    pub(crate) fn policy_mut(&mut self) -> &mut P {
        &mut self.policy
    }

    /// The key decides: two that are equal have the same hash.
    #[inline]
    pub(crate) fn find(&self, hash: u64, matches: impl Fn(&K) -> bool) -> Found<'_, K, V> {
        let mut found = None;
        let slot = self.table.find(hash, |slot| {
            found = self.fronts.get(slot).filter(|front| matches(&front.key));
            found.is_some()
        })?;
        found.map(|front| (slot, front))
    }

    /// [`find`](Self::find) without a call; `Err` if it has to be called.
    #[inline(always)]
    pub(crate) fn glance(&self, hash: u64, matches: impl Fn(&K) -> bool) -> Result<Found<'_, K, V>, ()> {
        match self.table.glance(hash) {
            Glance::Likely(slot) => match self.fronts.get(slot) {
                Some(front) if matches(&front.key) => Ok(Some((slot, front))),
                _ => Err(()),
            },
            Glance::Nobody => Ok(None),
            Glance::Unsure => Err(()),
        }
    }

    /// Whether the key is there, for who needs no more.
    #[inline(always)]
    pub(crate) fn holds(&self, hash: u64, key: &K) -> bool
    where
        K: Eq,
    {
        match self.glance(hash, |held| held == key) {
            Ok(found) => found.is_some(),
            Err(()) => self.holds_anywhere(hash, key),
        }
    }

    #[inline(never)]
    fn holds_anywhere(&self, hash: u64, key: &K) -> bool
    where
        K: Eq,
    {
        self.find(hash, |held| held == key).is_some()
    }

    /// The back of a slot that has been given out at some time.
    pub(crate) fn back(&self, slot: u32) -> &Back {
        &self.backs[slot as usize]
    }

    /// The notes of a slot that has been given out at some time.
    #[inline]
    pub(crate) fn notes(&self, slot: u32) -> Notes {
        // No panic for a slot that was never given out: then nothing is read for who does not look.
        self.notes.get(slot as usize).copied().unwrap_or_default()
    }

    pub(crate) fn get(&self, slot: u32) -> Option<Parts<'_, K, V>> {
        Some(self.parts(slot, self.fronts.get(slot)?))
    }

    /// All parts of the entry in a slot whose front was found.
    pub(crate) fn parts<'a>(&'a self, slot: u32, front: &'a Front<K, V>) -> Parts<'a, K, V> {
        Parts { front, notes: self.notes(slot), back: self.back(slot) }
    }

    /// The epoch of a stray.
    #[cold]
    pub(crate) fn stray_epoch(&self, slot: u32) -> Option<u64> {
        self.strays.find(spread(slot), |stray| stray.0 == slot).map(|stray| stray.1)
    }

    /// The key must not be there. `meta` loses its groups.
    ///
    /// Inlined, as is all on the way of an insert: what passes through memory in between is read back before it has
    /// arrived, in other portions than it was written, and the processor waits.
    #[inline(always)]
    pub(crate) fn put(
        &mut self,
        (key, value): (K, V),
        at: &Address,
        meta: &mut Meta,
        admission: Admission,
        bytes: u64,
        now: u64,
    ) {
        let slot = self.free.pop().unwrap_or_else(|| {
            push_sparingly(&mut self.backs, Back::default());
            push_sparingly(&mut self.notes, Notes::default());
            self.fronts.push()
        });
        let (hash, mut deadline) = (at.hash(), meta.hard_expiry);
        if meta.idle > 0 {
            deadline = self.sliding.add(slot, meta.idle, deadline, now);
            meta.hard_expiry = LOOK_HERE;
        }
        // The place first, so that nothing stands between making the front and storing it.
        let place = self.fronts.place(slot);
        *place = Some(Front::new(key, value, admission, meta));
        self.notes[slot as usize] = Notes::new(meta);
        let back = &mut self.backs[slot as usize];
        back.hash = hash;
        back.groups = std::mem::take(&mut meta.groups);
        back.weight = meta.weight;
        back.home = Home::new(at, meta.idle > 0);
        self.bytes += bytes;
        let backs = &self.backs;
        self.table.insert(hash, slot, |slot| hash_of(backs, slot));
        if at.is_variant() {
            self.index.add(slot, at.resource());
        }
        if admission.stray {
            self.strays.insert_unique(spread(slot), (slot, meta.origin.epoch), |stray| spread(stray.0));
        }
        match self.filed {
            // Comes up too early, and is filed where it belongs then.
            Some((filed, before)) if filed == slot && before <= deadline && deadline != u64::MAX => {
                self.filed = None;
            }
            _ => self.schedule(slot, deadline),
        }
        let weight = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.policy.inserted(slot, Newcomer { hash, weight, deadline });
    }

    /// Whom the policy gives up, for [`replace`](Self::replace) or [`leave`](Self::leave) to take out.
    #[inline(always)]
    pub(crate) fn victim(&mut self) -> Option<u32> {
        self.policy.evict(&mut Told { fronts: &self.fronts, backs: &self.backs })
    }

    #[inline(never)]
    fn schedule(&mut self, slot: u32, deadline: u64) {
        self.unfile();
        self.wheel.schedule(slot, deadline);
    }

    /// Takes the free slot that is still on the wheel off it.
    fn unfile(&mut self) {
        if let Some((slot, _)) = self.filed.take() {
            self.wheel.cancel(slot);
        }
    }

    /// For an entry that bears a passed expiry: its hard one if it is a sliding one and lives, and then it lives on.
    #[cold]
    pub(crate) fn slide(&self, slot: u32, now: u64) -> Option<u64> {
        let slide = self.sliding.get(slot)?;
        slide.hit(now).then(|| slide.hard())
    }

    /// From when on the entry is expired, as things are.
    pub(crate) fn deadline(&self, slot: u32, entry: Parts<'_, K, V>) -> u64 {
        match entry.front.hard_expiry() {
            LOOK_HERE => self.sliding.get(slot).map_or(LOOK_HERE, |slide| slide.deadline()),
            fixed => fixed,
        }
    }

    /// Hard expiry and idle time of an entry.
    pub(crate) fn lifetime(&self, slot: u32, entry: Parts<'_, K, V>) -> (u64, u32) {
        match self.sliding.get(slot) {
            Some(slide) => (slide.hard(), slide.idle()),
            None => (entry.front.hard_expiry(), 0),
        }
    }

    /// Takes an entry out, for any reason but eviction.
    pub(crate) fn take(&mut self, slot: u32, cause: Cause) -> Option<Left<K, V>> {
        let hash = self.backs.get(slot as usize)?.hash;
        let left = self.unlink(slot, cause)?;
        self.policy.removed(slot, hash);
        Some(left)
    }

    /// Takes out whom the policy names.
    #[inline(always)]
    pub(crate) fn evict(&mut self) -> Option<Left<K, V>> {
        let slot = self.victim()?;
        self.leave(slot)
    }

    /// Takes out whom the policy gave up.
    #[inline(always)]
    pub(crate) fn leave(&mut self, slot: u32) -> Option<Left<K, V>> {
        let left = self.unlink(slot, Cause::Evicted);
        debug_assert!(left.is_some(), "the policy named a slot that holds nothing");
        left
    }

    /// Whether nothing expired for certain.
    #[inline]
    pub(crate) fn is_quiet(&self, now: u64) -> bool {
        self.wheel.is_quiet(now)
    }

    /// Takes out one entry whose hard expiry is at or before `now`; looks at no more than `steps` entries.
    #[inline]
    pub(crate) fn expire(&mut self, now: u64, steps: &mut usize) -> Option<Left<K, V>> {
        if self.wheel.is_quiet(now) {
            return None;
        }
        self.unfile();
        let (fronts, sliding) = (&self.fronts, &self.sliding);
        let slot = self.wheel.due(now, steps, |slot| deadline_of(fronts, sliding, slot))?;
        let hash = self.backs.get(slot as usize)?.hash;
        let left = self.unlink(slot, Cause::Expired)?;
        self.policy.expired(slot, hash, now);
        Some(left)
    }

    /// Takes out one entry that is dead by flush or stamp. One walk over the slots follows each change of the
    /// fence's `version`, in portions of `steps`.
    pub(crate) fn reap(
        &mut self,
        version: u64,
        steps: &mut usize,
        alive: impl Fn(Parts<'_, K, V>) -> bool,
    ) -> Option<Left<K, V>> {
        if self.walk.next == 0 {
            if self.walk.completed == version {
                return None;
            }
            self.walk.began_at = version;
        }
        while *steps > 0 && self.walk.next < self.backs.len() {
            *steps -= 1;
            let slot = self.walk.next as u32;
            self.walk.next += 1;
            if self.get(slot).is_some_and(|entry| !alive(entry)) {
                return self.take(slot, Cause::Invalidated);
            }
        }
        if self.walk.next >= self.backs.len() {
            self.walk = Walk { next: 0, began_at: 0, completed: self.walk.began_at };
        }
        None
    }

    /// The slots of a resource: its variants, and its key without parameters.
    pub(crate) fn slots_of(&self, resource: u64) -> Vec<u32> {
        let mut slots: Vec<u32> = self.index.slots(resource).collect();
        self.table.find_anywhere(resource, |slot| {
            let back = self.back(slot);
            if !back.home.is_variant() && back.hash == resource {
                slots.push(slot);
            }
            // On to the next.
            false
        });
        slots
    }

    /// The hash of the resource that the entry in the slot belongs to.
    pub(crate) fn resource_of(&self, slot: u32) -> u64 {
        self.index.resource_of(slot).unwrap_or_else(|| self.back(slot).hash)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, Parts<'_, K, V>)> {
        (0..self.backs.len() as u32).filter_map(|slot| Some((slot, self.get(slot)?)))
    }

    #[inline(always)]
    fn unlink(&mut self, slot: u32, cause: Cause) -> Option<Left<K, V>> {
        let front = self.fronts.take(slot)?;
        let back = &mut self.backs[slot as usize];
        let (hash, bytes) = (back.hash, back.bytes::<K, V>());
        let (variant, slides) = (back.home.is_variant(), back.home.slides());
        back.groups = Groups::default();
        self.table.remove(hash, slot);
        if variant {
            self.index.remove(slot);
        }
        if front.is_stray()
            && let Ok(stray) = self.strays.find_entry(spread(slot), |stray| stray.0 == slot)
        {
            stray.remove();
        }
        if slides {
            self.sliding.remove(slot);
            self.wheel.cancel(slot);
        } else if front.hard_expiry() != u64::MAX {
            let before = self.filed.replace((slot, front.hard_expiry()));
            if let Some((before, _)) = before {
                self.wheel.cancel(before);
            }
        }
        self.bytes -= bytes;
        self.tally.left(cause);
        self.free.push(slot);
        Some(Left { key: front.key, value: front.value, cause, bytes })
    }

    /// Panics, saying what, if an invariant is broken.
    pub(crate) fn validate(&self)
    where
        K: Eq,
    {
        let (mut bytes, mut variants, mut mortal, mut strays, mut count) = (0, 0, 0, 0, 0);
        let mut slides = 0;
        for (slot, entry) in self.entries() {
            let found = self.find(entry.back.hash, |key| *key == entry.front.key).map(|(slot, _)| slot);
            assert_eq!(found, Some(slot), "table: slot {slot} is not found by its key");
            let variant = entry.back.home.is_variant();
            assert_eq!(self.index.resource_of(slot).is_some(), variant, "index: slot {slot}");
            variants += usize::from(variant);
            let slide = self.sliding.get(slot);
            assert_eq!(slide.is_some(), entry.back.home.slides(), "sliding: slot {slot}");
            assert!(
                slide.is_none_or(|slide| slide.deadline() <= slide.hard()),
                "sliding: slot {slot} lives too long"
            );
            slides += usize::from(slide.is_some());
            let waits = self.deadline(slot, entry) != u64::MAX;
            assert_eq!(self.wheel.is_scheduled(slot), waits, "wheel: slot {slot}");
            mortal += usize::from(waits);
            let stray = entry.front.is_stray();
            assert_eq!(self.stray_epoch(slot).is_some(), stray, "strays: slot {slot}");
            strays += usize::from(stray);
            bytes += entry.bytes();
            count += 1;
        }
        assert_eq!(self.table.len(), count, "table: count");
        assert_eq!(self.backs.len(), count + self.free.len(), "slots: free ones");
        assert!(self.free.iter().all(|&slot| self.get(slot).is_none()), "slots: a free one is taken");
        assert!(
            self.free.iter().all(|&slot| self.back(slot).groups.is_empty()),
            "slots: a free one has groups"
        );
        assert_eq!(self.index.validate(), variants, "index: count");
        assert_eq!(self.sliding.len(), slides, "sliding: count");
        let deadline = |slot| match self.filed {
            Some((filed, before)) if filed == slot => before,
            _ => deadline_of(&self.fronts, &self.sliding, slot),
        };
        let filed = usize::from(self.filed.is_some());
        assert!(
            self.filed.is_none_or(|(slot, _)| self.get(slot).is_none()),
            "wheel: a slot filed for the next is taken"
        );
        assert_eq!(self.wheel.validate(deadline), mortal + filed, "wheel: count");
        assert_eq!(self.strays.len(), strays, "strays: count");
        assert_eq!(self.policy.residents(), count, "policy: count of residents");
        assert_eq!(self.bytes, bytes, "bytes: sum");
    }
}

/// What a policy is told of the residents.
struct Told<'a, K, V> {
    fronts: &'a Slots<Front<K, V>>,
    backs: &'a [Back],
}

impl<K, V> Residents for Told<'_, K, V> {
    #[inline]
    fn hash(&self, slot: u32) -> u64 {
        hash_of(self.backs, slot)
    }

    #[inline]
    fn mark(&self, slot: u32) -> u8 {
        self.fronts.get(slot).map_or(0, |front| front.judged().mark())
    }

    #[inline]
    fn set_mark(&mut self, slot: u32, mark: u8) {
        if let Some(front) = self.fronts.get(slot) {
            front.set_mark(front.judged(), mark);
        }
    }
}

/// Of a slot that holds an entry.
fn hash_of(backs: &[Back], slot: u32) -> u64 {
    backs.get(slot as usize).map_or(0, |back| back.hash)
}

/// When the entry in the slot expires, as things are.
#[inline]
fn deadline_of<K, V>(fronts: &Slots<Front<K, V>>, sliding: &Sliding, slot: u32) -> u64 {
    match fronts.get(slot).map_or(0, |front| front.hard_expiry()) {
        LOOK_HERE => sliding.get(slot).map_or(LOOK_HERE, |slide| slide.deadline()),
        fixed => fixed,
    }
}

fn spread(slot: u32) -> u64 {
    u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
