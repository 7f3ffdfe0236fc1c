//! What each change touches: one table from event kinds to cached values.
//!
//! The ledger stamps new versions by the same table, so a value's version grows exactly when a scope of the event
//! covers its key.

use cache_events::{CacheEvent, EventKind, NameError, Scope};
use serde::{Deserialize, Serialize};

use crate::keys::{
    availability_key, booking_key, gpu_key, history_key, listing_tag, market_stats_key, market_tag,
    order_book_key, price_key, provider_key, provider_tag,
};
use crate::kinds;

/// Most GPUs that one event lists; if more changed, it is said of their markets as a whole ([`Subject::rescaled`]), so
/// that an event stays small.
pub const GPUS_LISTED_MAX: usize = 200;

/// A GPU type in a region.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Market {
    /// The model.
    pub gpu_type: String,
    /// The region.
    pub region: String,
}

impl Market {
    /// A type in a region.
    pub fn new(gpu_type: impl Into<String>, region: impl Into<String>) -> Self {
        Self { gpu_type: gpu_type.into(), region: region.into() }
    }
}

/// What a change was about. Travels as the `data` of its event.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Subject {
    /// The GPUs that changed.
    pub gpu_ids: Vec<String>,
    /// The provider, if the change is one of the provider's figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// Whether all GPUs of that provider changed; `gpu_ids` then lists none.
    pub all_of_provider: bool,
    /// The types and regions that changed.
    pub markets: Vec<Market>,
    /// Whether the price of these types and regions moved.
    pub repriced: bool,
    /// Whether each of their GPUs changed: the dynamic factor moved, and with it every price, or there are too many
    /// to list.
    pub rescaled: bool,
    /// The booking, if one was made, called off or is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub booking_id: Option<String>,
}

/// A change of the market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarketEvent {
    /// One of [`kinds`].
    pub kind: EventKind,
    /// What it was about.
    pub subject: Subject,
}

impl MarketEvent {
    /// The resource that it happened to: the booking, GPU, provider or type that says most.
    pub fn resource_id(&self) -> &str {
        let Subject { gpu_ids, provider_id, markets, booking_id, .. } = &self.subject;
        let of_booking = [kinds::BOOKING_CREATED, kinds::BOOKING_CANCELLED].contains(&self.kind);
        let first = booking_id.as_deref().filter(|_| of_booking).or(match gpu_ids.as_slice() {
            [only] => Some(only),
            _ => provider_id.as_deref(),
        });
        first.or(markets.first().map(|market| &*market.gpu_type)).unwrap_or("market")
    }

    /// The subject as the `data` of an event.
    ///
    /// # Errors
    /// Never in practice: the subject has only text keys.
    pub fn data(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::to_value(&self.subject)
    }

    /// Reads a change back from an event; `None` if its kind is not one of the market's.
    ///
    /// # Errors
    /// If the event's data is not a [`Subject`].
    pub fn from_event(event: &CacheEvent) -> Result<Option<Self>, serde_json::Error> {
        if row(&event.event_type).is_none() {
            return Ok(None);
        }
        let subject = match &event.data {
            Some(data) => Subject::deserialize(data)?,
            None => Subject::default(),
        };
        Ok(Some(Self { kind: event.event_type.clone(), subject }))
    }
}

/// One group of cached values that an event touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// The entries of the GPUs.
    Gpus,
    /// The provider's own entry, if the subject has a provider.
    Provider,
    /// The availability of each market.
    Availability,
    /// The price of each market.
    Pricing,
    /// The price of each market if it moved, and all GPUs of it if the factor did.
    PricingIfMoved,
    /// The order book of each market.
    OrderBook,
    /// The figures of each market, its type, its region, and over all.
    Statistics,
    /// All pages of searches in each market, its type, its region, and over all.
    Listings,
    /// The past of each market.
    History,
    /// The booking, if the subject has one.
    Booking,
}

use Touch::{
    Availability, Booking, Gpus, History, Listings, OrderBook, Pricing, PricingIfMoved, Provider, Statistics,
};

/// The table: what an event of each kind touches.
#[rustfmt::skip]
pub const TABLE: [(EventKind, &[Touch]); 7] = [
    (kinds::GPU_AVAILABILITY_CHANGED,
        &[Gpus, Provider, Availability, PricingIfMoved, OrderBook, Statistics, Listings, History, Booking]),
    (kinds::PRICING_UPDATED,
        &[Gpus, Pricing, PricingIfMoved, OrderBook, Statistics, Listings, History]),
    (kinds::BOOKING_CREATED,
        &[Gpus, Availability, Pricing, PricingIfMoved, OrderBook, Statistics, Listings, History, Booking]),
    (kinds::BOOKING_CANCELLED,
        &[Gpus, Provider, Availability, Pricing, PricingIfMoved, OrderBook, Statistics, Listings, History, Booking]),
    (kinds::PROVIDER_STATUS_CHANGED,
        &[Gpus, Provider, Availability, PricingIfMoved, OrderBook, Statistics, Listings, History]),
    (kinds::MARKET_STATS_UPDATED,
        &[Statistics]),
    (kinds::ORDER_BOOK_UPDATED,
        &[OrderBook]),
];

/// The row of a kind.
pub fn row(kind: &EventKind) -> Option<&'static [Touch]> {
    static ROWS: [(EventKind, &[Touch]); 7] = TABLE;
    ROWS.iter().find(|(of, _)| of == kind).map(|&(_, touches)| touches)
}

/// The cached entries that a change touches, each once.
///
/// # Errors
/// [`NameError`] if a name of the subject cannot be part of a key; names that the ledger accepted can.
pub fn touches(change: &MarketEvent) -> Result<Vec<Scope>, NameError> {
    scopes(row(&change.kind).unwrap_or_default(), &change.subject)
}

/// The cached entries of a row of the table for one subject, each once.
///
/// # Errors
/// As [`touches`].
pub fn scopes(row: &[Touch], subject: &Subject) -> Result<Vec<Scope>, NameError> {
    let mut scopes = Vec::new();
    let mut add = |scope: Scope| {
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    };
    for touch in row {
        match touch {
            Gpus => {
                for gpu_id in &subject.gpu_ids {
                    add(Scope::Key(gpu_key(gpu_id)?));
                }
                if let (true, Some(provider)) = (subject.all_of_provider, &subject.provider_id) {
                    add(Scope::Tag(provider_tag(provider)?));
                }
            }
            Provider => {
                if let Some(provider) = &subject.provider_id {
                    add(Scope::Key(provider_key(provider)?));
                }
            }
            Booking => {
                if let Some(booking) = &subject.booking_id {
                    add(Scope::Key(booking_key(booking)?));
                }
            }
            Availability | Pricing | PricingIfMoved | OrderBook | Statistics | Listings | History => {
                for market in &subject.markets {
                    market_scopes(*touch, subject, market)?.into_iter().for_each(&mut add);
                }
            }
        }
    }
    Ok(scopes)
}

fn market_scopes(touch: Touch, subject: &Subject, market: &Market) -> Result<Vec<Scope>, NameError> {
    let Market { gpu_type, region } = market;
    let mut scopes = Vec::new();
    match touch {
        Availability => scopes.push(Scope::Key(availability_key(gpu_type, region)?)),
        Pricing => scopes.push(Scope::Key(price_key(gpu_type, region)?)),
        PricingIfMoved => {
            if subject.repriced {
                scopes.push(Scope::Key(price_key(gpu_type, region)?));
            }
            if subject.rescaled {
                scopes.push(Scope::Tag(market_tag(gpu_type, region)?));
            }
        }
        OrderBook => scopes.push(Scope::Key(order_book_key(gpu_type, region)?)),
        Statistics => {
            for (of_type, of_region) in stats_cells(market) {
                scopes.push(Scope::Key(market_stats_key(of_type.as_deref(), of_region.as_deref())?));
            }
        }
        Listings => {
            for (of_type, of_region) in stats_cells(market) {
                scopes.push(Scope::Tag(listing_tag(of_type.as_deref(), of_region.as_deref())?));
            }
        }
        History => scopes.push(Scope::Key(history_key(gpu_type, region)?)),
        Gpus | Provider | Booking => {}
    }
    Ok(scopes)
}

/// The four figures to which a market contributes, and in which it is found: over all, its type, its region, itself.
pub fn stats_cells(market: &Market) -> [(Option<String>, Option<String>); 4] {
    let (of_type, region) = (Some(market.gpu_type.clone()), Some(market.region.clone()));
    [(None, None), (of_type.clone(), None), (None, region.clone()), (of_type, region)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: EventKind, edit: impl FnOnce(&mut Subject)) -> Vec<String> {
        let mut subject = Subject {
            gpu_ids: vec!["p/H100/1".into()],
            markets: vec![Market::new("H100", "europe")],
            ..Subject::default()
        };
        edit(&mut subject);
        let scopes = touches(&MarketEvent { kind, subject }).unwrap();
        scopes.iter().map(ToString::to_string).collect()
    }

    const GPU: &str = "key gpu_avail/p%2FH100%2F1/";
    const AVAILABILITY: &str = "key gpu_avail/H100/region=europe";
    const PRICE: &str = "key gpu_pricing/H100/region=europe";
    const BOOK: &str = "key order_book/H100/region=europe";
    const STATS: [&str; 4] = [
        "key market_stats/all/",
        "key market_stats/H100/",
        "key market_stats/all/region=europe",
        "key market_stats/H100/region=europe",
    ];

    const LISTINGS: [&str; 4] =
        ["tag listing:all@all", "tag listing:H100@all", "tag listing:all@europe", "tag listing:H100@europe"];
    const HISTORY: &str = "key historical/H100/region=europe";
    const BOOKING: &str = "key booking/b/";

    fn with_figures(rest: &[&str]) -> Vec<String> {
        rest.iter().chain(&STATS).chain(&LISTINGS).chain([&HISTORY]).map(ToString::to_string).collect()
    }

    #[test]
    fn a_booking_or_cancellation_touches_gpu_availability_pricing_order_book_and_statistics() {
        for kind in [kinds::BOOKING_CREATED, kinds::BOOKING_CANCELLED] {
            let mut expected = with_figures(&[GPU, AVAILABILITY, PRICE, BOOK]);
            expected.push(BOOKING.to_owned());
            assert_eq!(change(kind, |subject| subject.booking_id = Some("b".into())), expected);
        }
    }

    #[test]
    fn a_booking_that_makes_the_rest_scarce_touches_all_gpus_of_the_market() {
        let expected = with_figures(&[GPU, AVAILABILITY, PRICE, "tag market:H100@europe", BOOK]);
        assert_eq!(
            change(kinds::BOOKING_CREATED, |subject| {
                (subject.repriced, subject.rescaled) = (true, true);
            }),
            expected
        );
    }

    #[test]
    fn a_provider_change_touches_all_its_gpus_availability_and_the_order_book() {
        let touched = change(kinds::PROVIDER_STATUS_CHANGED, |subject| {
            subject.gpu_ids.clear();
            subject.provider_id = Some("p".into());
            subject.all_of_provider = true;
        });
        assert_eq!(touched, with_figures(&["tag provider:p", "key provider_status/p/", AVAILABILITY, BOOK]));
    }

    #[test]
    fn the_other_kinds_touch_their_own() {
        assert_eq!(change(kinds::GPU_AVAILABILITY_CHANGED, |_| {}), with_figures(&[GPU, AVAILABILITY, BOOK]));
        assert_eq!(change(kinds::PRICING_UPDATED, |_| {}), with_figures(&[GPU, PRICE, BOOK]));
        assert_eq!(change(kinds::MARKET_STATS_UPDATED, |_| {}), STATS);
        assert_eq!(change(kinds::ORDER_BOOK_UPDATED, |_| {}), [BOOK]);
        assert!(change(EventKind::MANUAL_INVALIDATION, |_| {}).is_empty());
    }

    #[test]
    fn every_kind_has_one_row() {
        assert_eq!(TABLE.map(|(kind, _)| kind), kinds::ALL);
    }

    #[test]
    fn a_change_reads_back_from_its_event() {
        let subject = Subject { booking_id: Some("b".into()), repriced: true, ..Subject::default() };
        let change = MarketEvent { kind: kinds::BOOKING_CREATED, subject };
        let mut event = CacheEvent {
            event_type: change.kind.clone(),
            resource_id: change.resource_id().to_owned(),
            data: Some(change.data().unwrap()),
            timestamp: 1,
            source_node: cache_events::NodeId::new("n").unwrap(),
            event_id: cache_events::EventId::from_parts(1, [0; 10]),
            affected_namespaces: vec![],
            scopes: touches(&change).unwrap(),
            reason: None,
            announce: true,
        };
        assert_eq!(event.resource_id, "b");
        assert_eq!(MarketEvent::from_event(&event).unwrap(), Some(change));
        event.data = Some(serde_json::json!({"gpu_ids": 5}));
        assert!(MarketEvent::from_event(&event).is_err());
        event.event_type = EventKind::new("weather_changed");
        assert_eq!(MarketEvent::from_event(&event).unwrap(), None);
    }
}
