//! A feed and a made-up market, replayed into the ledger.

use cache_marketplace::{Ledger, MemoryLedger, OfferFeed, SeededMarket, touches};

use crate::sound;

const FEED: &str = "\
ts,gpu_model,provider,offers,min_usd_per_gpu_hour,avg_usd_per_gpu_hour,regions
2025-10-19T21:01:58Z,A100_80GB_PCIe,hyperstack,5,1.35,1.36,CA
2025-10-19T21:01:58Z,H100_80GB_SXM5,runpod,3,2.69,2.99,US|CA
2025-10-19T21:32:10Z,H100_80GB_SXM5,runpod,9,2.69,2.99,CA
not a line
2025-10-19T22:02:11Z,A100_80GB_PCIe,hyperstack,0,,,
";

#[tokio::test]
async fn a_feed_is_replayed_row_by_row() {
    let ledger = MemoryLedger::new();
    let (mut changes, mut bad) = (0, vec![]);
    for row in OfferFeed::new(FEED.as_bytes()).unwrap() {
        match row {
            Ok(row) => changes += ledger.set_offers(row.offer, row.observed_at).await.unwrap().len(),
            Err(error) => bad.push(error.line),
        }
        sound(&ledger);
    }
    assert_eq!((changes, bad), (4, vec![5]));
    let stats = ledger.market_stats(None, None).await.unwrap().value.unwrap();
    assert_eq!((stats.total_gpus, stats.last_updated), (9, 1_760_911_331_000));
    assert_eq!(stats.average_price_per_hour.to_string(), "2.956667");
}

#[tokio::test]
async fn a_made_up_market_keeps_its_counts() {
    let ledger = MemoryLedger::new();
    let mut events = 0;
    for row in SeededMarket::new(3).take(600) {
        for change in ledger.set_offers(row.offer, row.observed_at).await.unwrap() {
            assert!(!touches(&change.event).unwrap().is_empty());
            events += 1;
        }
    }
    assert!(events > 300, "{events} changes of 600 rows");
    sound(&ledger);
}
