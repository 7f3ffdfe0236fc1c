//! A hit in L1, through the whole engine with statistics on, allocates nothing.
#![allow(unsafe_code, reason = "a counting allocator is the only way to see allocations; it only delegates")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use cache_tiered::{AuditSettings, NamespaceSettings, NodeSettings, TieredCache};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system allocator unchanged; the counter is a thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

#[tokio::test]
async fn a_hit_allocates_nothing() {
    let (server, clock) = support::server();
    let cache = support::node(&server, &clock, "a").await;
    hits_allocate_nothing(&cache).await;
}

#[tokio::test]
async fn nor_does_one_that_the_auditor_watches() {
    let (server, clock) = support::server();
    let audit = AuditSettings { rate: 1.0, ..AuditSettings::default() };
    let cache = support::builder(&server, &clock, "a")
        .settings(NodeSettings { audit: Some(audit), ..NodeSettings::default() })
        .namespace::<String>(NamespaceSettings::new(support::ns("text")))
        .start()
        .expect("valid settings");
    support::joined(&cache).await;
    hits_allocate_nothing(&cache).await;
    cache.audit_now().await;
    let judged = support::text(&cache).stats().audit.expect("it is watched").judged;
    assert!(judged >= 10, "{judged} reads were noted");
}

async fn hits_allocate_nothing(cache: &TieredCache) {
    let text = support::text(cache);
    let key = text.key_with("k").param("region", "us").build().expect("valid");
    let _ = text.put(&key, "value".into()).await.expect("acknowledged");
    assert!(text.get(&key).await.expect("readable").is_some());
    let before = allocations();
    for _ in 0..1_000 {
        let answer = text.get(&key).await.expect("readable").expect("there");
        assert_eq!(answer.tier, cache_tiered::Tier::L1);
        assert!(text.resident(&key).is_some());
    }
    assert_eq!(allocations() - before, 0);
    drop(Box::new(1));
    assert!(allocations() > before, "the counter counts");
}
