//! The exchange's endpoints. Every error is JSON: `{"error": {"code", "message"}}`.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use axum::{
    Json, Router,
    extract::{
        Path, Query, Request, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use serde::{Deserialize, Serialize};

use super::server::Shared;
use crate::{
    candle::Candle,
    interval::Interval,
    market::{DEEPEST_BOOK, MOST_CANDLES, NotOffered},
    model::{ExchangeInfo, OrderBook, Ticker},
};

/// The exact wait, beside the whole seconds of the standard header.
pub(super) const RETRY_AFTER_MS: &str = "retry-after-ms";

type Shares = State<Arc<Shared>>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/ticker/{symbol}", get(ticker))
        .route("/orderbook/{symbol}", get(order_book))
        .route("/exchange-info", get(exchange_info))
        .route("/candles/{symbol}", get(candles))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), limited))
        // Below the layer: moving a revision is not a client's request, and neither waits nor counts.
        .route("/revision/{symbol}", put(set_revision))
        .fallback(|| async { Failure::new(StatusCode::NOT_FOUND, "unknown_path", "there is no such path") })
        .method_not_allowed_fallback(|| async {
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "unknown_method", "the path does not take this method")
        })
        .with_state(shared)
}

/// Refuses what is over the limit, and delays what is not.
async fn limited(State(shared): Shares, request: Request, next: Next) -> Response {
    if let Some(bucket) = &shared.bucket
        && let Err(wait) = bucket.take()
    {
        shared.refused.fetch_add(1, Ordering::Relaxed);
        return refusal(wait);
    }
    shared.take_time().await;
    let response = next.run(request).await;
    shared.served.fetch_add(1, Ordering::Relaxed);
    response
}

fn refusal(wait: Duration) -> Response {
    let message = format!("too many requests; wait {} ms", wait.as_millis());
    let mut response = Failure::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message).into_response();
    let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(millis.div_ceil(1_000)));
    response.headers_mut().insert(RETRY_AFTER_MS, HeaderValue::from(millis));
    response
}

async fn ticker(State(shared): Shares, Path(symbol): Path<String>) -> Result<Json<Ticker>, Failure> {
    let revision = shared.revision(&symbol)?;
    Ok(Json(shared.market.ticker(&symbol, revision)?))
}

#[derive(Deserialize)]
struct Depth {
    depth: Option<usize>,
}

async fn order_book(
    State(shared): Shares,
    Path(symbol): Path<String>,
    query: Result<Query<Depth>, QueryRejection>,
) -> Result<Json<OrderBook>, Failure> {
    let Query(Depth { depth }) = query?;
    let depth = within("depth", depth.unwrap_or(20), DEEPEST_BOOK)?;
    let revision = shared.revision(&symbol)?;
    Ok(Json(shared.market.order_book(&symbol, depth, revision)?))
}

async fn exchange_info(State(shared): Shares) -> Json<ExchangeInfo> {
    Json(shared.market.info())
}

#[derive(Deserialize)]
struct Page {
    interval: Option<String>,
    limit: Option<usize>,
}

async fn candles(
    State(shared): Shares,
    Path(symbol): Path<String>,
    query: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Vec<Candle>>, Failure> {
    let Query(Page { interval, limit }) = query?;
    let interval = interval.as_deref().unwrap_or(Interval::Hour.as_str()).parse::<Interval>();
    let interval = interval.map_err(|error| bad_request(error.to_string()))?;
    let limit = within("limit", limit.unwrap_or(100), MOST_CANDLES)?;
    let revision = shared.revision(&symbol)?;
    Ok(Json(shared.market.candles(&symbol, interval, limit, revision)?))
}

/// Body of `PUT /revision/{symbol}`, asked and answered.
#[derive(Serialize, Deserialize)]
struct Revision {
    revision: u64,
}

async fn set_revision(
    State(shared): Shares,
    Path(symbol): Path<String>,
    body: Result<Json<Revision>, JsonRejection>,
) -> Result<Json<Revision>, Failure> {
    let Json(Revision { revision }) = body.map_err(|error| bad_request(error.body_text()))?;
    shared.set_revision(&symbol, revision)?;
    Ok(Json(Revision { revision }))
}

fn within(field: &str, given: usize, most: usize) -> Result<usize, Failure> {
    if (1..=most).contains(&given) {
        Ok(given)
    } else {
        Err(bad_request(format!("{field} is {given}; it must be from 1 to {most}")))
    }
}

fn bad_request(message: String) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "bad_request", message)
}

struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Failure {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
}

impl From<NotOffered> for Failure {
    fn from(missing: NotOffered) -> Self {
        let code = match missing {
            NotOffered::Symbol { .. } => "unknown_symbol",
            NotOffered::Interval { .. } => "interval_not_offered",
        };
        Self::new(StatusCode::NOT_FOUND, code, missing.to_string())
    }
}

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        bad_request(rejection.body_text())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": { "code": self.code, "message": self.message } });
        (self.status, Json(body)).into_response()
    }
}
