//! The tier itself: shards behind locks, fences, and room.
//!
//! # Why an insert loses to every invalidation since its snapshot
//!
//! An invalidation first adds to a generation (the stripe's, or the one for patterns), then takes the shard's
//! lock and drops. An insert compares the generation with its snapshot *while it holds the shard's lock*, and
//! stores before it lets go. The lock puts the two in an order:
//!
//! - the insert was first: its entry is there when the invalidation comes to drop;
//! - the invalidation was first: its addition happened before its unlock, hence before the insert's lock; the
//!   insert sees it, and its snapshot, taken before, does not hold.
//!
//! A snapshot taken between the addition and the drop belongs to a load that began after the invalidation
//! did, so it reads what the invalidation announced; dropping its entry as well costs a load and is never
//! wrong. The lock gives the order, so the generations need no more than acquire and release: a snapshot that
//! happens after the call returned must see the addition.
//!
//! Flushes and stamps take no shard lock. There the entry carries what it was checked against (generation,
//! origin), and every hit compares: see [`Fence`].

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cache_policy::{Family, Policy};
use parking_lot::RwLock;

use crate::budget::Budget;
use crate::shelf::{Entry, Front, Halves, Shelf, overhead_bytes};
use crate::tally::Tally;
use crate::{Address, Cause, Facts, Fence, Hit, Inserted, Left, Meta, Origin, Refusal, Snapshot, Stats};

/// Generations against which loads are fenced; resources share one by chance, which costs a refused insert
/// now and then.
const STRIPES: usize = 4_096;
/// Tiers with fewer entries have one shard.
const ENTRIES_PER_SHARD_MIN: usize = 512;
const SHARDS_MAX: usize = 1_024;
/// Entries a policy is told to expect in a shard at most: a bound may be far above what is ever used.
const HINT_MAX: usize = 1 << 16;

/// How large a tier may be.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Entries at most, those expired or outdated and not yet swept included. With 0 nothing is ever stored.
    pub entries_max: usize,
    /// Bytes at most: weights and overhead.
    pub bytes_max: u64,
    /// Independent locks, rounded up to a power of two, at most 1,024. `None`: by cores and size; one below
    /// 1,024 entries.
    pub shards: Option<usize>,
    /// The group that every entry belongs to without naming it: the namespace's own.
    pub own_group: u64,
}

/// A concurrent, bounded, expiring, fenced map. See the [crate](crate) for an example.
///
/// `K` and `V` are cloned, compared or dropped by the rules: `V` is cloned and `K` compared under a shard's
/// lock (so both must be cheap and must not call the tier), and nothing is dropped under a lock.
///
/// `now` is the caller's logical time in milliseconds and must not go back. All methods panic for an
/// [`Address`] whose partition the fence does not have.
pub struct L1<K, V, P = Box<dyn Policy>> {
    pub(crate) shards: Box<[Shard<K, V, P>]>,
    stripes: Box<[AtomicU64]>,
    /// Added to by every pattern invalidation.
    patterns: AtomicU64,
    fence: Arc<Fence>,
    own_group: u64,
    pub(crate) budget: Budget,
    tally: Tally,
    /// Shard where the next sweep begins.
    sweep_next: AtomicUsize,
}

/// By cores, so that threads rarely meet, and by size, so that a shard's share of the bound means something.
fn shards_for(entries_max: usize) -> usize {
    if entries_max < 2 * ENTRIES_PER_SHARD_MIN {
        return 1;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Rounded up later, hence halved.
    (cores * 4).min(entries_max / ENTRIES_PER_SHARD_MIN / 2).max(1)
}

/// A line (or two) of its own, so that shards do not disturb each other.
#[repr(align(128))]
pub(crate) struct Shard<K, V, P> {
    pub(crate) shelf: RwLock<Shelf<K, V, P>>,
    /// Copies of the shelf's own sums, readable without the lock; written under it.
    pub(crate) entries: AtomicUsize,
    pub(crate) bytes: AtomicU64,
}

impl<K, V, P: Policy> Shard<K, V, P> {
    /// Copies the sums; after every change, before the lock is let go.
    pub(crate) fn publish(&self, shelf: &Shelf<K, V, P>) {
        self.entries.store(shelf.len(), Ordering::Relaxed);
        self.bytes.store(shelf.bytes(), Ordering::Relaxed);
    }
}

impl<K, V, P: Policy> L1<K, V, P> {
    /// An empty tier. The family makes one policy a shard, told the entries to expect there.
    pub fn new(config: Config, fence: Arc<Fence>, policy: impl Family<Member = P>) -> Self {
        // Slots are u32 and two numbers are taken.
        let entries_max = config.entries_max.min(u32::MAX as usize - 2);
        let shards =
            config.shards.unwrap_or_else(|| shards_for(entries_max)).clamp(1, SHARDS_MAX).next_power_of_two();
        let shard = || Shard {
            shelf: RwLock::new(Shelf::new(policy.member((entries_max / shards).min(HINT_MAX)))),
            entries: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
        };
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            stripes: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
            patterns: AtomicU64::new(0),
            fence,
            own_group: config.own_group,
            budget: Budget::new(entries_max, config.bytes_max),
            tally: Tally::default(),
            sweep_next: AtomicUsize::new(0),
        }
    }

    /// What an entry costs beside its [`Meta::weight`].
    pub fn overhead_bytes(meta: &Meta) -> u64 {
        overhead_bytes::<K, V>(&meta.groups)
    }

    /// Entries held, those not yet swept included.
    pub fn len(&self) -> usize {
        self.budget.entries()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held, overhead included.
    pub fn bytes(&self) -> u64 {
        self.budget.bytes()
    }

    /// Most entries there can be.
    pub fn entries_max(&self) -> usize {
        self.budget.entries_max()
    }

    /// Most bytes there can be.
    pub fn bytes_max(&self) -> u64 {
        self.budget.bytes_max()
    }

    /// The fence it was made with.
    pub fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }

    /// Counters and size.
    pub fn stats(&self) -> Stats {
        self.tally.read(self.len(), self.bytes())
    }

    /// Looks a key up. `None`: absent, expired, flushed, or one of its groups was stamped after its origin.
    ///
    /// Takes the shard's lock shared, allocates nothing.
    #[inline]
    pub fn get<Q>(&self, key: &Q, at: &Address, now: u64) -> Option<Hit<V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
        V: Clone,
    {
        self.hit(key, at, now, |front, shelf, slot| {
            let Facts { origin, version, load_start, born, hard_expiry } = front.facts;
            let soft_expiry = shelf.back(slot).soft_expiry;
            let value = front.value.clone();
            Some(Hit { value, origin, version, load_start, born, soft_expiry, hard_expiry })
        })
    }

    /// [`get`](Self::get) for a caller that makes its own answer of a hit, or none if it does not trust it. `answer`
    /// runs under the shard's lock: it must be short and must not call the tier.
    #[inline]
    pub fn get_with<Q, R>(
        &self,
        key: &Q,
        at: &Address,
        now: u64,
        answer: impl FnOnce(&V, &Facts) -> Option<R>,
    ) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.hit(key, at, now, |front, _, _| answer(&front.value, &front.facts))
    }

    /// The fences over a key as they stand; to be taken before any I/O of a load.
    pub fn snapshot(&self, at: &Address) -> Snapshot {
        Snapshot {
            stripe: self.stripe(at.resource()).load(Ordering::Acquire),
            patterns: self.patterns.load(Ordering::Acquire),
            generation: self.fence.generation(at.partition()),
        }
    }

    /// Stores a value, unless something that happened since the snapshot forbids it.
    ///
    /// Makes room first: what expired leaves before what the policy names. An older value of the key leaves.
    pub fn insert(
        &self,
        key: K,
        value: V,
        at: &Address,
        meta: Meta,
        snapshot: &Snapshot,
        now: u64,
    ) -> Inserted<K, V>
    where
        K: Eq,
    {
        let entry = Entry::new(key, value, at, snapshot.generation, meta);
        let mut left = Vec::new();
        let refused = self.store(entry, snapshot, now, &mut left);
        match refused {
            None => self.tally.inserted(),
            Some(refusal) => self.tally.refused(refusal),
        }
        Inserted { refused, left }
    }

    /// The key's value is outdated by an event: nothing loaded before this call is stored or served after it.
    ///
    /// An entry that [reflects](Origin::reflects) the event stays; [`Origin::MAX`] spares none.
    pub fn invalidate_key<Q>(&self, key: &Q, at: &Address, event: Origin) -> Option<Left<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.take_key(key, at, Cause::Invalidated, |held| !held.facts.origin.reflects(event))
    }

    /// Drops the key because somebody asked for it. As for an invalidation, what was loaded before does not
    /// come back.
    pub fn remove<Q>(&self, key: &Q, at: &Address) -> Option<Left<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.take_key(key, at, Cause::Removed, |_| true)
    }

    /// [`invalidate_key`](Self::invalidate_key) for the resource's key without parameters and all with.
    pub fn invalidate_resource(&self, resource: u64, event: Origin) -> Vec<Left<K, V>> {
        self.stripe(resource).fetch_add(1, Ordering::AcqRel);
        let shard = self.shard(resource);
        let mut shelf = shard.shelf.write();
        let mut left = Vec::new();
        for slot in shelf.slots_of(resource) {
            if shelf.get(slot).is_some_and(|entry| !entry.front.facts.origin.reflects(event))
                && let Some(entry) = shelf.take(slot)
            {
                left.push(self.account(entry, Cause::Invalidated));
            }
        }
        shard.publish(&shelf);
        left
    }

    /// [`invalidate_key`](Self::invalidate_key) for all keys of a partition that the predicate matches;
    /// refuses all inserts of the tier whose snapshot is older, as nobody knows which keys they will have.
    ///
    /// Walks all entries, a shard at a time, under the shared lock; `matches` runs under it.
    pub fn invalidate_matching(
        &self,
        event: Origin,
        partition: u32,
        matches: impl Fn(&K) -> bool,
    ) -> Vec<Left<K, V>> {
        self.patterns.fetch_add(1, Ordering::AcqRel);
        let outdated = |entry: Halves<'_, K, V>| {
            let front = entry.front;
            entry.back.at.partition() == partition
                && !front.facts.origin.reflects(event)
                && matches(&front.key)
        };
        let mut left = Vec::new();
        for shard in &self.shards {
            // Found under the shared lock and looked at again under the exclusive one: what comes between has
            // a newer snapshot.
            let found: Vec<u32> = {
                let shelf = shard.shelf.read();
                shelf.entries().filter(|&(_, entry)| outdated(entry)).map(|(slot, _)| slot).collect()
            };
            if found.is_empty() {
                continue;
            }
            let mut shelf = shard.shelf.write();
            for slot in found {
                if shelf.get(slot).is_some_and(&outdated)
                    && let Some(entry) = shelf.take(slot)
                {
                    left.push(self.account(entry, Cause::Invalidated));
                }
            }
            shard.publish(&shelf);
        }
        left
    }

    /// Refuses every insert of the resource whose snapshot is older, and drops nothing.
    pub fn bump_stripe(&self, at: &Address) {
        self.stripe(at.resource()).fetch_add(1, Ordering::AcqRel);
    }

    /// Takes out what expired, and what flushes and stamps left dead; looks at no more than `budget` entries
    /// and goes on from there next time.
    pub fn sweep(&self, now: u64, budget: usize) -> Vec<Left<K, V>> {
        let mut steps = budget;
        let mut left = Vec::new();
        let first = self.sweep_next.load(Ordering::Relaxed);
        for turn in 0..self.shards.len() {
            if steps == 0 {
                break;
            }
            let at = (first + turn) % self.shards.len();
            self.sweep_next.store(at, Ordering::Relaxed);
            let shard = &self.shards[at];
            let mut shelf = shard.shelf.write();
            while let Some(entry) = shelf.expire(now, &mut steps) {
                left.push(self.account(entry, Cause::Expired));
            }
            let version = self.fence.version();
            while let Some(entry) = shelf.reap(version, &mut steps, |entry| self.is_current(entry)) {
                left.push(self.account(entry, Cause::Invalidated));
            }
            shard.publish(&shelf);
        }
        left
    }

    /// Shows every entry, dead ones included, for diagnostics: key, value, meta. Shard by shard, under the
    /// shared lock.
    pub fn for_each(&self, mut see: impl FnMut(&K, &V, &Meta)) {
        for shard in &self.shards {
            for (_, entry) in shard.shelf.read().entries() {
                see(&entry.front.key, &entry.front.value, &entry.meta());
            }
        }
    }

    /// Panics, saying what, if an invariant is broken. Stops the world and is slow: for tests.
    pub fn validate(&self)
    where
        K: Eq,
    {
        let shelves: Vec<_> = self.shards.iter().map(|shard| shard.shelf.read()).collect();
        for (shard, shelf) in self.shards.iter().zip(&shelves) {
            shelf.validate();
            for (_, entry) in shelf.entries() {
                assert!(
                    std::ptr::eq(shard, self.shard(entry.back.at.resource())),
                    "an entry is in the wrong shard"
                );
            }
            let published = (shard.entries.load(Ordering::Relaxed), shard.bytes.load(Ordering::Relaxed));
            assert_eq!(published, (shelf.len(), shelf.bytes()), "published sums of a shard");
        }
        let entries = shelves.iter().map(|shelf| shelf.len()).sum::<usize>();
        let bytes = shelves.iter().map(|shelf| shelf.bytes()).sum::<u64>();
        assert_eq!((self.len(), self.bytes()), (entries, bytes), "sums of the tier");
        assert!(entries <= self.entries_max(), "{entries} entries are above the bound");
        assert!(bytes <= self.bytes_max(), "{bytes} bytes are above the bound");
    }
}

impl<K, V, P: Policy> fmt::Debug for L1<K, V, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("L1")
            .field("shards", &self.shards.len())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Steps of the methods above.
impl<K, V, P: Policy> L1<K, V, P> {
    #[inline]
    pub(crate) fn shard(&self, resource: u64) -> &Shard<K, V, P> {
        // The table uses the lowest and highest bits, stripes those from 24.
        &self.shards[(resource >> 40) as usize & (self.shards.len() - 1)]
    }

    #[inline]
    fn stripe(&self, resource: u64) -> &AtomicU64 {
        &self.stripes[(resource >> 24) as usize & (STRIPES - 1)]
    }

    /// Finds what may be served, has it answered, and tells the policy.
    #[inline]
    fn hit<Q, R>(
        &self,
        key: &Q,
        at: &Address,
        now: u64,
        answer: impl FnOnce(&Front<K, V>, &Shelf<K, V, P>, u32) -> Option<R>,
    ) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let shard = self.shard(at.resource());
        let shelf = shard.shelf.read();
        let (slot, front) = shelf.find(at.hash(), |held| held.borrow() == key)?;
        if now >= front.facts.hard_expiry {
            return None;
        }
        if !self.is_judged(front) && !self.judge(Halves { front, back: shelf.back(slot) }) {
            return None;
        }
        let answer = answer(front, &shelf, slot);
        let tend = shelf.policy().touched(slot, at.hash());
        drop(shelf);
        if tend && let Some(mut shelf) = shard.shelf.try_write() {
            shelf.policy_mut().tend();
        }
        answer
    }

    /// Whether it was found alive since the fence last moved.
    #[inline]
    fn is_judged(&self, front: &Front<K, V>) -> bool {
        // Relaxed: a version in `judged` says only that this entry was alive at it, which stays true.
        self.fence.version() == front.judged.load(Ordering::Relaxed)
    }

    /// Neither flushed nor stamped since. One compare unless the fence moved.
    pub(crate) fn is_current(&self, entry: Halves<'_, K, V>) -> bool {
        self.is_judged(entry.front) || self.judge(entry)
    }

    #[cold]
    fn judge(&self, entry: Halves<'_, K, V>) -> bool {
        let Halves { front, back } = entry;
        let (partition, seq) = (back.at.partition(), front.facts.origin.seq);
        let verdict = self.fence.judge(partition, back.generation, self.own_group, &back.groups, seq);
        if let Some(version) = verdict {
            front.judged.store(version, Ordering::Relaxed);
        }
        verdict.is_some()
    }

    pub(crate) fn account(&self, entry: Entry<K, V>, cause: Cause) -> Left<K, V> {
        self.budget.release(entry.halves().bytes());
        self.tally.left(cause);
        entry.leave(cause)
    }

    fn take_key<Q>(
        &self,
        key: &Q,
        at: &Address,
        cause: Cause,
        outdated: impl Fn(&Front<K, V>) -> bool,
    ) -> Option<Left<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        self.bump_stripe(at);
        let shard = self.shard(at.resource());
        let mut shelf = shard.shelf.write();
        let (slot, front) = shelf.find(at.hash(), |held| held.borrow() == key)?;
        if !outdated(front) {
            return None;
        }
        let entry = shelf.take(slot)?;
        shard.publish(&shelf);
        Some(self.account(entry, cause))
    }

    /// Why the snapshot no longer holds.
    pub(crate) fn moved(&self, at: &Address, snapshot: &Snapshot) -> Option<Refusal> {
        let present = self.snapshot(at);
        if present == *snapshot || cfg!(edgecache_mutation = "l1_insert_unfenced") {
            None
        } else if present.generation != snapshot.generation {
            Some(Refusal::Flushed)
        } else {
            Some(Refusal::Invalidated)
        }
    }
}
