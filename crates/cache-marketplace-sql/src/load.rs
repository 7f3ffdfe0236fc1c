//! Which rows a change or a read needs, and getting them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cache_marketplace::ledger::HISTORY_POINTS_MAX;
use cache_marketplace::ledger::working_set::{Change, WorkingSet};
use cache_marketplace::touches::stats_cells;
use cache_marketplace::{BookingRequest, HistoricalPoint, Market, Pricing, Search};
use cache_sql::{Kind, SqlError, Value, query};
use sqlx::AnyConnection;

use crate::schema::{self, BOOKINGS, Columns, FIGURES, GPUS, HISTORY, MARKETS, OFFERS, PROVIDERS};

/// The 24 hours of the figures.
const DAY_MS: i64 = 24 * 3_600_000;

/// What is read.
pub(crate) enum Read<'a> {
    Booking(&'a str),
    Gpu(&'a str),
    Market(&'a Market),
    OrderBook(&'a Market),
    Stats(Option<&'a str>, Option<&'a str>),
    Provider(&'a str),
    History(&'a Market),
    Search(&'a Search),
}

impl Read<'_> {
    /// Whether one statement gets it all.
    pub(crate) fn is_one_statement(&self) -> bool {
        matches!(self, Self::Booking(_) | Self::Market(_) | Self::Provider(_) | Self::History(_))
    }
}

/// A [`WorkingSet`] that is being filled.
pub(crate) struct Loading<'c> {
    connection: &'c mut AnyConnection,
    pub(crate) set: WorkingSet,
}

impl<'c> Loading<'c> {
    /// Begins with the head of the ledger, locked: nobody else commits anything until the transaction is over.
    pub(crate) async fn begin(
        connection: &'c mut AnyConnection,
        kind: Kind,
        pricing: Arc<dyn Pricing>,
    ) -> Result<Self, SqlError> {
        // SQLite's transaction was begun as the only one that writes.
        let suffix = if mutated!("head_unlocked") { "" } else { kind.either("", " FOR UPDATE") };
        let statement = format!("SELECT version, at FROM head WHERE id = $1{suffix}");
        let row = query(statement, [1_i64]).fetch_one(&mut *connection).await?;
        let mut columns = Columns::of(&row);
        let set = WorkingSet::new(columns.count()?, columns.count()?, pricing);
        Ok(Self { connection, set })
    }

    /// What an answer is made of; the head is no part of any.
    pub(crate) async fn read(
        connection: &mut AnyConnection,
        pricing: Arc<dyn Pricing>,
        read: &Read<'_>,
    ) -> Result<WorkingSet, SqlError> {
        let mut loading = Loading { connection, set: WorkingSet::new(0, 0, pricing) };
        loading.fill(read).await?;
        Ok(loading.set)
    }

    async fn fill(&mut self, read: &Read<'_>) -> Result<(), SqlError> {
        match read {
            Read::Booking(booking_id) => self.bookings("booking_id = $1", [*booking_id]).await,
            Read::Gpu(gpu_id) => {
                self.gpus("gpu_id = $1", [*gpu_id]).await?;
                for market in self.set.markets_of_gpus() {
                    self.cell(&market).await?;
                }
                Ok(())
            }
            Read::Market(market) => self.cell(market).await,
            Read::OrderBook(market) => {
                self.cell(market).await?;
                let of_market = [&market.gpu_type, &market.region];
                self.gpus("gpu_type = $1 AND region = $2 AND withdrawn = 0", of_market).await?;
                self.set.list_free();
                Ok(())
            }
            Read::Stats(gpu_type, region) => {
                self.listed(gpu_type.unwrap_or_default(), region.unwrap_or_default()).await
            }
            Read::Provider(provider_id) => self.provider(provider_id).await,
            Read::History(market) => self.market_with_history(market).await,
            Read::Search(search) => {
                let gpu_type = search.gpu_type.as_deref().unwrap_or_default();
                let region = search.region.as_deref().unwrap_or_default();
                let provider = search.provider_id.as_deref().unwrap_or_default();
                self.listed(gpu_type, region).await?;
                let fits = "withdrawn = 0 AND ($1 = '' OR gpu_type = $1) AND ($2 = '' OR region = $2)
                    AND ($3 = '' OR provider = $3)";
                self.gpus(fits, [gpu_type, region, provider]).await
            }
        }
    }

    /// Figures and markets of a type or all, in a region or all (`""`).
    async fn listed(&mut self, gpu_type: &str, region: &str) -> Result<(), SqlError> {
        self.figures_of(gpu_type, region).await?;
        self.cells(gpu_type, region).await
    }

    /// All that a change can concern.
    pub(crate) async fn change(&mut self, change: &Change, now: u64) -> Result<(), SqlError> {
        let now = self.set.now().max(now);
        match change {
            Change::Book(request) => self.book(request, now).await,
            Change::Cancel { booking_id, gpu_id } => {
                self.gpus("gpu_id = $1", [gpu_id]).await?;
                self.bookings("booking_id = $1", [booking_id]).await?;
                if let Some(market) = self.set.market_of_booking(booking_id) {
                    self.leaving(gpu_id).await?;
                    self.market(&market, now, booking_id).await?;
                    self.around_gpus(now, booking_id).await?;
                }
                Ok(())
            }
            Change::Offers(offer) => {
                self.provider(&offer.provider).await?;
                self.group(&offer.provider, &offer.gpu_model).await?;
                self.gpus_of_group(&offer.provider, &offer.gpu_model).await?;
                self.market(&Market::new(&offer.gpu_model, &offer.region), now, "").await?;
                self.around_gpus(now, "").await
            }
            Change::Price(market, _) => {
                self.market(market, now, "").await?;
                let of_market = [&market.gpu_type, &market.region];
                self.groups("gpu_type = $1 AND region = $2", of_market).await?;
                self.gpus("gpu_type = $1 AND region = $2", of_market).await
            }
            Change::Gpu(gpu) => {
                self.gpus("gpu_id = $1", [&gpu.gpu_id]).await?;
                self.provider(&gpu.provider_id).await?;
                self.market(&Market::new(&gpu.gpu_type, &gpu.region), now, "").await?;
                self.around_gpus(now, "").await
            }
            Change::GpuStatus(gpu_id, _) => {
                self.gpus("gpu_id = $1", [gpu_id]).await?;
                self.around_gpus(now, "").await
            }
            Change::ProviderStatus(provider, _) => {
                self.provider(provider).await?;
                self.groups("provider = $1", [provider]).await?;
                self.gpus("provider = $1", [provider]).await?;
                self.around_gpus(now, "").await
            }
            Change::PassTime { until } => self.pass_time(*until, now).await,
        }
    }

    async fn book(&mut self, request: &BookingRequest, now: u64) -> Result<(), SqlError> {
        self.gpus("gpu_id = $1", [&request.gpu_id]).await?;
        let condition = "booking_id = $1 OR booking_id = (
            SELECT booking_id FROM bookings WHERE gpu_id = $2 AND status = 0 AND start_time < $3
            ORDER BY start_time DESC LIMIT 1)";
        let values = [Value::from(&request.booking_id), (&request.gpu_id).into(), request.end_time.into()];
        self.bookings(condition, values).await?;
        if self.set.would_refuse(request) {
            // The rest would only be needed to do it.
            return Ok(());
        }
        self.around_gpus(now, "").await
    }

    async fn pass_time(&mut self, until: u64, now: u64) -> Result<(), SqlError> {
        let due = "status = 0 AND (end_time <= $1 OR (begun = 0 AND start_time <= $1))";
        let of_due = format!("gpu_id IN (SELECT gpu_id FROM bookings WHERE {due})");
        self.gpus(&of_due, [until]).await?;
        self.bookings(&format!("status = 0 AND {of_due}"), [until]).await?;
        for gpu_id in self.set.gpu_ids() {
            self.leaving(&gpu_id).await?;
        }
        self.around_gpus(now, "").await?;
        if until >= now {
            for market in self.markets_with_old_bookings(now).await? {
                self.market(&market, now, "").await?;
            }
        }
        Ok(())
    }

    /// What can change when a booking leaves a GPU: its group, and if that has more than wanted, all of the group.
    async fn leaving(&mut self, gpu_id: &str) -> Result<(), SqlError> {
        let Some((provider, gpu_type)) = self.set.group_of_gpu(gpu_id) else { return Ok(()) };
        self.bookings("gpu_id = $1 AND status = 0", [gpu_id]).await?;
        if self.set.has_group(&provider, &gpu_type) {
            return Ok(());
        }
        self.group(&provider, &gpu_type).await?;
        if self.set.has_too_many(&provider, &gpu_type) {
            self.gpus_of_group(&provider, &gpu_type).await?;
        }
        Ok(())
    }

    async fn gpus_of_group(&mut self, provider: &str, gpu_type: &str) -> Result<(), SqlError> {
        // Somebody else may have put up a GPU whose id looks like one of the group.
        let (from, to) = (format!("{provider}/{gpu_type}/"), format!("{provider}/{gpu_type}0"));
        let of_group = "(provider = $1 AND gpu_type = $2) OR (gpu_id > $3 AND gpu_id < $4)";
        let values = [provider, gpu_type, &from, &to];
        self.gpus(of_group, values).await?;
        let of_these = format!("status = 0 AND gpu_id IN (SELECT gpu_id FROM gpus WHERE {of_group})");
        self.bookings(&of_these, values).await
    }

    /// The markets of all GPUs that were loaded, with their figures.
    async fn around_gpus(&mut self, now: u64, booking_id: &str) -> Result<(), SqlError> {
        for market in self.set.markets_of_gpus() {
            self.market(&market, now, booking_id).await?;
        }
        Ok(())
    }

    /// GPUs, with their providers.
    async fn gpus<V: Into<Value>>(
        &mut self,
        condition: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Result<(), SqlError> {
        let (gpu, provider) = (columns_of("g", GPUS.columns), columns_of("p", PROVIDERS.columns));
        // The names of the condition are those of the one table.
        let statement = format!(
            "SELECT {gpu}, {provider} FROM (SELECT * FROM gpus WHERE {condition}) g \
             JOIN providers p ON p.provider_id = g.provider"
        );
        for row in query(statement, values).fetch_all(&mut *self.connection).await? {
            let mut columns = Columns::of(&row);
            let gpu = schema::gpu(&mut columns)?;
            let provider = schema::provider(&mut columns)?;
            self.set.add_provider(&gpu.provider, Some(provider));
            self.set.add_gpu(gpu);
        }
        Ok(())
    }

    async fn provider(&mut self, provider_id: &str) -> Result<(), SqlError> {
        if self.set.has_provider(provider_id) {
            return Ok(());
        }
        let statement =
            format!("SELECT {} FROM providers WHERE provider_id = $1", PROVIDERS.columns.join(", "));
        let row = query(statement, [provider_id]).fetch_optional(&mut *self.connection).await?;
        let row = row.map(|row| schema::provider(&mut Columns::of(&row))).transpose()?;
        self.set.add_provider(provider_id, row);
        Ok(())
    }

    async fn group(&mut self, provider: &str, gpu_type: &str) -> Result<(), SqlError> {
        self.groups("provider = $1 AND gpu_type = $2", [provider, gpu_type]).await?;
        self.set.add_group(provider, gpu_type, None);
        Ok(())
    }

    async fn groups<V: Into<Value>>(
        &mut self,
        condition: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Result<(), SqlError> {
        let statement = format!("SELECT {} FROM offers WHERE {condition}", OFFERS.columns.join(", "));
        for row in query(statement, values).fetch_all(&mut *self.connection).await? {
            let row = schema::offer(&mut Columns::of(&row))?;
            self.set.add_group(&row.provider.clone(), &row.gpu_type.clone(), Some(row));
        }
        Ok(())
    }

    async fn bookings<V: Into<Value>>(
        &mut self,
        condition: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Result<(), SqlError> {
        let statement = format!("SELECT {} FROM bookings WHERE {condition}", BOOKINGS.columns.join(", "));
        for row in query(statement, values).fetch_all(&mut *self.connection).await? {
            self.set.add_booking(schema::booking(&mut Columns::of(&row))?);
        }
        Ok(())
    }

    /// A market and the four figures to which it contributes. `booking_id` may be called off, `""` = none.
    async fn market(&mut self, market: &Market, now: u64, booking_id: &str) -> Result<(), SqlError> {
        if self.set.has_market(market) {
            return Ok(());
        }
        self.cell(market).await?;
        self.figures(market, now, booking_id).await
    }

    /// A market without figures.
    async fn cell(&mut self, market: &Market) -> Result<(), SqlError> {
        let columns = columns_of("m", MARKETS.columns);
        let statement = format!(
            "SELECT {columns}, COALESCE(h.at, 0), COALESCE(h.price, 0), COALESCE(h.available, 0),
                COALESCE(h.total, 0), COALESCE(l.base_price, 0), COALESCE(l.on_offer, 0)
            FROM markets m
            LEFT JOIN history h ON h.gpu_type = m.gpu_type AND h.region = m.region AND h.number = m.points
            LEFT JOIN price_levels l ON l.gpu_type = m.gpu_type AND l.region = m.region
            WHERE m.gpu_type = $1 AND m.region = $2"
        );
        let of_market = [&market.gpu_type, &market.region];
        let mut found = None;
        for row in query(statement, of_market).fetch_all(&mut *self.connection).await? {
            let mut columns = Columns::of(&row);
            let row = schema::market(&mut columns)?;
            let point = schema::point(&mut columns)?;
            let (base, count) = (columns.money()?, columns.count()?);
            let found = found.get_or_insert(row);
            if found.points > 0 && found.history.is_empty() {
                found.history.push(point);
            }
            if count > 0 {
                found.bases.insert(base, count);
            }
        }
        self.set.add_market(market, found);
        Ok(())
    }

    /// All markets of a type or all, in a region or all (`""`), without levels and history.
    async fn cells(&mut self, gpu_type: &str, region: &str) -> Result<(), SqlError> {
        let statement = format!(
            "SELECT {} FROM markets WHERE ($1 = '' OR gpu_type = $1) AND ($2 = '' OR region = $2)",
            MARKETS.columns.join(", ")
        );
        for row in query(statement, [gpu_type, region]).fetch_all(&mut *self.connection).await? {
            let row = schema::market(&mut Columns::of(&row))?;
            self.set.add_market(&row.market.clone(), Some(row));
        }
        Ok(())
    }

    /// A market with the points of its history, without levels.
    async fn market_with_history(&mut self, market: &Market) -> Result<(), SqlError> {
        let (of_market, of_point) =
            (columns_of("m", MARKETS.columns), columns_of("h", &HISTORY.columns[3..]));
        let statement = format!(
            "SELECT {of_market}, {of_point} FROM markets m
            JOIN history h ON h.gpu_type = m.gpu_type AND h.region = m.region AND h.number > m.points - $3
            WHERE m.gpu_type = $1 AND m.region = $2 ORDER BY h.number"
        );
        let values =
            [Value::from(&market.gpu_type), (&market.region).into(), (HISTORY_POINTS_MAX as u64).into()];
        let mut found = None;
        let mut history: Vec<HistoricalPoint> = Vec::new();
        for row in query(statement, values).fetch_all(&mut *self.connection).await? {
            let mut columns = Columns::of(&row);
            found = Some(schema::market(&mut columns)?);
            history.push(schema::point(&mut columns)?);
        }
        if let Some(found) = &mut found {
            found.history = history;
        }
        self.set.add_market(market, found);
        Ok(())
    }

    /// The figures of one cell, as they are.
    async fn figures_of(&mut self, gpu_type: &str, region: &str) -> Result<(), SqlError> {
        let columns = FIGURES.columns.join(", ");
        let statement = format!("SELECT {columns} FROM figures WHERE gpu_type = $1 AND region = $2");
        if let Some(row) = query(statement, [gpu_type, region]).fetch_optional(&mut *self.connection).await? {
            let row = schema::figures(&mut Columns::of(&row))?;
            self.set.add_figures((row.gpu_type.clone(), row.region.clone()), Some(row));
        }
        Ok(())
    }

    /// The figures of a market with those bookings that leave them by now, or that may be called off.
    async fn figures(&mut self, market: &Market, now: u64, booking_id: &str) -> Result<(), SqlError> {
        let columns = columns_of("f", FIGURES.columns);
        // Without a booking the condition stays one that an index answers.
        let named = if booking_id.is_empty() { "" } else { " OR b.booking_id = $4" };
        let statement = format!(
            "SELECT {columns}, COALESCE(b.created_at, 0), COALESCE(b.booking_id, ''), COALESCE(b.total_cost, 0)
            FROM figures f LEFT JOIN bookings b
                ON b.status <> 2 AND b.created_at > f.at - {DAY_MS} AND (b.created_at <= $3{named})
                AND (f.gpu_type = '' OR b.gpu_type = f.gpu_type) AND (f.region = '' OR b.region = f.region)
            WHERE f.gpu_type IN ('', $1) AND f.region IN ('', $2)"
        );
        let left = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(DAY_MS);
        let mut values = vec![Value::from(&market.gpu_type), (&market.region).into(), left.into()];
        if !booking_id.is_empty() {
            values.push(booking_id.into());
        }
        let mut rows = BTreeMap::new();
        for row in query(statement, values).fetch_all(&mut *self.connection).await? {
            let mut columns = Columns::of(&row);
            let row = schema::figures(&mut columns)?;
            let (created, id, cost) = (columns.count()?, columns.text()?, columns.money()?);
            let row = rows.entry((row.gpu_type.clone(), row.region.clone())).or_insert(row);
            if !id.is_empty() {
                row.window.insert((created, id), cost);
            }
        }
        for cell in stats_cells(market) {
            let row = rows.remove(&cell);
            self.set.add_figures(cell, row);
        }
        Ok(())
    }

    async fn markets_with_old_bookings(&mut self, now: u64) -> Result<Vec<Market>, SqlError> {
        let statement = format!(
            "SELECT f.gpu_type, f.region FROM figures f WHERE f.gpu_type <> '' AND f.region <> '' AND {OLD_BOOKINGS}"
        );
        let left = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(DAY_MS);
        let rows = query(statement, [left]).fetch_all(&mut *self.connection).await?;
        let market = |row| {
            let mut columns = Columns::of(row);
            Ok(Market::new(columns.text()?, columns.text()?))
        };
        rows.iter().map(market).collect()
    }
}

/// Whether figures count a booking that was made at `$1` or before.
pub(crate) const OLD_BOOKINGS: &str = "EXISTS (
    SELECT 1 FROM bookings b WHERE b.gpu_type = f.gpu_type AND b.region = f.region AND b.status <> 2
    AND b.created_at <= $1 AND b.created_at > f.at - 86400000)";

fn columns_of(alias: &str, columns: &[&str]) -> String {
    columns.iter().map(|column| format!("{alias}.{column}")).collect::<Vec<_>>().join(", ")
}
