//! A slot that an eviction leaves stays filed on the timing wheel for its next tenant: that one is found on time all the
//! same, whether it expires later, earlier or never.

use std::sync::Arc;

use cache_l1::{Address, Cause, Config, Fence, L1, Meta};
use cache_policy::Fifo;

const NEVER: u64 = u64::MAX;

/// Room for one entry, so each takes the slot of the one before.
struct Narrow(L1<u64, u64, Fifo>);

impl Narrow {
    fn new() -> Self {
        let config = Config { entries_max: 1, bytes_max: u64::MAX, shards: None, own_group: 1 };
        Self(L1::new(config, Arc::new(Fence::new(1)), Fifo::new))
    }

    fn insert(&self, key: u64, hard_expiry: u64, now: u64) {
        let at = Address::bare(key.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0);
        let meta = Meta { hard_expiry, ..Meta::default() };
        assert!(self.0.insert(key, key, &at, meta, &self.0.snapshot(&at), now).stored());
        self.0.validate();
    }

    fn expired(&self, now: u64) -> Vec<u64> {
        let left = self.0.sweep(now, usize::MAX);
        self.0.validate();
        assert!(left.iter().all(|left| left.cause == Cause::Expired));
        left.iter().map(|left| left.key).collect()
    }
}

#[test]
fn a_tenant_that_expires_later_than_the_one_before_is_found_on_time() {
    for later in [1, 63, 64, 5_000, 1 << 40] {
        let tier = Narrow::new();
        tier.insert(1, 1_000, 0);
        tier.insert(2, 1_000 + later, 0);
        assert_eq!(tier.expired(999 + later), [], "{later}");
        assert_eq!(tier.expired(1_000 + later), [2], "{later}");
    }
}

#[test]
fn a_tenant_that_expires_earlier_than_the_one_before_is_found_on_time() {
    for earlier in [1, 63, 64, 5_000] {
        let tier = Narrow::new();
        tier.insert(1, 10_000, 0);
        tier.insert(2, 10_000 - earlier, 0);
        assert_eq!(tier.expired(9_999 - earlier), [], "{earlier}");
        assert_eq!(tier.expired(10_000 - earlier), [2], "{earlier}");
    }
}

#[test]
fn a_tenant_that_never_expires_is_not_taken_for_the_one_before() {
    let tier = Narrow::new();
    tier.insert(1, 1_000, 0);
    tier.insert(2, NEVER, 0);
    assert_eq!(tier.expired(NEVER - 1), []);
    tier.insert(3, NEVER, NEVER - 1);
    assert_eq!((tier.0.len(), tier.expired(NEVER - 1)), (1, vec![]));
}

#[test]
fn a_slot_without_a_next_tenant_does_no_harm() {
    let tier = Narrow::new();
    tier.insert(1, 1_000, 0);
    let at = Address::bare(0x9e37_79b9_7f4a_7c15, 0);
    assert!(tier.0.remove(&1, &at).is_some());
    tier.0.validate();
    assert_eq!(tier.expired(5_000), []);
    tier.insert(2, 6_000, 5_000);
    assert_eq!(tier.expired(6_000), [2]);
}
