//! The ledger as others see it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cache_marketplace::ledger::GpuRegistration;
use cache_marketplace::ledger::working_set::{Change, Done, WorkingSet};
use cache_marketplace::{
    AvailabilityStatus, BookOutcome, BookingInfo, BookingRequest, CancelOutcome, Committed, GpuInfo,
    GpuPrice, Ledger, LedgerError, Market, MarketStats, MicroUsd, Offer, OrderBook, PriceHistory, Pricing,
    ProviderState, ProviderStatus, ScarcityPricing, Search, SearchPage, TypeAvailability, Versioned,
};
use cache_sql::{Backlog, Database, DatabaseOptions, Kind, Outbox, SqlError, Value, query};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::load::{Loading, OLD_BOOKINGS, Read};
use crate::migrations;
use crate::schema::{self, BOOKINGS, CURRENCY, Columns};
use crate::writer::{Announced, Job, Writer};

/// Changes that wait for the writer; callers beyond that wait for a place.
const QUEUE_MAX: usize = 1_024;
/// Steps of time that become one transaction, and those of the same moment.
const STEPS_AT_ONCE: i64 = 200;
/// How often a read is repeated when its connection turns out to be broken.
const READ_ATTEMPTS_MAX: u32 = 3;
const DAY_MS: u64 = 24 * 3_600_000;

/// How a [`SqlLedger`] is opened.
#[derive(Clone)]
pub struct LedgerOptions {
    /// Connections and their patience.
    pub database: DatabaseOptions,
    /// Longest time for a change, repetitions included. After that it is unknown whether it happened.
    pub timeout: Duration,
    /// How long an event waits for its writer to publish it before a relay does.
    pub grace: Duration,
    /// The rule of dynamic pricing; the same on all nodes.
    pub pricing: Arc<dyn Pricing>,
}

impl Default for LedgerOptions {
    fn default() -> Self {
        Self {
            database: DatabaseOptions::default(),
            timeout: Duration::from_secs(10),
            grace: Duration::from_secs(1),
            pricing: Arc::new(ScarcityPricing),
        }
    }
}

/// Why a ledger could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The database did not answer, refused, or has a newer schema.
    #[error(transparent)]
    Database(#[from] SqlError),
    /// The amounts in it are of another currency.
    #[error("the amounts in this database are {found}, not {CURRENCY}")]
    Currency {
        /// The currency there.
        found: String,
    },
}

/// The system of record in a database. Several on one database, also of several processes, are one ledger.
///
/// Its writer task ends with it, or in order with [`close`](Self::close).
pub struct SqlLedger {
    database: Database,
    outbox: Outbox,
    pricing: Arc<dyn Pricing>,
    announced: Arc<Announced>,
    timeout: Duration,
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SqlLedger {
    /// Opens `sqlite::memory:`, `sqlite:FILE` or `postgres://…` and brings the schema up to date.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(url: &str, options: LedgerOptions) -> Result<Self, OpenError> {
        let database = Database::connect(url, &options.database).await?;
        database.migrate(&migrations::all(database.kind())).await?;
        let row = query("SELECT currency FROM head WHERE id = $1", [1_i64]).fetch_one(database.pool()).await;
        let found = Columns::of(&row.map_err(SqlError::from)?).text().map_err(SqlError::from)?;
        if found != CURRENCY {
            return Err(OpenError::Currency { found });
        }
        let mut outbox = Outbox::new(database.clone());
        outbox.grace = options.grace;
        let LedgerOptions { pricing, timeout, .. } = options;
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let announced = Arc::new(Announced::default());
        let writer = Writer {
            database: database.clone(),
            outbox: outbox.clone(),
            pricing: pricing.clone(),
            announced: announced.clone(),
            timeout,
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the ledger owns its writer, closes its queue and waits for it"
        )]
        let writer = tokio::spawn(writer.run(jobs));
        Ok(Self {
            database,
            outbox,
            pricing,
            announced,
            timeout,
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Makes the changes that wait, refuses new ones, and closes all connections.
    pub async fn close(&self) {
        drop(self.queue.lock().take());
        let writer = self.writer.lock().take();
        if let Some(writer) = writer
            && let Err(error) = writer.await
        {
            tracing::error!(%error, "the writer of the ledger ended badly");
        }
        self.database.close().await;
    }

    /// The events that are yet to be published.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// What waits in the outbox.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    pub async fn backlog(&self, now: u64) -> Result<Backlog, LedgerError> {
        self.outbox.backlog(now).await.map_err(unavailable)
    }

    async fn change(&self, change: Change, now: u64) -> Result<Done, LedgerError> {
        let gone = || unavailable(SqlError::Unreachable(sqlx::Error::PoolClosed));
        let queue = self.queue.lock().clone().ok_or_else(gone)?;
        let (reply, outcome) = oneshot::channel();
        queue.send(Job { change, now, reply }).await.map_err(|_| gone())?;
        drop(queue);
        // The writer keeps its own time for each transaction; this one is for the way through the queue.
        match tokio::time::timeout(self.timeout * 2, outcome).await {
            Ok(outcome) => outcome.map_err(|_| gone())?,
            Err(elapsed) => Err(LedgerError::Unavailable(elapsed.into())),
        }
    }

    async fn committed(&self, change: Change, now: u64) -> Result<Vec<Committed>, LedgerError> {
        match self.change(change, now).await? {
            Done::Committed(committed) => Ok(committed),
            other => Err(wrong_answer(&other)),
        }
    }

    /// Reads from one snapshot, again if the connection was broken.
    async fn read(&self, read: Read<'_>) -> Result<WorkingSet, LedgerError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.read_once(&read).await {
                Err(SqlError::Busy(_) | SqlError::Unreachable(_)) if attempt < READ_ATTEMPTS_MAX => {}
                done => return done.map_err(unavailable),
            }
        }
    }

    async fn read_once(&self, read: &Read<'_>) -> Result<WorkingSet, SqlError> {
        if read.is_one_statement() {
            // It is its own snapshot.
            let mut connection = self.database.pool().acquire().await?;
            return Loading::read(&mut connection, self.pricing.clone(), read).await;
        }
        let mut snapshot = self.database.snapshot().await?;
        let set = Loading::read(&mut snapshot, self.pricing.clone(), read).await?;
        snapshot.rollback().await?;
        Ok(set)
    }

    /// Until when time can pass in one transaction, and whether anything happens by then at all.
    async fn horizon(&self, now: u64) -> Result<(u64, bool), SqlError> {
        let head =
            query("SELECT at FROM head WHERE id = $1", [1_i64]).fetch_one(self.database.pool()).await?;
        let now = now.max(Columns::of(&head).count()?);
        let due = "SELECT start_time AS due FROM bookings WHERE status = 0 AND begun = 0 AND start_time <= $1
            UNION ALL SELECT end_time FROM bookings WHERE status = 0 AND end_time <= $1";
        let statement = format!("SELECT due FROM ({due}) AS steps ORDER BY due LIMIT $2");
        let values = [Value::from(now), STEPS_AT_ONCE.into()];
        let steps = query(statement, values).fetch_all(self.database.pool()).await?;
        if let Some(last) = steps.last().filter(|_| steps.len() as i64 == STEPS_AT_ONCE) {
            return Ok((Columns::of(last).count()?, true));
        }
        let left = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(DAY_MS as i64);
        let statement = format!(
            "SELECT 1 FROM figures f WHERE f.gpu_type <> '' AND f.region <> '' AND {OLD_BOOKINGS} LIMIT 1"
        );
        let old = query(statement, [left]).fetch_optional(self.database.pool()).await?;
        Ok((now, !steps.is_empty() || old.is_some()))
    }

    /// Which database it is.
    pub fn kind(&self) -> Kind {
        self.database.kind()
    }
}

impl Drop for SqlLedger {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.lock().take() {
            writer.abort();
        }
    }
}

fn unavailable(error: SqlError) -> LedgerError {
    LedgerError::Unavailable(Box::new(error))
}

fn wrong_answer(done: &Done) -> LedgerError {
    LedgerError::Unavailable(format!("the writer answered another question: {done:?}").into())
}

fn limited(limit: u32) -> Value {
    Value::from(limit)
}

#[async_trait]
impl Ledger for SqlLedger {
    async fn book(&self, request: BookingRequest, now: u64) -> Result<BookOutcome, LedgerError> {
        match self.change(Change::Book(request), now).await? {
            Done::Booked(outcome) => Ok(outcome),
            other => Err(wrong_answer(&other)),
        }
    }

    async fn cancel(&self, booking_id: &str, gpu_id: &str, now: u64) -> Result<CancelOutcome, LedgerError> {
        let (booking_id, gpu_id) = (booking_id.to_owned(), gpu_id.to_owned());
        match self.change(Change::Cancel { booking_id, gpu_id }, now).await? {
            Done::Cancelled(outcome) => Ok(outcome),
            other => Err(wrong_answer(&other)),
        }
    }

    async fn set_offers(&self, offer: Offer, now: u64) -> Result<Vec<Committed>, LedgerError> {
        self.committed(Change::Offers(offer), now).await
    }

    async fn set_price(
        &self,
        market: &Market,
        price: MicroUsd,
        now: u64,
    ) -> Result<Vec<Committed>, LedgerError> {
        self.committed(Change::Price(market.clone(), price), now).await
    }

    async fn put_gpu(&self, gpu: GpuRegistration, now: u64) -> Result<Vec<Committed>, LedgerError> {
        self.committed(Change::Gpu(gpu), now).await
    }

    async fn set_gpu_status(
        &self,
        gpu_id: &str,
        status: AvailabilityStatus,
        now: u64,
    ) -> Result<Vec<Committed>, LedgerError> {
        self.committed(Change::GpuStatus(gpu_id.to_owned(), status), now).await
    }

    async fn set_provider_status(
        &self,
        provider_id: &str,
        state: ProviderState,
        now: u64,
    ) -> Result<Vec<Committed>, LedgerError> {
        self.committed(Change::ProviderStatus(provider_id.to_owned(), state), now).await
    }

    async fn pass_time(&self, now: u64) -> Result<Vec<Committed>, LedgerError> {
        let mut committed = Vec::new();
        loop {
            let (until, anything) = self.horizon(now).await.map_err(unavailable)?;
            if !anything {
                return Ok(committed);
            }
            // The rest of a long list follows in the next transaction.
            let made = self.committed(Change::PassTime { until }, now).await?;
            let done = until >= now && (made.len() as i64) < STEPS_AT_ONCE;
            committed.extend(made);
            if done {
                return Ok(committed);
            }
        }
    }

    fn announced(&self, committed: &Committed) {
        self.announced.note(committed);
    }

    async fn booking(&self, booking_id: &str) -> Result<Versioned<Option<BookingInfo>>, LedgerError> {
        Ok(self.read(Read::Booking(booking_id)).await?.booking(booking_id))
    }

    async fn gpu(&self, gpu_id: &str) -> Result<Versioned<Option<GpuInfo>>, LedgerError> {
        Ok(self.read(Read::Gpu(gpu_id)).await?.gpu(gpu_id))
    }

    async fn availability(
        &self,
        market: &Market,
    ) -> Result<Versioned<Option<TypeAvailability>>, LedgerError> {
        Ok(self.read(Read::Market(market)).await?.availability(market))
    }

    async fn price(&self, market: &Market) -> Result<Versioned<Option<GpuPrice>>, LedgerError> {
        Ok(self.read(Read::Market(market)).await?.price(market))
    }

    async fn order_book(&self, market: &Market) -> Result<Versioned<Option<OrderBook>>, LedgerError> {
        Ok(self.read(Read::OrderBook(market)).await?.order_book(market))
    }

    async fn market_stats(
        &self,
        gpu_type: Option<&str>,
        region: Option<&str>,
    ) -> Result<Versioned<Option<MarketStats>>, LedgerError> {
        Ok(self.read(Read::Stats(gpu_type, region)).await?.market_stats((gpu_type, region)))
    }

    async fn provider(&self, provider_id: &str) -> Result<Versioned<Option<ProviderStatus>>, LedgerError> {
        Ok(self.read(Read::Provider(provider_id)).await?.provider(provider_id))
    }

    async fn history(&self, market: &Market) -> Result<Versioned<Option<PriceHistory>>, LedgerError> {
        Ok(self.read(Read::History(market)).await?.history(market))
    }

    async fn search(&self, search: &Search) -> Result<Versioned<SearchPage>, LedgerError> {
        search.check()?;
        Ok(self.read(Read::Search(search)).await?.search(search))
    }

    async fn markets(&self) -> Result<Vec<Market>, LedgerError> {
        let rows = query(
            "SELECT gpu_type, region FROM markets WHERE gpu_type <> $1 ORDER BY gpu_type, region",
            [""],
        );
        let rows = rows.fetch_all(self.database.pool()).await.map_err(SqlError::from).map_err(unavailable)?;
        let market = |row| {
            let mut columns = Columns::of(row);
            Ok(Market::new(columns.text()?, columns.text()?))
        };
        let markets: Result<Vec<Market>, sqlx::Error> = rows.iter().map(market).collect();
        markets.map_err(|error| unavailable(error.into()))
    }

    async fn gpu_ids(&self, after: &str, limit: u32) -> Result<Vec<String>, LedgerError> {
        let statement = "SELECT gpu_id FROM gpus WHERE gpu_id > $1 ORDER BY gpu_id LIMIT $2";
        let rows = query(statement, [Value::from(after), limited(limit)]).fetch_all(self.database.pool());
        let rows = rows.await.map_err(|error| unavailable(error.into()))?;
        let ids: Result<Vec<String>, sqlx::Error> = rows.iter().map(|row| Columns::of(row).text()).collect();
        ids.map_err(|error| unavailable(error.into()))
    }

    async fn bookings(&self, after: &str, limit: u32) -> Result<Vec<BookingInfo>, LedgerError> {
        let columns = BOOKINGS.columns[..8].join(", ");
        let statement =
            format!("SELECT {columns} FROM bookings WHERE booking_id > $1 ORDER BY booking_id LIMIT $2");
        let rows = query(statement, [Value::from(after), limited(limit)]).fetch_all(self.database.pool());
        let rows = rows.await.map_err(|error| unavailable(error.into()))?;
        let infos: Result<Vec<BookingInfo>, sqlx::Error> =
            rows.iter().map(|row| schema::booking_info(&mut Columns::of(row))).collect();
        infos.map_err(|error| unavailable(error.into()))
    }
}
