//! The table *event → scopes* is complete, and nothing in it is idle: after random changes every cached read is the
//! ledger's answer, and with any entry of the table left out some cached read is not.

use std::sync::Arc;

use cache_embedded::{EmbeddedConfig, EmbeddedServer};
use cache_events::{EventKind, NodeId};
use cache_marketplace::audit::{Comparison, compare};
use cache_marketplace::touches::{TABLE, Touch, row, scopes};
use cache_marketplace::{Committed, Ledger, Marketplace, declare, kinds};
use cache_policy::PolicyKind;
use cache_tiered::{CoarseClock, EventDraft, Freshness, ReadOptions, TieredCache};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::operations::{Op, op};
use crate::random_operations::World;

fn node(server: &EmbeddedServer, name: &str, ledger: Arc<dyn Ledger>) -> Marketplace {
    let (store, transport) = (Arc::new(server.clone()), Arc::new(server.clone()));
    let builder =
        TieredCache::builder(NodeId::new(name).unwrap(), store, transport, |n| PolicyKind::Sieve.family(n));
    let cache = declare(builder, |_, settings| settings).unwrap().start().unwrap();
    Marketplace::new(cache, ledger).unwrap()
}

/// Publishes a change by its row, less what is left out.
async fn publish(
    market: &Marketplace,
    committed: &Committed,
    left_out: Option<&(EventKind, Touch)>,
) -> cache_events::WriteToken {
    let event = &committed.event;
    let is_left_out = |touch: &Touch| left_out.is_some_and(|(kind, out)| *kind == event.kind && out == touch);
    let row: Vec<Touch> =
        row(&event.kind).unwrap().iter().copied().filter(|touch| !is_left_out(touch)).collect();
    let mut draft = EventDraft::new(event.kind.clone(), event.resource_id());
    draft.scopes = scopes(&row, &event.subject).unwrap();
    market.cache().publish(draft).await.unwrap().token
}

/// Runs operations on one node, reading everything after each on both, and stops at the first difference.
fn run(ops: Vec<Op>, left_out: Option<&(EventKind, Touch)>) -> Comparison {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new();
        let server = EmbeddedServer::new(EmbeddedConfig::default(), Arc::new(CoarseClock::new()));
        let [writer, other] = ["writer", "other"].map(|name| node(&server, name, world.ledger.clone()));
        let mut sum = Comparison::default();
        for op in ops {
            for market in [&writer, &other] {
                // That it is not there yet is cached too.
                market.booking(&world.next_booking()).await.unwrap();
            }
            for committed in world.run(op).await {
                let token = publish(&writer, &committed, left_out).await;
                assert!(other.cache().reached(&token, std::time::Duration::from_secs(10)).await);
            }
            // What is left out is left out on every node: one is enough to see it.
            let judged = if left_out.is_some() { 1 } else { 2 };
            for market in [&writer, &other].into_iter().take(judged) {
                let found = compare(market).await.unwrap();
                sum.compared += found.compared;
                sum.from_l1 += found.from_l1;
                sum.different += found.different;
                sum.told.extend(found.told);
            }
            if sum.different > 0 {
                break;
            }
        }
        writer.cache().stop().await;
        other.cache().stop().await;
        sum
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_cached_read_is_the_ledgers_answer(ops in proptest::collection::vec(op(), 1..30)) {
        let found = run(ops.clone(), None);
        prop_assert_eq!(found.different, 0, "{:#?}", found.told);
        // It is the cache that is compared, and not the ledger with itself.
        prop_assert!(ops.len() < 5 || found.from_l1 * 3 > found.compared, "{} of {}", found.from_l1, found.compared);
    }
}

#[test]
fn without_any_one_entry_of_the_table_a_cached_read_is_wrong() {
    const TRIES: usize = 40;
    let mut runner = TestRunner::deterministic();
    let random = proptest::collection::vec(op(), 25..40);
    let mut sequences = vec![the_last_gpu_is_called_off(&mut runner)];
    sequences.extend((0..TRIES).map(|_| random.new_tree(&mut runner).unwrap().current()));
    let mut idle = Vec::new();
    for (kind, touches) in TABLE {
        // No ledger makes such a change; programs may publish it for a book of their own.
        for &touch in touches.iter().filter(|_| kind != kinds::ORDER_BOOK_UPDATED) {
            let left_out = (kind.clone(), touch);
            if !sequences.iter().any(|ops| run(ops.clone(), Some(&left_out)).different > 0) {
                idle.push(left_out);
            }
        }
    }
    assert!(idle.is_empty(), "the test does not find that these are missing: {idle:?}");
}

/// A GPU that its provider no longer offers stays for its booking, and goes with it: rare at random.
fn the_last_gpu_is_called_off(runner: &mut TestRunner) -> Vec<Op> {
    let at = any::<prop::sample::Index>().new_tree(runner).unwrap().current();
    let offer = |count| Op::Offers { provider: 0, model: 0, region: 0, count, min: 1, more: 0 };
    vec![offer(1), Op::Book { at, starts_in: 0, lasts: 1_000 }, offer(0), Op::Cancel { at }]
}

#[test]
fn a_read_as_fresh_as_the_token_of_a_change_sees_it_on_another_node() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ledger = Arc::new(cache_marketplace::MemoryLedger::new());
        let server = EmbeddedServer::new(EmbeddedConfig::default(), Arc::new(CoarseClock::new()));
        let [writer, other] = ["writer", "other"].map(|name| node(&server, name, ledger.clone()));
        ledger.set_offers(crate::offer("p", "europe", 2, (5, 5)), 1).await.unwrap();
        assert_eq!(other.price(&crate::europe()).await.unwrap().value.unwrap().base_price_per_hour.0, 5);
        let made = writer.update_gpu_pricing("H100", cache_marketplace::MicroUsd(9), "europe").await.unwrap();
        assert!(made.published && made.outcome.len() == 1);
        let options = ReadOptions { freshness: Freshness::AtLeast(made.token), ..ReadOptions::default() };
        let seen = other.reading(options).price(&crate::europe()).await.unwrap();
        assert_eq!(seen.value.unwrap().base_price_per_hour.0, 9);
        writer.cache().stop().await;
        other.cache().stop().await;
    });
}
