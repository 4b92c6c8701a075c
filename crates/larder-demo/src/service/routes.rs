//! The routes and their handlers.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State, rejection::JsonRejection},
    http::HeaderName,
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use larder::{Health, Outcome, with_cache};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Service, ServiceError, cached, cached::Variant, index};
use crate::{
    candle::Candle,
    indicators::{Bollinger, Indicator, IndicatorKind, Macd, Rsi},
    interval::Interval,
    market::{DEEPEST_BOOK, MOST_CANDLES},
};

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// The service as an axum router.
pub fn router(service: Service, metrics: metrics_exporter_prometheus::PrometheusHandle) -> Router {
    Router::new()
        .route("/", get(index_page))
        .route("/ticker/{symbol}", get(ticker))
        .route("/orderbook/{symbol}", get(order_book))
        .route("/exchange-info", get(exchange_info))
        .route("/candles/{symbol}", get(candles).put(put_candles))
        .route("/indicators/{symbol}/{kind}", get(indicator))
        .route("/users/{id}/preferences", get(preferences).put(put_preferences))
        .route("/users/{id}/positions", get(positions))
        .route("/invalidate/symbol/{symbol}", post(invalidate_symbol))
        .route("/stats", get(stats))
        .route("/healthz", get(healthz))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(move || std::future::ready(metrics.render())))
        .layer(middleware::from_fn_with_state(service.clone(), scoped))
        .with_state(service)
}

/// Cached functions in a handler use the service's cache. A service with one cache installs it globally instead.
async fn scoped(State(service): State<Service>, request: Request, next: Next) -> Response {
    with_cache(service.cache().clone(), next.run(request)).await
}

type Answer = Result<Response, ServiceError>;

/// A cached value as JSON, with its provenance in a header.
fn reply<T: Serialize>(outcome: &Outcome<Arc<T>>) -> Answer {
    Ok(([(X_CACHE, outcome.x_cache())], Json(outcome.value.as_ref())).into_response())
}

async fn index_page(State(service): State<Service>) -> Html<String> {
    Html(index::page(&service))
}

async fn ticker(State(service): State<Service>, Path(symbol): Path<String>) -> Answer {
    reply(&cached::ticker::outcome(&service, &symbol).await?)
}

#[derive(Debug, Deserialize)]
struct Depth {
    depth: Option<usize>,
}

async fn order_book(
    State(service): State<Service>,
    Path(symbol): Path<String>,
    query: Result<Query<Depth>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let depth = query_of(query)?.depth.unwrap_or(20);
    within("depth", depth, DEEPEST_BOOK)?;
    reply(&cached::order_book::outcome(&service, &symbol, depth).await?)
}

async fn exchange_info(State(service): State<Service>) -> Answer {
    reply(&cached::exchange_info::outcome(&service).await?)
}

#[derive(Debug, Deserialize)]
struct Range {
    interval: Option<String>,
    limit: Option<usize>,
}

impl Range {
    fn checked(&self, service: &Service, symbol: &str) -> Result<(Interval, usize), ServiceError> {
        let limit = self.limit.unwrap_or(100);
        within("limit", limit, MOST_CANDLES)?;
        let interval = match &self.interval {
            Some(text) => {
                text.parse::<Interval>().map_err(|error| ServiceError::BadRequest(format!("`interval`: {error}")))?
            }
            None => service.shortest_interval(symbol),
        };
        Ok((interval, limit))
    }
}

async fn candles(
    State(service): State<Service>,
    Path(symbol): Path<String>,
    query: Result<Query<Range>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let (interval, limit) = query_of(query)?.checked(&service, &symbol)?;
    let outcome = cached::candles::outcome(&service, &symbol, interval, limit).await?;
    if outcome.value.is_empty() {
        return Err(ServiceError::NotFound(format!("there are no candles of {symbol} with interval {interval}")));
    }
    reply(&outcome)
}

#[derive(Debug, Deserialize)]
struct PutCandles {
    interval: Interval,
    candles: Vec<Candle>,
}

/// Updates the database, then drops what depends on the symbol: candles, indicators, prices.
async fn put_candles(
    State(service): State<Service>,
    Path(symbol): Path<String>,
    body: Result<Json<PutCandles>, JsonRejection>,
) -> Answer {
    let PutCandles { interval, candles } = json_of(body)?;
    if candles.is_empty() {
        return Err(ServiceError::BadRequest("`candles` is empty; send at least one".to_owned()));
    }
    let known = service.exchange().revision(&symbol);
    known.map_err(|error| ServiceError::NotFound(error.to_string()))?;
    let revision = service.database().upsert_candles(&symbol, interval, &candles).await?;
    let moved = service.exchange().set_revision(&symbol, revision);
    moved.map_err(|error| ServiceError::NotFound(error.to_string()))?;
    service.cache().invalidate().symbol(&symbol).await?;
    Ok(Json(json!({ "symbol": symbol, "revision": revision, "stored": candles.len() })).into_response())
}

#[derive(Debug, Deserialize)]
struct IndicatorQuery {
    interval: Option<String>,
    limit: Option<usize>,
    period: Option<usize>,
    deviations: Option<f64>,
    fast: Option<usize>,
    slow: Option<usize>,
    signal: Option<usize>,
}

impl IndicatorQuery {
    /// The indicator with its parameters, and a name for the key in which all of them stand.
    fn indicator(&self, kind: IndicatorKind) -> Result<(String, Indicator), ServiceError> {
        let wrong = |error: crate::indicators::IndicatorError| ServiceError::BadRequest(error.to_string());
        Ok(match kind {
            IndicatorKind::Rsi => {
                let rsi = Rsi::new(self.period.unwrap_or(14)).map_err(wrong)?;
                (format!("rsi:{}", rsi.period()), Indicator::Rsi(rsi))
            }
            IndicatorKind::Macd => {
                let (fast, slow, signal) = (self.fast.unwrap_or(12), self.slow.unwrap_or(26), self.signal.unwrap_or(9));
                let macd = Macd::new(fast, slow, signal).map_err(wrong)?;
                (format!("macd:{fast}:{slow}:{signal}"), Indicator::Macd(macd))
            }
            IndicatorKind::Bollinger => {
                let (period, deviations) = (self.period.unwrap_or(20), self.deviations.unwrap_or(2.0));
                let bands = Bollinger::new(period, deviations).map_err(wrong)?;
                (format!("bollinger:{period}:{deviations}"), Indicator::Bollinger(bands))
            }
        })
    }
}

async fn indicator(
    State(service): State<Service>,
    Path((symbol, kind)): Path<(String, String)>,
    query: Result<Query<IndicatorQuery>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let query = query_of(query)?;
    let kind: IndicatorKind = kind.parse().map_err(|error| ServiceError::NotFound(format!("{error}")))?;
    let range = Range { interval: query.interval.clone(), limit: query.limit };
    let (interval, rows) = range.checked(&service, &symbol)?;
    let (name, indicator) = query.indicator(kind)?;
    let outcome =
        cached::indicator_series::outcome(&service, indicator, &Variant(name), &symbol, interval, rows).await?;
    if outcome.value.times.is_empty() {
        return Err(ServiceError::NotFound(format!("there are no candles of {symbol} with interval {interval}")));
    }
    reply(&outcome)
}

async fn preferences(State(service): State<Service>, Path(id): Path<u64>) -> Answer {
    reply(&cached::preferences::outcome(&service, id).await?)
}

async fn put_preferences(
    State(service): State<Service>,
    Path(id): Path<u64>,
    body: Result<Json<BTreeMap<String, Value>>, JsonRejection>,
) -> Answer {
    let stored = service.database().put_preferences(id, &json_of(body)?).await?;
    service.cache().invalidate().user_session(id).await?;
    Ok(Json(stored).into_response())
}

async fn positions(State(service): State<Service>, Path(id): Path<u64>) -> Answer {
    reply(&cached::positions::outcome(&service, id).await?)
}

async fn invalidate_symbol(State(service): State<Service>, Path(symbol): Path<String>) -> Answer {
    let done = service.cache().invalidate().symbol(&symbol).await?;
    Ok(Json(json!({ "symbol": symbol, "near": done.near, "remote": done.remote })).into_response())
}

async fn stats(State(service): State<Service>) -> Json<Value> {
    let cache = service.cache();
    let stats = cache.stats();
    let health = cache.health().await;
    Json(json!({
        "hit_rate": stats.hit_rate(),
        "requests": stats.requests(),
        "total": stats,
        "functions": cache.regions(),
        "health": health,
        "exchange": { "served": service.exchange().served(), "refused": service.exchange().refused() },
        "database": { "queries": service.database().queries() },
    }))
}

async fn healthz(State(service): State<Service>) -> Response {
    report(&service, Health::is_serving).await
}

/// Whether the process is to be left alone: Redis has no part in that.
async fn livez(State(service): State<Service>) -> Response {
    report(&service, Health::is_live).await
}

/// Whether requests should come here.
async fn readyz(State(service): State<Service>) -> Response {
    report(&service, Health::is_ready).await
}

async fn report(service: &Service, is_well: fn(&Health) -> bool) -> Response {
    let health = service.cache().health().await;
    let status =
        if is_well(&health) { axum::http::StatusCode::OK } else { axum::http::StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

impl Service {
    /// What a request without an interval means.
    fn shortest_interval(&self, symbol: &str) -> Interval {
        self.exchange().shortest_interval(symbol).unwrap_or(Interval::ALL[0])
    }
}

fn within(name: &str, number: usize, most: usize) -> Result<(), ServiceError> {
    if (1..=most).contains(&number) {
        return Ok(());
    }
    Err(ServiceError::BadRequest(format!("`{name}` is {number}; it must be 1 to {most}")))
}

fn query_of<T>(query: Result<Query<T>, axum::extract::rejection::QueryRejection>) -> Result<T, ServiceError> {
    query.map(|Query(query)| query).map_err(|error| ServiceError::BadRequest(error.body_text()))
}

fn json_of<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, ServiceError> {
    body.map(|Json(body)| body).map_err(|error| ServiceError::BadRequest(error.body_text()))
}
