//! The trading service: HTTP in front of the exchange, the database and the indicators, with a cache in between.

mod cached;
mod error;
mod index;
mod routes;
mod stack;

use std::sync::Arc;

use larder::Cache;

pub use self::{
    error::ServiceError,
    routes::router,
    stack::{Stack, StackOptions},
};
use crate::{
    database::Database,
    exchange::{Exchange, ExchangeClient},
    model::Ticker,
};

/// What the handlers work with. A handle: clones are the same service.
#[derive(Debug, Clone)]
pub struct Service {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    cache: Cache,
    client: ExchangeClient,
    database: Database,
    exchange: Arc<Exchange>,
}

impl Service {
    /// A service over these parts.
    #[must_use]
    pub fn new(cache: Cache, client: ExchangeClient, database: Database, exchange: Arc<Exchange>) -> Self {
        Self { parts: Arc::new(Parts { cache, client, database, exchange }) }
    }

    /// The cache in front of everything.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.parts.cache
    }

    /// The newest prices of a symbol, from the cache that is in scope.
    ///
    /// # Errors
    /// The exchange did not answer, or knows no such symbol.
    pub async fn ticker(&self, symbol: &str) -> Result<Arc<Ticker>, ServiceError> {
        cached::ticker(self, symbol).await
    }

    /// The exchange's client.
    #[must_use]
    pub fn client(&self) -> &ExchangeClient {
        &self.parts.client
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.parts.database
    }

    /// The exchange itself, whose revisions move with the database's.
    #[must_use]
    pub fn exchange(&self) -> &Exchange {
        &self.parts.exchange
    }
}
