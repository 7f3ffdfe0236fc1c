//! The system of record of a node: opened, kept going while the node serves, and closed.

use std::sync::Arc;

use anyhow::Context;
use cache_marketplace::{Ledger, Marketplace};
use cache_marketplace_sql::{LedgerOptions, SqlLedger, start_relay};
use tokio_util::sync::CancellationToken;

use crate::config::DatabaseConfig;
use crate::schedule;

/// A ledger and what it needs beside it.
pub(crate) enum Record {
    /// In a database: with a relay for what a crash left unannounced.
    Sql(Arc<SqlLedger>),
    /// The caller's.
    Given(Arc<dyn Ledger>),
}

impl Record {
    /// Opens the database of a configuration and brings its schema up to date.
    ///
    /// # Errors
    /// It cannot be used; with the cure. Never holds the URL, which may have a password in it.
    pub(crate) async fn open(database: &DatabaseConfig) -> anyhow::Result<Self> {
        let opened = SqlLedger::open(database.url.expose(), LedgerOptions::default()).await;
        let ledger = opened.context(
            "the database that DATABASE_URL names cannot be used: is it there, and may this user make tables in it?",
        )?;
        Ok(Self::Sql(Arc::new(ledger)))
    }

    pub(crate) fn ledger(&self) -> Arc<dyn Ledger> {
        match self {
            Self::Sql(ledger) => ledger.clone(),
            Self::Given(ledger) => ledger.clone(),
        }
    }

    /// Lets time pass and announces what was left, until `shutdown`.
    pub(crate) async fn keep(&self, market: Marketplace, shutdown: CancellationToken) {
        let relay = match self {
            Self::Sql(ledger) => Some(start_relay(ledger, market.clone(), Default::default())),
            Self::Given(_) => None,
        };
        schedule::run(market, shutdown).await;
        if let Some(mut relay) = relay {
            relay.stop().await;
        }
    }

    /// Finishes what waits, and closes the connections.
    pub(crate) async fn close(&self) {
        if let Self::Sql(ledger) = self {
            ledger.close().await;
        }
    }
}
