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
use std::sync::Arc;

use cache_policy::{Family, Policy, Touch};

use crate::budget::Budget;
use crate::entry::{Admission, Home, Notes, Parts, overhead_bytes};
use crate::fence::Present;
use crate::gate::Gate;
use crate::listen::Listener;
use crate::shelf::Shelf;
use crate::sync::{AtomicU64, AtomicUsize, Ordering};
use crate::watch::Watch;
use crate::{Address, Facts, Fence, Groups, Hit, Inserted, Left, Meta, Origin, Refusal, Snapshot, Stats};

/// Generations against which loads are fenced; resources share one by chance, which costs a refused insert
/// now and then.
const STRIPES: usize = 4_096;
/// Tiers with fewer entries have one shard.
const ENTRIES_PER_SHARD_MIN: usize = 512;
const SHARDS_MAX: usize = 1_024;
/// Entries a shard prepares for at most: a bound may be far above what is ever used.
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
    stripes: Box<[AtomicU64; STRIPES]>,
    /// Added to by every pattern invalidation.
    pub(crate) patterns: AtomicU64,
    fence: Arc<Fence>,
    /// The fence's own, one step nearer.
    present: Arc<[Present]>,
    own_group: u64,
    pub(crate) budget: Budget,
    /// Shard where the next sweep begins.
    sweep_next: AtomicUsize,
    pub(crate) watch: Watch,
    pub(crate) listener: Listener<K, V>,
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
    pub(crate) shelf: Gate<Shelf<K, V, P>>,
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
        assert!(fence.partitions() < Home::PARTITIONS_MAX, "too many partitions");
        // Slots are 31 bits and two numbers are taken.
        let entries_max = config.entries_max.min((1 << 31) - 2);
        let shards =
            config.shards.unwrap_or_else(|| shards_for(entries_max)).clamp(1, SHARDS_MAX).next_power_of_two();
        let lightest = overhead_bytes::<K, V>(&Groups::default(), false, false);
        let share = entries_max.min((config.bytes_max / lightest) as usize).div_ceil(shards);
        // Hashes do not fill the shards evenly; beyond three standard deviations it has to grow.
        let luck = if shards == 1 { 0 } else { 3 * share.isqrt() };
        let expected = (share + luck).min(entries_max).min(HINT_MAX);
        let shard = || Shard {
            shelf: Gate::new(Shelf::new(policy.member(expected), expected)),
            entries: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
        };
        // Not made on the stack, which is small where threads are explored.
        let stripes: Box<[AtomicU64]> = (0..STRIPES).map(|_| AtomicU64::new(0)).collect();
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            stripes: stripes.try_into().expect("so many were made"),
            patterns: AtomicU64::new(0),
            present: fence.presents(),
            fence,
            own_group: config.own_group,
            budget: Budget::new(entries_max, config.bytes_max),
            sweep_next: AtomicUsize::new(0),
            watch: Watch::default(),
            listener: Listener::default(),
        }
    }

    /// What an entry costs beside its [`Meta::weight`]: the places of key and value themselves, what is noted about
    /// them, its groups, and its part of the table, the timing wheel, the policy and (for variants) the index.
    pub fn overhead_bytes(at: &Address, meta: &Meta) -> u64 {
        overhead_bytes::<K, V>(&meta.groups, at.is_variant(), meta.idle > 0)
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
        let mut stats = Stats { entries: self.len(), bytes: self.bytes(), ..Stats::default() };
        for shard in &self.shards {
            shard.shelf.read().tally.add_to(&mut stats);
        }
        stats
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
        self.get_with(key, at, now, |value, facts| {
            let Facts { origin, version, load_start, born, soft_expiry, hard_expiry } = *facts;
            Some(Hit { value: value.clone(), origin, version, load_start, born, soft_expiry, hard_expiry })
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
        self.look_up::<true, Q, R>(key, at, now, answer)
    }

    /// [`get_with`](Self::get_with) that takes flushes and stamps for none: what the benchmark subtracts to tell what the
    /// fence costs a hit. Serves what is outdated.
    #[cfg(feature = "unfenced")]
    #[inline]
    pub fn get_unfenced<Q, R>(
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
        self.look_up::<false, Q, R>(key, at, now, answer)
    }

    #[inline(always)]
    fn look_up<const FENCED: bool, Q, R>(
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
        // The usual case first, and without a call: what a call needs would be put aside for every hit.
        if !self.watch.wants(at.hash()) {
            let shard = self.shard(at.resource());
            if let Some(shelf) = shard.shelf.glance()
                && let Ok(found) = shelf.glance(at.hash(), |held| held.borrow() == key)
            {
                let (slot, front) = found?;
                let hard_expiry = front.hard_expiry();
                let (epoch, version) =
                    if FENCED { self.present[at.partition() as usize].read() } else { (0, 0) };
                let judged = front.judged();
                if (!FENCED || judged.was_alive_at(version)) && now < hard_expiry {
                    // Before the answer, so that the processor fetches both at once.
                    let Touch { mark, tend } = shelf.policy().touched(slot, at.hash(), judged.mark());
                    front.set_mark(judged, mark);
                    let answer = answer(&front.value, &facts(shelf.notes(slot), epoch, hard_expiry));
                    drop(shelf);
                    if tend {
                        self.tend(shard);
                    }
                    return answer;
                }
            }
        }
        self.get_slowly(key, at, now, answer)
    }

    /// The whole look-up, for what a glance does not answer.
    #[cold]
    #[inline(never)]
    fn get_slowly<Q, R>(
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
        self.watch.saw(at.hash());
        let shard = self.shard(at.resource());
        let shelf = shard.shelf.read();
        let (slot, front) = shelf.find(at.hash(), |held| held.borrow() == key)?;
        let (mut epoch, version) = self.present[at.partition() as usize].read();
        if !front.was_alive_at(version) && !mutated!("l1_race_hit_unjudged") {
            epoch = self.judge_again(&shelf, slot)?;
        }
        let mut hard_expiry = front.hard_expiry();
        if now >= hard_expiry && !mutated!("l1_hit_after_expiry") {
            hard_expiry = shelf.slide(slot, now)?;
        }
        let judged = front.judged();
        let Touch { mark, tend } = shelf.policy().touched(slot, at.hash(), judged.mark());
        front.set_mark(judged, mark);
        let answer = answer(&front.value, &facts(shelf.notes(slot), epoch, hard_expiry));
        drop(shelf);
        if tend {
            self.tend(shard);
        }
        answer
    }

    /// The fences over a key as they stand; to be taken before any I/O of a load.
    pub fn snapshot(&self, at: &Address) -> Snapshot {
        Snapshot {
            stripe: self.stripe(at.resource()).load(Ordering::Acquire),
            patterns: self.patterns.load(Ordering::Acquire),
            generation: self.present[at.partition() as usize].generation(),
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
        mut meta: Meta,
        snapshot: &Snapshot,
        now: u64,
    ) -> Inserted<K, V>
    where
        K: Eq,
    {
        self.put(key, value, at, &mut meta, snapshot, now)
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
                left.push(self.account(entry));
            }
            let version = self.fence.version();
            while let Some(entry) = shelf.reap(version, &mut steps, |entry| self.is_current(entry)) {
                left.push(self.account(entry));
            }
            shard.publish(&shelf);
        }
        self.listener.tell(&left);
        left
    }
}

#[inline]
fn facts(notes: Notes, epoch: u64, hard_expiry: u64) -> Facts {
    Facts {
        origin: Origin { epoch, seq: notes.seq },
        version: notes.version,
        load_start: notes.load_start(),
        born: notes.born,
        soft_expiry: notes.soft_expiry(),
        hard_expiry,
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
    pub(crate) fn stripe(&self, resource: u64) -> &AtomicU64 {
        &self.stripes[(resource >> 24) as usize & (STRIPES - 1)]
    }

    #[cold]
    fn tend(&self, shard: &Shard<K, V, P>) {
        if let Some(mut shelf) = shard.shelf.try_write() {
            shelf.policy_mut().tend();
        }
    }

    /// Neither flushed nor stamped since. One compare unless the partition changed.
    pub(crate) fn is_current(&self, entry: Parts<'_, K, V>) -> bool {
        let (_, version) = self.present[entry.back.home.partition() as usize].read();
        entry.front.was_alive_at(version) || self.judge(entry)
    }

    #[cold]
    fn judge(&self, entry: Parts<'_, K, V>) -> bool {
        let Parts { front, notes, back } = entry;
        let (partition, alive) = (back.home.partition(), front.alive_at());
        let verdict = self.fence.judge(partition, alive, self.own_group, &back.groups, notes.seq);
        if let Some(version) = verdict {
            front.found_alive(version);
        }
        verdict.is_some()
    }

    /// Judges, and tells the epoch of an entry that is alive.
    #[cold]
    fn judge_again(&self, shelf: &Shelf<K, V, P>, slot: u32) -> Option<u64> {
        let entry = shelf.get(slot)?;
        if !self.judge(entry) {
            return None;
        }
        let (epoch, version) = self.present[entry.back.home.partition() as usize].read();
        if entry.front.was_alive_at(version) { Some(epoch) } else { self.epoch(shelf, slot, entry) }
    }

    /// Whether a usual newcomer may come in: the version at which it is alive. `None`: that has to be looked at closer.
    #[inline(always)]
    pub(crate) fn admits(&self, at: &Address, meta: &Meta, snapshot: &Snapshot) -> Option<u64> {
        let stripe = self.stripe(at.resource()).load(Ordering::Acquire);
        let patterns = self.patterns.load(Ordering::Acquire);
        if stripe != snapshot.stripe && !mutated!("l1_race_insert_after_event")
            || patterns != snapshot.patterns && !mutated!("l1_race_insert_after_pattern")
        {
            return None;
        }
        self.present[at.partition() as usize].admits(snapshot.generation, &meta.origin)
    }

    /// Judges a newcomer. `None`: it is dead.
    #[inline]
    pub(crate) fn admit(&self, at: &Address, meta: &Meta, snapshot: &Snapshot) -> Option<Admission> {
        self.fence.admit(at.partition(), snapshot.generation, self.own_group, &meta.groups, &meta.origin)
    }

    /// The epoch of an entry's origin; `None` if a newer one has begun since, so that it is dead.
    pub(crate) fn epoch(&self, shelf: &Shelf<K, V, P>, slot: u32, entry: Parts<'_, K, V>) -> Option<u64> {
        if entry.front.is_stray() {
            return shelf.stray_epoch(slot);
        }
        self.fence.epoch_at(entry.back.home.partition(), entry.front.alive_at())
    }

    /// Whether the entry reflects the event and need not be dropped.
    pub(crate) fn reflects(
        &self,
        shelf: &Shelf<K, V, P>,
        slot: u32,
        entry: Parts<'_, K, V>,
        event: Origin,
    ) -> bool {
        let seq = entry.notes.seq;
        seq >= event.seq
            && !mutated!("l1_event_spares_none")
            && (mutated!("l1_event_of_any_epoch")
                || self.epoch(shelf, slot, entry).is_some_and(|epoch| Origin { epoch, seq }.reflects(event)))
    }

    /// Gives back the room of one that left.
    pub(crate) fn account(&self, left: Left<K, V>) -> Left<K, V> {
        self.budget.release(left.bytes);
        left
    }

    /// Why the snapshot no longer holds.
    pub(crate) fn moved(&self, at: &Address, snapshot: &Snapshot) -> Option<Refusal> {
        let stripe = self.stripe(at.resource()).load(Ordering::Acquire);
        let patterns = self.patterns.load(Ordering::Acquire);
        if self.fence.generation(at.partition()) != snapshot.generation
            && !mutated!("l1_race_insert_after_flush")
        {
            Some(Refusal::Flushed)
        } else if stripe != snapshot.stripe && !mutated!("l1_race_insert_after_event")
            || patterns != snapshot.patterns && !mutated!("l1_race_insert_after_pattern")
        {
            Some(Refusal::Invalidated)
        } else {
            None
        }
    }
}
