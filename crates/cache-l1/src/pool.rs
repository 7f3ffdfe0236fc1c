//! One bound in bytes for many tiers: each has a share that is its own, and may borrow what the others leave unused.
//!
//! The shares add up to no more than the pool, so whoever holds less than its share can always get it: the pool is full
//! only if others hold more than theirs, and these give back. A tier that holds more than its share borrows; it takes
//! from whoever borrows more than itself, so that what is free is shared evenly, and else from itself. Who gives: first
//! the tiers that are not critical, among them the one that borrows most, and there the entries that its policy values
//! least. Critical tiers give when no other borrows, and never to a borrower that is not critical.
//!
//! Whole entries leave, so a giver may end below its share by less than one entry, and may claim that back.
//!
//! Room is taken before an entry is stored, as in a tier's own [budget](crate::budget), so the bound holds at every moment
//! and without slack. What a claim freed belongs to the claimant at once: it is not put back for all to take, or a
//! tier with many inserts could starve one with few.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use crate::sync::{AtomicU64, Ordering::Relaxed, RwLock};

/// Gives bytes back to a [`Pool`]; every [`L1`](crate::L1) does.
pub trait Borrower: Send + Sync {
    /// Lets entries go until so many bytes are free, or none is left; says how many are. They are not put back into the
    /// pool: the caller has them.
    fn give_back(&self, bytes: u64) -> u64;
}

/// A bound in bytes over several tiers. See [`L1::within`](crate::L1::within).
///
/// ```
/// use std::sync::Arc;
///
/// use cache_l1::{Address, Config, Fence, L1, Meta, Pool};
/// use cache_policy::{PolicyKind, build};
///
/// let pool = Arc::new(Pool::new(100_000));
/// let tier = |share| {
///     let config = Config { entries_max: 1_000, bytes_max: 0, shards: None, own_group: 1 };
///     let l1: L1<u64, u64> = L1::new(config, Arc::new(Fence::new(1)), |hint| build(PolicyKind::Lru, hint));
///     let l1 = Arc::new(l1.within(&pool, share, false).expect("the shares fit"));
///     l1.open_to_claims(Arc::downgrade(&l1) as _);
///     l1
/// };
/// let (owner, borrower) = (tier(60_000), tier(20_000));
/// let fill = |l1: &L1<u64, u64>| {
///     for key in 0..100 {
///         let at = Address::bare(key << 40 | key, 0);
///         let meta = Meta { hard_expiry: u64::MAX, weight: 1_000, ..Meta::default() };
///         assert!(l1.insert(key, key, &at, meta, &l1.snapshot(&at), 0).stored());
///     }
/// };
/// fill(&borrower);
/// assert!(borrower.bytes() > 90_000, "nobody else wants it");
/// fill(&owner);
/// assert!(owner.bytes() >= 59_000, "its share is its own");
/// assert!(owner.bytes() + borrower.bytes() <= 100_000);
/// ```
pub struct Pool {
    bytes_max: u64,
    bytes: AtomicU64,
    members: RwLock<Vec<Arc<Member>>>,
}

struct Member {
    share: u64,
    critical: bool,
    held: AtomicU64,
    borrower: OnceLock<Weak<dyn Borrower>>,
}

impl Member {
    /// How much more than its share it would hold with so much more.
    fn borrowed_with(&self, bytes: u64) -> u64 {
        self.held.load(Relaxed).saturating_add(bytes).saturating_sub(self.share)
    }
}

impl Pool {
    /// A pool of so many bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: AtomicU64::new(0), members: RwLock::new(Vec::new()) }
    }

    /// Most bytes there can be, over all members.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Bytes that the members hold, what is on its way from one to another included.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Bytes that are promised to members.
    pub fn shares(&self) -> u64 {
        self.members.read().iter().map(|member| member.share).sum()
    }

    /// Panics, saying what, if the members' sums are not the pool's. For tests, while nobody inserts.
    pub fn validate(&self) {
        let held: u64 = self.members.read().iter().map(|member| member.held.load(Relaxed)).sum();
        assert_eq!(held, self.bytes(), "bytes of the members and of their pool");
        assert!(held <= self.bytes_max, "{held} bytes are above the bound of the pool");
    }

    /// Takes room, if there is so much.
    fn take(&self, bytes: u64) -> bool {
        let fits = |held: u64| held <= self.bytes_max || mutated!("l1_pool_unbounded");
        let more = |held: u64| held.checked_add(bytes).filter(|&held| fits(held));
        if mutated!("l1_race_pool_looked_then_took") {
            let fits = more(self.bytes()).is_some();
            self.bytes.fetch_add(if fits { bytes } else { 0 }, Relaxed);
            return fits;
        }
        bytes == 0 || self.bytes.fetch_update(Relaxed, Relaxed, more).is_ok()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, bytes_max) = (self.bytes(), self.bytes_max);
        f.debug_struct("Pool").field("bytes", &bytes).field("bytes_max", &bytes_max).finish_non_exhaustive()
    }
}

/// One tier's place in a pool.
pub(crate) struct Portion {
    pool: Arc<Pool>,
    own: Arc<Member>,
}

impl Portion {
    /// Nothing if the shares would add up to more than the pool.
    pub(crate) fn new(pool: &Arc<Pool>, share: u64, critical: bool) -> Option<Self> {
        let mut members = pool.members.write();
        let shares: u64 = members.iter().map(|member| member.share).sum();
        if shares.checked_add(share).is_none_or(|shares| shares > pool.bytes_max) {
            return None;
        }
        let own = Member { share, critical, held: AtomicU64::new(0), borrower: OnceLock::new() };
        let own = Arc::new(own);
        members.push(own.clone());
        Some(Self { pool: pool.clone(), own })
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn held(&self) -> u64 {
        self.own.held.load(Relaxed)
    }

    pub(crate) fn share(&self) -> u64 {
        self.own.share
    }

    pub(crate) fn open_to_claims(&self, borrower: Weak<dyn Borrower>) {
        // A second time it is the same tier again.
        let _ = self.own.borrower.set(borrower);
    }

    /// Takes room out of the pool, from what was claimed first.
    pub(crate) fn reserve(&self, bytes: u64, claimed: &mut u64) -> bool {
        let missing = bytes.saturating_sub(*claimed);
        // First what it holds, then what is taken, and the other way round when it goes: so what is taken is never more
        // than what somebody can be asked for.
        self.own.held.fetch_add(missing, Relaxed);
        if !self.pool.take(missing) {
            self.own.held.fetch_sub(missing, Relaxed);
            return false;
        }
        *claimed = claimed.saturating_sub(bytes);
        true
    }

    /// Whether there is no room for so much.
    pub(crate) fn is_full(&self, bytes: u64) -> bool {
        self.pool.bytes().saturating_add(bytes) > self.pool.bytes_max
    }

    /// What left the tier, or was claimed and not used, goes back.
    pub(crate) fn release(&self, bytes: u64) {
        self.pool.bytes.fetch_sub(bytes, Relaxed);
        self.hand_over(bytes);
    }

    /// What left the tier is somebody else's.
    pub(crate) fn hand_over(&self, bytes: u64) {
        self.own.held.fetch_sub(bytes, Relaxed);
    }

    /// Whether somebody has to give for so much more. Asked under a lock: only compares.
    pub(crate) fn may_claim(&self, bytes: u64) -> bool {
        // Within its share there is room, or another is about to make it.
        self.own.borrowed_with(bytes) == 0 || {
            let members = self.pool.members.read();
            members.iter().any(|member| self.owed_by(member, bytes) > 0)
        }
    }

    /// What a member has to give, at most, for so much more here.
    fn owed_by(&self, member: &Arc<Member>, bytes: u64) -> u64 {
        let borrowing = self.own.borrowed_with(bytes);
        let spared = borrowing > 0 && member.critical && !self.own.critical;
        if Arc::ptr_eq(member, &self.own) || spared || member.borrower.get().is_none() {
            return 0;
        }
        let owed = member.borrowed_with(0).saturating_sub(borrowing);
        if mutated!("l1_pool_takes_shares") { member.held.load(Relaxed) } else { owed }
    }

    /// Has others give until so much can be stored; says how much they gave. Takes locks of other tiers: to be called
    /// without one.
    pub(crate) fn claim(&self, bytes: u64) -> u64 {
        let mut givers: Vec<_> = {
            let members = self.pool.members.read();
            let owing = members.iter().map(|member| (member.clone(), self.owed_by(member, bytes)));
            owing.filter(|&(_, owed)| owed > 0).collect()
        };
        let critical_last = !mutated!("l1_pool_critical_gives");
        givers.sort_by_key(|(member, owed)| (member.critical && critical_last, std::cmp::Reverse(*owed)));
        let missing = |claimed: u64| {
            let free = self.pool.bytes_max.saturating_sub(self.pool.bytes());
            bytes.saturating_sub(free).saturating_sub(claimed)
        };
        let mut claimed = 0;
        for (member, owed) in givers {
            let asked = missing(claimed).min(owed);
            if asked > 0
                && let Some(borrower) = member.borrower.get().and_then(Weak::upgrade)
            {
                let given = borrower.give_back(asked);
                self.own.held.fetch_add(given, Relaxed);
                claimed += given;
            }
        }
        // No more than is needed is kept from the others.
        let excess = claimed.saturating_sub(bytes);
        if excess > 0 {
            self.release(excess);
        }
        claimed - excess
    }
}

impl Drop for Portion {
    /// The tier is gone, with all it held.
    fn drop(&mut self) {
        self.pool.members.write().retain(|member| !Arc::ptr_eq(member, &self.own));
        self.pool.bytes.fetch_sub(self.own.held.load(Relaxed), Relaxed);
    }
}

impl fmt::Debug for Portion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Portion").field("share", &self.own.share).finish_non_exhaustive()
    }
}
