//! GPUs that are put up one by one, and searches over all of them.

use cache_marketplace::ledger::{FIGURE_MAX, PAGE_MAX, PRICE_MAX};
use cache_marketplace::{
    AvailabilityStatus, GpuRegistration, Hardware, Ledger, LedgerError, MemoryLedger, MicroUsd,
    ProviderState, Ranking, Search, kinds,
};

use crate::{europe, offer, sound};

fn registration(gpu_id: &str, region: &str, price: u64) -> GpuRegistration {
    GpuRegistration {
        gpu_id: gpu_id.into(),
        provider_id: "p".into(),
        gpu_type: "H100".into(),
        region: region.into(),
        hardware: Hardware { memory_gb: 96, cuda_cores: 1, performance_score: 1_000 },
        base_price_per_hour: MicroUsd(price),
        status: None,
    }
}

#[tokio::test]
async fn a_gpu_is_put_up_changed_and_left_alone_by_offers() {
    let ledger = MemoryLedger::new();
    let put = |gpu, now| ledger.put_gpu(gpu, now);
    let made = put(registration("p/H100/2", "europe", 5), 1).await.unwrap();
    assert_eq!((made.len(), &made[0].event.kind), (1, &kinds::GPU_AVAILABILITY_CHANGED));
    assert_eq!(put(registration("p/H100/2", "europe", 5), 2).await.unwrap(), []);
    sound(&ledger);

    ledger.set_offers(offer("p", "europe", 2, (7, 8)), 3).await.unwrap();
    assert_eq!(ledger.gpu_ids(), ["p/H100/1", "p/H100/2", "p/H100/3"]);
    ledger.set_offers(offer("p", "europe", 0, (7, 8)), 4).await.unwrap();
    let of_market = ledger.availability(&europe()).await.unwrap().value.unwrap();
    assert_eq!((of_market.total, of_market.available), (1, 1));
    assert_eq!(ledger.provider("p").await.unwrap().value.unwrap().gpus, 1);
    sound(&ledger);

    let moved = GpuRegistration {
        status: Some(AvailabilityStatus::Maintenance),
        ..registration("p/H100/2", "us-east", 6)
    };
    let moved = put(moved, 5).await.unwrap();
    assert_eq!(moved[0].event.subject.markets.len(), 2);
    let gpu = ledger.gpu("p/H100/2").await.unwrap().value.unwrap();
    assert_eq!((&*gpu.region, gpu.base_price_per_hour.0, gpu.memory_gb), ("us-east", 6, 96));
    assert_eq!(gpu.availability_status, AvailabilityStatus::Maintenance);
    sound(&ledger);

    ledger.set_provider_status("p", ProviderState::Offline, 6).await.unwrap();
    let gpu = ledger.gpu("p/H100/2").await.unwrap().value.unwrap();
    assert_eq!(gpu.availability_status, AvailabilityStatus::Offline);
    sound(&ledger);
}

#[tokio::test]
async fn what_a_gpu_cannot_be_names_the_field_and_changes_nothing() {
    let ledger = MemoryLedger::new();
    ledger.set_offers(offer("p", "europe", 1, (7, 8)), 1).await.unwrap();
    ledger.put_gpu(registration("mine", "europe", 5), 2).await.unwrap();
    type Edit = fn(&mut GpuRegistration);
    let fields: [(&str, Edit); 9] = [
        ("gpu_id", |gpu| gpu.gpu_id.clear()),
        ("provider_id", |gpu| gpu.provider_id = "q".into()),
        ("provider_id", |gpu| gpu.provider_id = "a/b".into()),
        ("gpu_type", |gpu| gpu.gpu_type = "A100".into()),
        ("gpu_type", |gpu| gpu.gpu_type = "all".into()),
        ("region", |gpu| gpu.region.clear()),
        ("region", |gpu| (gpu.gpu_id, gpu.region) = ("p/H100/1".into(), "us-east".into())),
        ("base_price_per_hour", |gpu| gpu.base_price_per_hour.0 = PRICE_MAX.0 + 1),
        ("cuda_cores", |gpu| gpu.hardware.cuda_cores = FIGURE_MAX + 1),
    ];
    for (wrong, edit) in fields {
        let mut gpu = registration("mine", "europe", 6);
        edit(&mut gpu);
        let error = ledger.put_gpu(gpu, 3).await.unwrap_err();
        assert!(matches!(error, LedgerError::Invalid { field, .. } if field == wrong), "{wrong}: {error}");
    }
    assert_eq!(ledger.gpu("mine").await.unwrap().value.unwrap().base_price_per_hour, MicroUsd(5));
    sound(&ledger);
}

#[tokio::test]
async fn a_search_shows_what_is_on_offer_and_has_the_version_of_its_market() {
    let ledger = MemoryLedger::new();
    ledger.set_offers(offer("p", "europe", 3, (7, 8)), 1).await.unwrap();
    ledger.set_offers(offer("p", "europe", 2, (7, 8)), 2).await.unwrap();
    ledger.put_gpu(registration("mine", "us-east", 5), 3).await.unwrap();
    let ids = async |search: Search| {
        let found = ledger.search(&search).await.unwrap();
        let ids: Vec<String> = found.value.gpus.into_iter().map(|gpu| gpu.gpu_id).collect();
        (ids.join(" "), found.version.0)
    };
    assert_eq!(ids(Search::default()).await, ("mine p/H100/1 p/H100/2".into(), 3));
    let region = Some("europe".to_owned());
    assert_eq!(ids(Search { region, ..Search::default() }).await, ("p/H100/1 p/H100/2".into(), 2));
    let (ranking, limit) = (Ranking::Performance, 1);
    assert_eq!(ids(Search { ranking, limit, ..Search::default() }).await, ("mine".into(), 3));
    let gpu_type = Some("unknown".to_owned());
    assert_eq!(ids(Search { gpu_type, ..Search::default() }).await, (String::new(), 0));
    for limit in [0, PAGE_MAX + 1] {
        let error = ledger.search(&Search { limit, ..Search::default() }).await.unwrap_err();
        assert!(matches!(error, LedgerError::Invalid { field: "limit", .. }), "{error}");
    }
}
