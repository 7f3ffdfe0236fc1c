//! Bookings: never two at once, each id once.

use std::sync::Arc;

use cache_marketplace::ledger::{BOOKING_MS_MAX, PRICE_MAX, START_LAG_MS_MAX, TIME_MAX};
use cache_marketplace::{
    AvailabilityStatus, BookOutcome, BookingStatus, CancelOutcome, Ledger, LedgerError, MemoryLedger,
    MicroUsd, kinds,
};

use crate::{DAY, HOUR, europe, offer, request, sound};

const GPU: &str = "p/H100/1";

async fn market() -> MemoryLedger {
    let ledger = MemoryLedger::new();
    ledger.set_offers(offer("p", "europe", 4, (1_000_000, 1_000_000)), 0).await.unwrap();
    ledger
}

#[tokio::test]
async fn a_booking_shows_everywhere_at_once() {
    let ledger = market().await;
    let outcome = ledger.book(request("b", GPU, 0, 2 * HOUR), 5).await.unwrap();
    let BookOutcome::Booked { booking, committed, repeated: false } = outcome else { panic!("{outcome:?}") };
    assert_eq!((booking.status, booking.total_cost), (BookingStatus::Active, MicroUsd(2_000_000)));
    assert_eq!(committed.event.kind, kinds::BOOKING_CREATED);
    assert_eq!(committed.event.resource_id(), "b");
    let gpu = ledger.gpu(GPU).await.unwrap();
    assert_eq!(gpu.value.unwrap().availability_status, AvailabilityStatus::Busy);
    let availability = ledger.availability(&europe()).await.unwrap();
    let book = ledger.order_book(&europe()).await.unwrap();
    let stats = ledger.market_stats(None, None).await.unwrap();
    let price = ledger.price(&europe()).await.unwrap();
    for version in [gpu.version, availability.version, book.version, stats.version, price.version] {
        assert_eq!(version, committed.version);
    }
    assert_eq!(availability.value.map(|value| (value.available, value.busy)), Some((3, 1)));
    let stats = stats.value.unwrap();
    assert_eq!((stats.total_bookings_24h, stats.total_volume_24h), (1, MicroUsd(2_000_000)));
    assert!((stats.utilization_rate - 0.25).abs() < f64::EPSILON);
    sound(&ledger);
}

#[tokio::test]
async fn times_that_touch_do_not_overlap_and_all_others_do() {
    let ledger = market().await;
    ledger.book(request("first", GPU, 100, 200), 0).await.unwrap();
    for (id, start, end) in
        [("before", 50, 101), ("behind", 199, 300), ("inside", 120, 130), ("around", 50, 300)]
    {
        let outcome = ledger.book(request(id, GPU, start, end), 0).await.unwrap();
        assert_eq!(outcome, BookOutcome::Conflict { with: "first".into() }, "{id}");
    }
    for (id, start, end) in [("just before", 50, 100), ("just behind", 200, 300)] {
        let outcome = ledger.book(request(id, GPU, start, end), 0).await.unwrap();
        assert!(matches!(outcome, BookOutcome::Booked { .. }), "{id}");
    }
    sound(&ledger);
}

#[tokio::test]
async fn asking_twice_is_booking_once() {
    let ledger = market().await;
    let first = ledger.book(request("b", GPU, 0, HOUR), 0).await.unwrap();
    let second = ledger.book(request("b", GPU, 0, HOUR), 7).await.unwrap();
    let BookOutcome::Booked { committed: first, .. } = first else { panic!() };
    let BookOutcome::Booked { committed: second, repeated: true, .. } = second else { panic!() };
    assert_eq!(first, second);
    let other = ledger.book(request("b", GPU, 0, 2 * HOUR), 7).await.unwrap();
    assert_eq!(other, BookOutcome::IdTaken);
    assert_eq!(ledger.market_stats(None, None).await.unwrap().value.unwrap().total_bookings_24h, 1);
}

#[tokio::test]
async fn a_cancellation_frees_the_gpu_once() {
    let ledger = market().await;
    ledger.book(request("b", GPU, 0, HOUR), 0).await.unwrap();
    assert_eq!(ledger.cancel("b", "p/H100/2", 1).await.unwrap(), CancelOutcome::Unknown);
    assert_eq!(ledger.cancel("x", GPU, 1).await.unwrap(), CancelOutcome::Unknown);
    let first = ledger.cancel("b", GPU, 1).await.unwrap();
    let CancelOutcome::Cancelled { booking, committed, repeated: false } = first else { panic!("{first:?}") };
    assert_eq!(booking.status, BookingStatus::Cancelled);
    let again = ledger.cancel("b", GPU, 2).await.unwrap();
    assert_eq!(again, CancelOutcome::Cancelled { booking, committed, repeated: true });
    assert_eq!(ledger.availability(&europe()).await.unwrap().value.unwrap().available, 4);
    assert_eq!(
        ledger.market_stats(None, None).await.unwrap().value.unwrap().total_volume_24h,
        MicroUsd::ZERO
    );
    assert!(matches!(ledger.book(request("c", GPU, 0, HOUR), 3).await, Ok(BookOutcome::Booked { .. })));
    sound(&ledger);
}

#[tokio::test]
async fn bookings_begin_and_end_as_time_passes() {
    let ledger = market().await;
    ledger.book(request("first", GPU, 100, 200), 0).await.unwrap();
    ledger.book(request("next", GPU, 200, 300), 0).await.unwrap();
    let status = async || ledger.gpu(GPU).await.unwrap().value.unwrap().availability_status;
    assert_eq!(status().await, AvailabilityStatus::Available);
    assert_eq!(ledger.pass_time(99).await.unwrap(), []);
    assert_eq!(ledger.pass_time(100).await.unwrap().len(), 1);
    assert_eq!(status().await, AvailabilityStatus::Busy);
    assert_eq!(ledger.pass_time(250).await.unwrap().len(), 2);
    assert_eq!(status().await, AvailabilityStatus::Busy);
    assert_eq!(ledger.booking("first").await.unwrap().value.unwrap().status, BookingStatus::Completed);
    assert_eq!(ledger.cancel("first", GPU, 250).await.unwrap(), CancelOutcome::Completed);
    ledger.pass_time(1_000).await.unwrap();
    assert_eq!(status().await, AvailabilityStatus::Available);
    sound(&ledger);
}

#[tokio::test]
async fn figures_of_24_hours_forget_after_24_hours() {
    let ledger = market().await;
    ledger.book(request("b", GPU, 0, HOUR), 1_000).await.unwrap();
    ledger.pass_time(DAY).await.unwrap();
    let bookings = async || ledger.market_stats(Some("H100"), None).await.unwrap();
    assert_eq!(bookings().await.value.unwrap().total_bookings_24h, 1);
    let aged = ledger.pass_time(DAY + 1_000).await.unwrap();
    assert_eq!(aged[0].event.kind, kinds::MARKET_STATS_UPDATED);
    assert_eq!(bookings().await.value.unwrap().total_bookings_24h, 0);
    assert_eq!(bookings().await.version, aged[0].version);
    assert_eq!(ledger.pass_time(2 * DAY).await.unwrap(), []);
    sound(&ledger);
}

#[tokio::test]
async fn what_cannot_be_booked_is_told_apart() {
    let ledger = market().await;
    assert_eq!(ledger.book(request("b", "nothing", 0, 1), 0).await.unwrap(), BookOutcome::UnknownGpu);
    ledger.set_gpu_status(GPU, AvailabilityStatus::Offline, 0).await.unwrap();
    let outcome = ledger.book(request("b", GPU, 0, 1), 0).await.unwrap();
    assert_eq!(outcome, BookOutcome::NotForRent(AvailabilityStatus::Offline));
    let wrong = [
        ("end_time", 10, 10, 0),
        ("end_time", 10, 5, 0),
        ("end_time", 10, 20, 20),
        ("end_time", 0, BOOKING_MS_MAX + 1, 20),
        ("end_time", u64::MAX - 1, u64::MAX, 20),
        ("start_time", 0, 2 * HOUR, START_LAG_MS_MAX + 1),
    ];
    for (wrong, start, end, now) in wrong {
        let error = ledger.book(request("b", "p/H100/2", start, end), now).await.unwrap_err();
        assert!(matches!(error, LedgerError::Invalid { field, .. } if field == wrong), "{error}");
    }
    let error = ledger.book(request("", GPU, 0, 100), 0).await.unwrap_err();
    assert!(matches!(error, LedgerError::Invalid { field: "booking_id", .. }), "{error}");
    assert_eq!(ledger.booking("b").await.unwrap().value, None);
    sound(&ledger);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_a_gpu_is_rented_once_at_a_time() {
    let ledger = Arc::new(market().await);
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..8 {
        let ledger = Arc::clone(&ledger);
        callers.spawn(async move {
            let mut booked = Vec::new();
            for n in 0..200_u64 {
                let start = n % 20 * 100;
                let id = format!("{caller}-{n}");
                let request = request(&id, GPU, start, start + 150);
                if let BookOutcome::Booked { .. } = ledger.book(request, 0).await.unwrap() {
                    booked.push((start, id.clone()));
                    if n % 3 == 0 {
                        ledger.cancel(&id, GPU, 0).await.unwrap();
                        booked.pop();
                    }
                }
                tokio::task::yield_now().await;
            }
            booked
        });
    }
    let mut booked: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    booked.sort_unstable();
    assert!(!booked.is_empty());
    assert!(booked.windows(2).all(|pair| pair[0].0 + 150 <= pair[1].0), "{booked:?}");
    sound(&ledger);
}

#[tokio::test]
async fn what_cannot_be_counted_is_refused_and_changes_nothing() {
    let ledger = MemoryLedger::new();
    ledger.set_offers(offer("p", "europe", 1, (PRICE_MAX.0, PRICE_MAX.0)), 0).await.unwrap();
    let field = |outcome: Result<_, LedgerError>| match outcome {
        Err(LedgerError::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let dear = ledger.book(request("b", GPU, 0, TIME_MAX), 0).await;
    assert_eq!(field(dear.map(|_| ())), "end_time");
    let late = ledger.book(request("b", GPU, TIME_MAX, TIME_MAX + 1), 0).await;
    assert_eq!(field(late.map(|_| ())), "end_time");
    let offered = ledger.set_offers(offer("p", "europe", 1, (PRICE_MAX.0 + 1, 1)), 0).await;
    assert_eq!(field(offered.map(|_| ())), "min_price");
    let priced = ledger.set_price(&europe(), MicroUsd(PRICE_MAX.0 + 1), 0).await;
    assert_eq!(field(priced.map(|_| ())), "base_price_per_hour");
    assert!(ledger.bookings().is_empty());
    sound(&ledger);
}

#[tokio::test]
async fn a_refused_change_does_not_move_the_time() {
    let ledger = market().await;
    ledger.book(request("first", GPU, 100, 200), 10).await.unwrap();
    let conflict = ledger.book(request("second", GPU, 100, 5_000), 1_000).await;
    assert!(matches!(conflict, Ok(BookOutcome::Conflict { .. })));
    let booked = ledger.book(request("third", GPU, 300, 400), 20).await.unwrap();
    assert!(matches!(booked, BookOutcome::Booked { committed, .. } if committed.at == 20));
}
