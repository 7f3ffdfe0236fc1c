//! What providers offer, and what it costs.

use cache_events::Version;
use cache_marketplace::{
    AvailabilityStatus, BookOutcome, Ledger, LedgerError, MemoryLedger, MicroUsd, Permille, Pricing,
    ProviderState, kinds,
};

use crate::{HOUR, europe, offer, request, sound};

async fn status(ledger: &MemoryLedger, gpu_id: &str) -> AvailabilityStatus {
    ledger.gpu(gpu_id).await.unwrap().value.unwrap().availability_status
}

#[tokio::test]
async fn an_offer_names_its_gpus_and_prices_them() {
    let ledger = MemoryLedger::new();
    let committed = ledger.set_offers(offer("p", "europe", 3, (1_650_000, 1_700_000)), 10).await.unwrap();
    assert_eq!(committed.len(), 1);
    assert_eq!(committed[0].event.kind, kinds::GPU_AVAILABILITY_CHANGED);
    assert_eq!(ledger.gpu_ids(), ["p/H100/1", "p/H100/2", "p/H100/3"]);
    let first = ledger.gpu("p/H100/1").await.unwrap();
    assert_eq!(first.version, committed[0].version);
    let first = first.value.unwrap();
    assert_eq!((first.base_price_per_hour, first.last_updated), (MicroUsd(1_650_000), 10));
    let second = ledger.gpu("p/H100/2").await.unwrap().value.unwrap();
    assert_eq!(second.base_price_per_hour, MicroUsd(1_700_000));
    let book = ledger.order_book(&europe()).await.unwrap().value.unwrap();
    assert_eq!(book.best_price, Some(MicroUsd(1_650_000)));
    assert_eq!(book.levels.iter().map(|level| level.count).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(ledger.provider("p").await.unwrap().value.unwrap().gpus, 3);
    sound(&ledger);
}

#[tokio::test]
async fn the_same_offer_again_changes_nothing() {
    let ledger = MemoryLedger::new();
    ledger.set_offers(offer("p", "europe", 3, (100, 200)), 10).await.unwrap();
    assert_eq!(ledger.set_offers(offer("p", "europe", 3, (100, 200)), 20).await.unwrap(), []);
    assert_eq!(ledger.availability(&europe()).await.unwrap().version, Version(1));
}

#[tokio::test]
async fn price_and_number_are_two_changes() {
    let ledger = MemoryLedger::new();
    ledger.set_offers(offer("p", "europe", 3, (100, 200)), 10).await.unwrap();
    let committed = ledger.set_offers(offer("p", "europe", 2, (100, 300)), 20).await.unwrap();
    let kinds: Vec<_> = committed.iter().map(|change| change.event.kind.clone()).collect();
    assert_eq!(kinds, [kinds::PRICING_UPDATED, kinds::GPU_AVAILABILITY_CHANGED]);
    assert_eq!(committed[0].event.subject.gpu_ids, ["p/H100/2", "p/H100/3"]);
    assert_eq!(committed[1].event.subject.gpu_ids, ["p/H100/3"]);
    assert_eq!(ledger.gpu("p/H100/1").await.unwrap().version, Version(1));
}

#[tokio::test]
async fn fewer_offers_withdraw_the_highest_that_nobody_booked() {
    let ledger = MemoryLedger::new();
    ledger.set_offers(offer("p", "europe", 4, (100, 100)), 0).await.unwrap();
    ledger.book(request("b", "p/H100/4", 0, HOUR), 0).await.unwrap();
    ledger.set_offers(offer("p", "europe", 2, (100, 100)), 1).await.unwrap();
    assert_eq!(status(&ledger, "p/H100/1").await, AvailabilityStatus::Available);
    assert_eq!(status(&ledger, "p/H100/2").await, AvailabilityStatus::Offline);
    assert_eq!(status(&ledger, "p/H100/3").await, AvailabilityStatus::Offline);
    assert_eq!(status(&ledger, "p/H100/4").await, AvailabilityStatus::Busy);
    assert_eq!(ledger.availability(&europe()).await.unwrap().value.unwrap().total, 2);

    // All gone: the booked one stays until its booking ends.
    ledger.set_offers(offer("p", "europe", 0, (0, 0)), 2).await.unwrap();
    assert_eq!(status(&ledger, "p/H100/4").await, AvailabilityStatus::Busy);
    let ended = ledger.pass_time(HOUR).await.unwrap();
    assert_eq!(ended.len(), 1);
    assert_eq!(status(&ledger, "p/H100/4").await, AvailabilityStatus::Offline);
    assert_eq!(ledger.price(&europe()).await.unwrap().value, None);
    sound(&ledger);

    ledger.set_offers(offer("p", "europe", 5, (100, 100)), HOUR).await.unwrap();
    assert_eq!(ledger.gpu_ids().len(), 5);
    assert_eq!(ledger.availability(&europe()).await.unwrap().value.unwrap().available, 5);
    sound(&ledger);
}

#[tokio::test]
async fn a_provider_that_moves_takes_its_gpus_along() {
    let ledger = MemoryLedger::new();
    ledger.set_offers(offer("p", "europe", 2, (100, 100)), 0).await.unwrap();
    let committed = ledger.set_offers(offer("p", "us-east", 2, (100, 100)), 1).await.unwrap();
    assert_eq!(committed[0].event.subject.markets.len(), 2);
    assert_eq!(ledger.availability(&europe()).await.unwrap().value.unwrap().total, 0);
    assert_eq!(ledger.gpu("p/H100/2").await.unwrap().value.unwrap().region, "us-east");
    sound(&ledger);
}

#[tokio::test]
async fn a_provider_that_leaves_takes_all_its_gpus_with_it() {
    let ledger = MemoryLedger::new();
    ledger.set_offers(offer("p", "europe", 2, (100, 100)), 0).await.unwrap();
    ledger.set_offers(offer("q", "europe", 1, (300, 300)), 0).await.unwrap();
    let gone = ledger.set_provider_status("p", ProviderState::Maintenance, 1).await.unwrap();
    assert_eq!(status(&ledger, "p/H100/1").await, AvailabilityStatus::Maintenance);
    assert_eq!(ledger.gpu("p/H100/1").await.unwrap().version, gone[0].version);
    let outcome = ledger.book(request("b", "p/H100/1", 1, 2), 1).await.unwrap();
    assert_eq!(outcome, BookOutcome::NotForRent(AvailabilityStatus::Maintenance));
    assert_eq!(ledger.order_book(&europe()).await.unwrap().value.unwrap().levels.len(), 1);
    // A third is free: the price of what is left went up, and with it that of the other provider's GPU.
    assert_eq!(ledger.gpu("q/H100/1").await.unwrap().value.unwrap().current_price_per_hour, MicroUsd(360));
    assert_eq!(ledger.gpu("q/H100/1").await.unwrap().version, gone[0].version);
    assert_eq!(ledger.set_provider_status("p", ProviderState::Maintenance, 2).await.unwrap(), []);
    ledger.set_provider_status("p", ProviderState::Online, 3).await.unwrap();
    assert_eq!(status(&ledger, "p/H100/1").await, AvailabilityStatus::Available);
    sound(&ledger);
}

#[tokio::test]
async fn a_set_price_holds_for_the_whole_market_until_the_next_offer() {
    let ledger = MemoryLedger::new();
    ledger.set_offers(offer("p", "europe", 2, (100, 100)), 0).await.unwrap();
    ledger.set_offers(offer("q", "europe", 2, (300, 300)), 0).await.unwrap();
    let committed = ledger.set_price(&europe(), MicroUsd(200), 1).await.unwrap();
    assert_eq!(ledger.gpu("q/H100/2").await.unwrap().value.unwrap().base_price_per_hour, MicroUsd(200));
    assert_eq!(ledger.keys_of(&committed[0].event).unwrap().len(), 4 + 4 + 3);
    ledger.set_offers(offer("q", "europe", 3, (300, 300)), 2).await.unwrap();
    assert_eq!(ledger.gpu("p/H100/2").await.unwrap().value.unwrap().base_price_per_hour, MicroUsd(200));
    assert_eq!(ledger.gpu("q/H100/2").await.unwrap().value.unwrap().base_price_per_hour, MicroUsd(300));
    sound(&ledger);
}

#[tokio::test]
async fn scarcity_raises_the_price_and_its_rule_can_be_replaced() {
    struct HalfPrice;
    impl Pricing for HalfPrice {
        fn multiplier(&self, _: u64, _: u64) -> Permille {
            Permille(500)
        }
    }
    let usual = MemoryLedger::new();
    let replaced = MemoryLedger::with_pricing(std::sync::Arc::new(HalfPrice));
    for ledger in [&usual, &replaced] {
        ledger.set_offers(offer("p", "europe", 10, (1_000, 1_000)), 0).await.unwrap();
    }
    let mut prices = Vec::new();
    for n in 1..=10 {
        usual.book(request(&format!("b{n}"), &format!("p/H100/{n}"), 0, HOUR), 0).await.unwrap();
        prices.push(usual.price(&europe()).await.unwrap().value.unwrap().current_price_per_hour.0);
    }
    // 9 free of 10 … none of 10.
    assert_eq!(prices, [1000, 1000, 1000, 1000, 1000, 1200, 1200, 1500, 1500, 2000]);
    assert_eq!(replaced.price(&europe()).await.unwrap().value.unwrap().current_price_per_hour, MicroUsd(500));
    sound(&usual);
    sound(&replaced);
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_field() {
    let ledger = MemoryLedger::new();
    for (field, wrong) in [
        ("provider", offer("", "europe", 1, (1, 1))),
        ("provider", offer("a/b", "europe", 1, (1, 1))),
        ("region", offer("p", "eur@pe", 1, (1, 1))),
        ("count", offer("p", "europe", 10_001, (1, 1))),
    ] {
        let error = ledger.set_offers(wrong, 0).await.unwrap_err();
        assert!(matches!(error, LedgerError::Invalid { field: named, .. } if named == field), "{error}");
    }
    assert!(matches!(
        ledger.set_provider_status("nobody", ProviderState::Offline, 0).await,
        Err(LedgerError::Unknown { what: "provider", .. })
    ));
    assert!(ledger.set_gpu_status("nothing", AvailabilityStatus::Busy, 0).await.is_err());
    assert!(ledger.set_price(&europe(), MicroUsd(1), 0).await.is_err());
    assert_eq!(ledger.gpu_ids().len(), 0);
}

#[tokio::test]
async fn a_large_offer_is_announced_by_tag() {
    let ledger = MemoryLedger::new();
    let committed = ledger.set_offers(offer("p", "europe", 5_000, (100, 100)), 0).await.unwrap();
    let scopes = cache_marketplace::touches(&committed[0].event).unwrap();
    assert!(scopes.len() < 20, "{} scopes", scopes.len());
    assert_eq!(ledger.gpu("p/H100/4999").await.unwrap().version, committed[0].version);
    assert_eq!(ledger.keys_of(&committed[0].event).unwrap().len(), 5_000 + 1 + 4 + 4);
}
