//! A hit, a miss and a snapshot allocate nothing.

#![allow(
    unsafe_code,
    reason = "a global allocator can only be implemented so; it passes everything on to the system's"
)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use cache_l1::{Address, Config, Fence, L1, Meta};
use cache_policy::contract::mix;
use cache_policy::{PolicyKind, build};

thread_local! {
    /// Per thread, so that the test harness does not disturb.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to `System` with the arguments it came with; the counter is a thread-local without
// a destructor and without an initialiser that allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn reading_allocates_nothing() {
    for kind in PolicyKind::ALL {
        let fence = Arc::new(Fence::new(1));
        let config = Config { entries_max: 10_000, bytes_max: u64::MAX, shards: None, own_group: 99 };
        let l1: L1<Arc<str>, Arc<Vec<u8>>> = L1::new(config, fence.clone(), |hint| build(kind, hint));
        let l1 = support::checked(l1);
        let at = |number: u64| Address::bare(mix(number + 1), 0);
        let keys: Vec<Arc<str>> = (0..10_000).map(|number| format!("gpu-{number}").into()).collect();
        for (number, key) in (0..).zip(&keys) {
            let idle = if number % 2 == 0 { 0 } else { 600 };
            let meta = Meta { hard_expiry: 1_000, idle, groups: vec![5].into(), ..Meta::default() };
            let at = at(number);
            assert!(l1.insert(key.clone(), Arc::new(vec![7; 100]), &at, meta, &l1.snapshot(&at), 0).stored());
        }
        fence.stamp(0, 6, 5); // so that every first hit is judged anew
        let before = ALLOCATIONS.get();
        let mut hits = 0;
        for _ in 0..3 {
            for (number, key) in (0..).zip(&keys) {
                hits += usize::from(l1.get(&**key, &at(number), 500).is_some());
                hits += usize::from(l1.get("absent", &at(number), 500).is_some());
                l1.snapshot(&at(number));
            }
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "{kind}");
        assert_eq!(hits, 30_000);
        drop(Box::new(1));
        assert!(ALLOCATIONS.get() > before, "the counter counts");
    }
}
