//! How rows are read and written. The tables themselves are in [`migrations`](crate::migrations).

use cache_events::Version;
use cache_marketplace::ledger::rows::{BookingRow, FiguresRow, GpuRow, GroupRow, MarketRow, ProviderRow};
use cache_marketplace::ledger::{Stamp, working_set::Changed};
use cache_marketplace::{
    AvailabilityStatus, BookingInfo, BookingStatus, Committed, Hardware, HistoricalPoint, Market,
    MarketEvent, MicroUsd, Permille, ProviderState, Subject,
};
use cache_sql::{SqlError, Table, Value};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::any::AnyRow;

/// The currency of all amounts in the database.
pub(crate) const CURRENCY: &str = "USD";

/// A commit as it is kept beside its booking and in the outbox.
#[derive(Serialize, Deserialize)]
struct Kept {
    kind: String,
    subject: Subject,
    version: u64,
    at: u64,
}

pub(crate) fn committed_to_text(committed: &Committed) -> Result<String, SqlError> {
    let Committed { event, version, at } = committed;
    let kept =
        Kept { kind: event.kind.to_string(), subject: event.subject.clone(), version: version.0, at: *at };
    serde_json::to_string(&kept).map_err(|error| SqlError::Refused(sqlx::Error::Encode(error.into())))
}

pub(crate) fn committed_from_text(text: &str) -> Result<Committed, serde_json::Error> {
    let Kept { kind, subject, version, at } = serde_json::from_str(text)?;
    let event = MarketEvent { kind: cache_events::EventKind::new(kind), subject };
    Ok(Committed { event, version: Version(version), at })
}

/// Columns of a row, read from left to right.
pub(crate) struct Columns<'r> {
    row: &'r AnyRow,
    at: usize,
}

impl<'r> Columns<'r> {
    pub(crate) fn of(row: &'r AnyRow) -> Self {
        Self { row, at: 0 }
    }

    pub(crate) fn int(&mut self) -> Result<i64, sqlx::Error> {
        self.at += 1;
        self.row.try_get(self.at - 1)
    }

    pub(crate) fn count(&mut self) -> Result<u64, sqlx::Error> {
        let int = self.int()?;
        u64::try_from(int).map_err(|error| self.wrong(error.into()))
    }

    pub(crate) fn text(&mut self) -> Result<String, sqlx::Error> {
        self.at += 1;
        self.row.try_get(self.at - 1)
    }

    fn small(&mut self) -> Result<u32, sqlx::Error> {
        let int = self.int()?;
        u32::try_from(int).map_err(|error| self.wrong(error.into()))
    }

    fn flag(&mut self) -> Result<bool, sqlx::Error> {
        Ok(self.int()? != 0)
    }

    pub(crate) fn money(&mut self) -> Result<MicroUsd, sqlx::Error> {
        self.count().map(MicroUsd)
    }

    pub(crate) fn stamp(&mut self) -> Result<Stamp, sqlx::Error> {
        Ok(Stamp { version: Version(self.count()?), at: self.count()? })
    }

    fn market(&mut self) -> Result<Market, sqlx::Error> {
        Ok(Market::new(self.text()?, self.text()?))
    }

    /// One of the values of an enumeration, which are numbered in this order.
    fn one_of<T: Copy>(&mut self, values: &[T]) -> Result<T, sqlx::Error> {
        let number = self.count()?;
        let found = usize::try_from(number).ok().and_then(|at| values.get(at));
        found.copied().ok_or_else(|| self.wrong(format!("{number} is not a known state").into()))
    }

    fn wrong(&self, source: sqlx::error::BoxDynError) -> sqlx::Error {
        sqlx::Error::ColumnDecode { index: (self.at - 1).to_string(), source }
    }
}

const STATUSES: [AvailabilityStatus; 4] = [
    AvailabilityStatus::Available,
    AvailabilityStatus::Busy,
    AvailabilityStatus::Offline,
    AvailabilityStatus::Maintenance,
];
const STATES: [ProviderState; 3] =
    [ProviderState::Online, ProviderState::Offline, ProviderState::Maintenance];
const BOOKING_STATUSES: [BookingStatus; 3] =
    [BookingStatus::Active, BookingStatus::Completed, BookingStatus::Cancelled];

fn number_of<T: PartialEq>(value: &T, values: &[T]) -> Value {
    Value::from(values.iter().position(|known| known == value).unwrap_or_default() as u64)
}

fn stamp_values(stamp: Stamp) -> [Value; 2] {
    [stamp.version.0.into(), stamp.at.into()]
}

/// A sum as far as a column holds it; the rules keep sums below that.
fn sum(value: u128) -> Value {
    Value::from(u64::try_from(value).unwrap_or(u64::MAX))
}

pub(crate) const GPUS: Table = Table {
    name: "gpus",
    key: 1,
    columns: &[
        "gpu_id",
        "provider",
        "gpu_type",
        "region",
        "memory_gb",
        "cuda_cores",
        "performance_score",
        "registered",
        "base_price",
        "own_status",
        "withdrawn",
        "begun",
        "version",
        "at",
    ],
};

pub(crate) fn gpu(columns: &mut Columns<'_>) -> Result<GpuRow, sqlx::Error> {
    Ok(GpuRow {
        gpu_id: columns.text()?,
        provider: columns.text()?,
        market: columns.market()?,
        hardware: Hardware {
            memory_gb: columns.small()?,
            cuda_cores: columns.small()?,
            performance_score: columns.small()?,
        },
        registered: columns.flag()?,
        base: columns.money()?,
        own: columns.one_of(&STATUSES)?,
        withdrawn: columns.flag()?,
        begun: columns.small()?,
        stamp: columns.stamp()?,
    })
}

fn gpu_values(row: &GpuRow) -> Vec<Value> {
    let texts = [&row.gpu_id, &row.provider, &row.market.gpu_type, &row.market.region].map(Value::from);
    let Hardware { memory_gb, cuda_cores, performance_score } = row.hardware;
    let numbers = [
        memory_gb.into(),
        cuda_cores.into(),
        performance_score.into(),
        row.registered.into(),
        row.base.0.into(),
        number_of(&row.own, &STATUSES),
        row.withdrawn.into(),
        row.begun.into(),
    ];
    texts.into_iter().chain(numbers).chain(stamp_values(row.stamp)).collect()
}

pub(crate) const PROVIDERS: Table = Table {
    name: "providers",
    key: 1,
    columns: &["provider_id", "state", "live", "version", "at", "gpus_version", "gpus_at"],
};

pub(crate) fn provider(columns: &mut Columns<'_>) -> Result<ProviderRow, sqlx::Error> {
    Ok(ProviderRow {
        provider_id: columns.text()?,
        state: columns.one_of(&STATES)?,
        live: columns.count()?,
        stamp: columns.stamp()?,
        gpus: columns.stamp()?,
    })
}

fn provider_values(row: &ProviderRow) -> Vec<Value> {
    let values = [Value::from(&row.provider_id), number_of(&row.state, &STATES), row.live.into()];
    values.into_iter().chain(stamp_values(row.stamp)).chain(stamp_values(row.gpus)).collect()
}

pub(crate) const OFFERS: Table = Table {
    name: "offers",
    key: 2,
    columns: &["provider", "gpu_type", "region", "min_price", "avg_price", "wanted", "live", "made"],
};

pub(crate) fn offer(columns: &mut Columns<'_>) -> Result<GroupRow, sqlx::Error> {
    Ok(GroupRow {
        provider: columns.text()?,
        gpu_type: columns.text()?,
        region: columns.text()?,
        min_price: columns.money()?,
        avg_price: columns.money()?,
        wanted: columns.small()?,
        live: columns.small()?,
        made: columns.small()?,
    })
}

fn offer_values(row: &GroupRow) -> Vec<Value> {
    let texts = [&row.provider, &row.gpu_type, &row.region].map(Value::from);
    let counts = [row.wanted, row.live, row.made].map(Value::from);
    texts.into_iter().chain([row.min_price.0, row.avg_price.0].map(Value::from)).chain(counts).collect()
}

pub(crate) const BOOKINGS: Table = Table {
    name: "bookings",
    key: 1,
    columns: &[
        "booking_id",
        "gpu_id",
        "user_id",
        "start_time",
        "end_time",
        "status",
        "total_cost",
        "created_at",
        "gpu_type",
        "region",
        "begun",
        "created",
        "cancelled",
        "version",
        "at",
    ],
};

pub(crate) fn booking_info(columns: &mut Columns<'_>) -> Result<BookingInfo, sqlx::Error> {
    Ok(BookingInfo {
        booking_id: columns.text()?,
        gpu_id: columns.text()?,
        user_id: columns.text()?,
        start_time: columns.count()?,
        end_time: columns.count()?,
        status: columns.one_of(&BOOKING_STATUSES)?,
        total_cost: columns.money()?,
        created_at: columns.count()?,
    })
}

pub(crate) fn booking(columns: &mut Columns<'_>) -> Result<BookingRow, sqlx::Error> {
    let info = booking_info(columns)?;
    let (market, begun) = (columns.market()?, columns.flag()?);
    let (created, cancelled) = (columns.text()?, columns.text()?);
    let kept = |text: &str| committed_from_text(text).map_err(|error| columns.wrong(error.into()));
    let created = kept(&created)?;
    let cancelled = if cancelled.is_empty() { None } else { Some(kept(&cancelled)?) };
    Ok(BookingRow { info, market, begun, created, cancelled, stamp: columns.stamp()? })
}

fn booking_values(row: &BookingRow) -> Result<Vec<Value>, SqlError> {
    let info = &row.info;
    let cancelled = row.cancelled.as_ref().map(committed_to_text).transpose()?.unwrap_or_default();
    let mut values: Vec<Value> = [&info.booking_id, &info.gpu_id, &info.user_id].map(Value::from).into();
    values.extend([info.start_time, info.end_time].map(Value::from));
    values.push(number_of(&info.status, &BOOKING_STATUSES));
    values.extend([info.total_cost.0, info.created_at].map(Value::from));
    values.extend([&row.market.gpu_type, &row.market.region].map(Value::from));
    values.push(row.begun.into());
    values.extend([&committed_to_text(&row.created)?, &cancelled].map(Value::from));
    values.extend(stamp_values(row.stamp));
    Ok(values)
}

pub(crate) const MARKETS: Table = Table {
    name: "markets",
    key: 2,
    columns: &[
        "gpu_type",
        "region",
        "available",
        "busy",
        "offline",
        "maintenance",
        "base_sum",
        "factor",
        "points",
        "availability_version",
        "availability_at",
        "price_version",
        "price_at",
        "book_version",
        "book_at",
        "history_version",
        "history_at",
        "gpus_version",
        "gpus_at",
    ],
};

/// A market without its price levels and history.
pub(crate) fn market(columns: &mut Columns<'_>) -> Result<MarketRow, sqlx::Error> {
    Ok(MarketRow {
        market: columns.market()?,
        counts: [columns.count()?, columns.count()?, columns.count()?, columns.count()?],
        base_sum: columns.count()?.into(),
        factor: Permille(columns.small()?),
        points: columns.count()?,
        stamps: [columns.stamp()?, columns.stamp()?, columns.stamp()?, columns.stamp()?, columns.stamp()?],
        bases: std::collections::BTreeMap::new(),
        history: Vec::new(),
    })
}

fn market_values(row: &MarketRow) -> Vec<Value> {
    let texts = [&row.market.gpu_type, &row.market.region].map(Value::from);
    let numbers = [sum(row.base_sum), row.factor.0.into(), row.points.into()];
    let counts = row.counts.map(Value::from);
    let stamps = row.stamps.into_iter().flat_map(stamp_values);
    texts.into_iter().chain(counts).chain(numbers).chain(stamps).collect()
}

pub(crate) const LEVELS: Table =
    Table { name: "price_levels", key: 3, columns: &["gpu_type", "region", "base_price", "on_offer"] };

pub(crate) const HISTORY: Table = Table {
    name: "history",
    key: 3,
    columns: &["gpu_type", "region", "number", "at", "price", "available", "total"],
};

/// The last four columns of the history.
pub(crate) fn point(columns: &mut Columns<'_>) -> Result<HistoricalPoint, sqlx::Error> {
    Ok(HistoricalPoint {
        timestamp: columns.count()?,
        current_price_per_hour: u64::try_from(columns.int()?).ok().map(MicroUsd),
        available: columns.count()?,
        total: columns.count()?,
    })
}

fn point_values((market, number, point): &(Market, u64, HistoricalPoint)) -> Vec<Value> {
    let price = point.current_price_per_hour.map_or(Value::Int(-1), |price| price.0.into());
    let values =
        [(*number).into(), point.timestamp.into(), price, point.available.into(), point.total.into()];
    [&market.gpu_type, &market.region].map(Value::from).into_iter().chain(values).collect()
}

pub(crate) const FIGURES: Table = Table {
    name: "figures",
    key: 2,
    columns: &["gpu_type", "region", "bookings", "volume", "version", "at", "listed_version", "listed_at"],
};

/// Figures without their window.
pub(crate) fn figures(columns: &mut Columns<'_>) -> Result<FiguresRow, sqlx::Error> {
    let all = |name: String| (!name.is_empty()).then_some(name);
    Ok(FiguresRow {
        gpu_type: all(columns.text()?),
        region: all(columns.text()?),
        bookings: columns.count()?,
        volume: columns.count()?.into(),
        stamp: columns.stamp()?,
        listed: columns.stamp()?,
        window: std::collections::BTreeMap::new(),
    })
}

fn figures_values(row: &FiguresRow) -> Vec<Value> {
    let all = |name: &Option<String>| Value::from(name.as_deref().unwrap_or_default());
    let values = [all(&row.gpu_type), all(&row.region), row.bookings.into(), sum(row.volume)];
    values.into_iter().chain(stamp_values(row.stamp)).chain(stamp_values(row.listed)).collect()
}

/// Rows of a table, each with the values of its columns.
pub(crate) type Rows = (&'static Table, Vec<Vec<Value>>);

/// All changed rows, table by table, in the order in which they can be stored.
pub(crate) fn stored(changed: &Changed) -> Result<Vec<Rows>, SqlError> {
    // What is over makes room before something new takes it.
    let mut bookings: Vec<&BookingRow> = changed.bookings.iter().collect();
    bookings.sort_by_key(|row| row.info.status == BookingStatus::Active);
    let bookings: Result<Vec<_>, _> = bookings.into_iter().map(booking_values).collect();
    let levels = changed.levels.iter().map(|(market, base, count)| {
        vec![(&market.gpu_type).into(), (&market.region).into(), base.0.into(), (*count).into()]
    });
    Ok(vec![
        (&PROVIDERS, changed.providers.iter().map(provider_values).collect()),
        (&OFFERS, changed.groups.iter().map(offer_values).collect()),
        (&GPUS, changed.gpus.iter().map(gpu_values).collect()),
        (&BOOKINGS, bookings?),
        (&MARKETS, changed.markets.iter().map(market_values).collect()),
        (&LEVELS, levels.collect()),
        (&HISTORY, changed.points.iter().map(point_values).collect()),
        (&FIGURES, changed.figures.iter().map(figures_values).collect()),
    ])
}
