//! Everything that the service caches. This is all there is to it: one attribute for each function.
//!
//! The TTLs are the caching guide's: tickers 5 to 30 s, order books 10 to 60 s, exchange info 1 h to 1 day, candles 5 to 30
//! minutes, indicators by their interval, session data exactly.

use std::sync::Arc;

use larder::{KeyPart, Strategy, cached, strategy};

use super::{Service, ServiceError};
use crate::{
    candle::Candle,
    indicators::Indicator,
    interval::Interval,
    model::{ExchangeInfo, IndicatorSeries, OrderBook, Position, Preferences, Ticker},
};

/// The newest prices.
#[cached(strategy = api_response, ttl = "15s", key = "ticker:{symbol}", tags = ["symbol:{symbol}"])]
pub(super) async fn ticker(service: &Service, symbol: &str) -> Result<Arc<Ticker>, ServiceError> {
    Ok(Arc::new(service.client().ticker(symbol).await?))
}

/// Open orders.
#[cached(strategy = api_response, ttl = "20s", key = "orderbook:{symbol}:{depth}", tags = ["symbol:{symbol}"])]
pub(super) async fn order_book(service: &Service, symbol: &str, depth: usize) -> Result<Arc<OrderBook>, ServiceError> {
    Ok(Arc::new(service.client().order_book(symbol, depth).await?))
}

fn exchange_metadata() -> Strategy {
    strategy::recommend::exchange_info().strategy()
}

/// What can be traded.
#[cached(strategy = exchange_metadata, region = "api", key = "exchange-info")]
pub(super) async fn exchange_info(service: &Service) -> Result<Arc<ExchangeInfo>, ServiceError> {
    Ok(Arc::new(service.client().exchange_info().await?))
}

/// Candles of the database; a symbol without candles is not stored.
#[cached(
    strategy = database_query,
    key = "candles:{symbol}:{interval}:{limit}",
    tags = ["symbol:{symbol}"],
    condition = |candles: &Vec<Candle>| !candles.is_empty()
)]
pub(super) async fn candles(
    service: &Service,
    symbol: &str,
    interval: Interval,
    limit: usize,
) -> Result<Arc<Vec<Candle>>, ServiceError> {
    Ok(Arc::new(service.database().latest_candles(symbol, interval, limit).await?))
}

/// An indicator with all of its parameters, as it stands in the key.
#[derive(Debug, Clone, KeyPart)]
pub(super) struct Variant(pub(super) String);

/// An indicator over cached candles.
#[cached(
    strategy = indicator,
    ttl = "10m",
    key = "{variant}:{symbol}:{interval}:{rows}",
    tags = ["symbol:{symbol}"]
)]
pub(super) async fn indicator_series(
    service: &Service,
    indicator: Indicator,
    variant: &Variant,
    symbol: &str,
    interval: Interval,
    rows: usize,
) -> Result<Arc<IndicatorSeries>, ServiceError> {
    tracing::debug!(%symbol, variant = variant.0, "computing");
    let enough = indicator.candles_for(rows).min(crate::market::MOST_CANDLES);
    let candles = candles(service, symbol, interval, enough).await?;
    Ok(Arc::new(indicator.compute(symbol, interval, &candles)))
}

/// What a user has set. Session data: never stale, and dropped when the user changes it.
#[cached(strategy = session, key = "preferences:{user}", tags = ["user:{user}"])]
pub(super) async fn preferences(service: &Service, user: u64) -> Result<Arc<Preferences>, ServiceError> {
    Ok(Arc::new(service.database().preferences(user).await?))
}

/// What a user holds.
#[cached(strategy = session, key = "positions:{user}", tags = ["user:{user}"])]
pub(super) async fn positions(service: &Service, user: u64) -> Result<Arc<Vec<Position>>, ServiceError> {
    Ok(Arc::new(service.database().positions(user).await?))
}
