use std::{num::NonZeroU32, sync::Arc, time::Duration};

use axum::{Router, http::StatusCode, routing::get};
use larder_demo::{
    exchange::{ClientOptions, Exchange, ExchangeClient, ExchangeError, ExchangeOptions, RequestLimit},
    interval::Interval,
    market::Market,
    pace::Pace,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::AbortHandle};

fn limit(per_second: u32, burst: u32) -> RequestLimit {
    RequestLimit::new(NonZeroU32::new(per_second).unwrap(), NonZeroU32::new(burst).unwrap())
}

/// An exchange without latency and limit.
fn unhindered() -> ExchangeOptions {
    ExchangeOptions::default().with_latency(None).with_limit(None).with_pace(Pace::skipping())
}

async fn start(options: ExchangeOptions) -> (Arc<Market>, Exchange) {
    let market = Arc::new(Market::generated(1));
    let exchange = Exchange::start(Arc::clone(&market), options).await.unwrap();
    (market, exchange)
}

fn client(exchange: &Exchange, options: ClientOptions) -> ExchangeClient {
    ExchangeClient::new(&exchange.url(), options).unwrap()
}

/// A server that answers every request alike; it ends with the test's runtime.
async fn always(status: StatusCode, body: &'static str) -> (String, AbortHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(get(move || async move { (status, body) }));
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, server.abort_handle())
}

#[tokio::test]
async fn the_client_reads_what_the_market_says() {
    let (market, exchange) = start(unhindered()).await;
    let client = client(&exchange, ClientOptions::default());
    assert_eq!(client.ticker("BTCUSDT").await, Ok(market.ticker("BTCUSDT", 0).unwrap()));
    assert_eq!(client.order_book("BTCUSDT", 7).await, Ok(market.order_book("BTCUSDT", 7, 0).unwrap()));
    assert_eq!(client.exchange_info().await, Ok(market.info()));
    let candles = market.candles("ETHUSDT", Interval::Day, 12, 0).unwrap();
    assert_eq!(client.candles("ETHUSDT", Interval::Day, 12).await, Ok(candles));
    assert_eq!((exchange.served(), exchange.refused(), client.sent()), (4, 0, 4));
    exchange.stop().await.unwrap();
}

#[tokio::test]
async fn a_revision_is_seen_at_once_and_moves_for_its_symbol_only() {
    let (market, exchange) = start(unhindered()).await;
    let client = client(&exchange, ClientOptions::default());
    exchange.set_revision("BTCUSDT", 5).unwrap();
    assert_eq!(client.ticker("BTCUSDT").await, Ok(market.ticker("BTCUSDT", 5).unwrap()));
    assert_eq!(client.ticker("ETHUSDT").await, Ok(market.ticker("ETHUSDT", 0).unwrap()));
    assert!(exchange.set_revision("NONE", 1).is_err());
}

#[tokio::test]
async fn a_revision_moves_by_put_even_when_the_limit_is_used_up() {
    let (_, exchange) = start(unhindered().with_limit(limit(1, 1))).await;
    let http = reqwest::Client::new();
    assert!(http.get(format!("{}/exchange-info", exchange.url())).send().await.unwrap().status().is_success());
    let put = |symbol: &str, body: Value| http.put(format!("{}/revision/{symbol}", exchange.url())).json(&body).send();
    let answer = put("BTCUSDT", json!({"revision": 3})).await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"revision": 3}));
    assert_eq!(exchange.revision("BTCUSDT"), Ok(3));
    assert_eq!(put("NONE", json!({"revision": 3})).await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(put("BTCUSDT", json!({"revision": -3})).await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!((exchange.served(), exchange.refused()), (1, 0));
}

#[tokio::test]
async fn errors_are_json_and_name_what_would_be_right() {
    let (_, exchange) = start(unhindered()).await;
    for (path, status, code, message) in [
        ("/ticker/NONE", 404, "unknown_symbol", "symbol \"NONE\" is not traded here"),
        ("/nowhere", 404, "unknown_path", "there is no such path"),
        ("/orderbook/BTCUSDT?depth=0", 400, "bad_request", "depth is 0; it must be from 1 to 100"),
        ("/candles/BTCUSDT?limit=1001", 400, "bad_request", "limit is 1001; it must be from 1 to 1000"),
        (
            "/candles/BTCUSDT?interval=2h",
            400,
            "bad_request",
            "interval \"2h\" is unknown; use one of 1m, 5m, 15m, 1h, 4h, 1d, 1w",
        ),
    ] {
        let answer = reqwest::get(format!("{}{path}", exchange.url())).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body, json!({"error": {"code": code, "message": message}}), "{path}");
    }
    let malformed = reqwest::get(format!("{}/orderbook/BTCUSDT?depth=x", exchange.url())).await.unwrap();
    assert_eq!(malformed.status(), StatusCode::BAD_REQUEST);
    assert_eq!(malformed.json::<Value>().await.unwrap()["error"]["code"], "bad_request");
}

#[tokio::test]
async fn requests_over_the_limit_are_refused_with_the_time_to_wait() {
    let (_, exchange) = start(unhindered().with_limit(limit(4, 2))).await;
    let get = || reqwest::get(format!("{}/exchange-info", exchange.url()));
    assert!(get().await.unwrap().status().is_success());
    assert!(get().await.unwrap().status().is_success());
    let refused = get().await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        (&refused.headers()["retry-after"], &refused.headers()["retry-after-ms"]),
        (&"1".parse().unwrap(), &"250".parse().unwrap())
    );
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["code"], "too_many_requests");
    assert_eq!((exchange.served(), exchange.refused()), (2, 1));
}

#[tokio::test]
async fn the_client_waits_as_long_as_it_is_told_and_is_served() {
    let pace = Pace::skipping();
    let (_, exchange) = start(unhindered().with_limit(limit(4, 1)).with_pace(pace.clone())).await;
    let client = client(&exchange, ClientOptions::default().with_pace(pace.clone()));
    for _ in 0..3 {
        client.exchange_info().await.unwrap();
    }
    assert_eq!((exchange.served(), exchange.refused()), (3, 2));
    assert_eq!((client.sent(), client.refused()), (5, 2));
    // Two waits of a quarter second, the second shortened by what the first one's pause let pass beyond its end.
    assert!(pace.slept() >= Duration::from_millis(400), "{pace:?}");
}

#[tokio::test]
async fn a_client_that_is_refused_again_and_again_gives_up_and_says_so() {
    let (_, exchange) = start(unhindered().with_limit(limit(1, 1))).await;
    // A pace of its own: the exchange's time stands still.
    let client = client(&exchange, ClientOptions::default().with_pace(Pace::skipping()).with_tries(4));
    client.exchange_info().await.unwrap();
    let error = client.exchange_info().await.unwrap_err();
    assert_eq!(error, ExchangeError::RateLimited { retry_after: Duration::from_secs(1), tries: 4 });
    assert!(error.is_transient());
    assert_eq!(exchange.refused(), 4);
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_not_waited_for() {
    let pace = Pace::skipping();
    let (_, exchange) = start(unhindered().with_limit(limit(1, 1))).await;
    let options = ClientOptions::default().with_pace(pace.clone()).with_longest_wait(Duration::from_millis(999));
    let client = client(&exchange, options);
    client.exchange_info().await.unwrap();
    let error = client.exchange_info().await.unwrap_err();
    assert_eq!(error, ExchangeError::RateLimited { retry_after: Duration::from_secs(1), tries: 1 });
    assert_eq!(pace.slept(), Duration::ZERO);
}

#[tokio::test]
async fn each_answer_takes_the_latency_that_was_set() {
    let pace = Pace::skipping();
    let exact = Duration::from_millis(70)..=Duration::from_millis(70);
    let (_, exchange) = start(unhindered().with_latency(exact).with_pace(pace.clone())).await;
    let client = client(&exchange, ClientOptions::default());
    for _ in 0..3 {
        client.ticker("BTCUSDT").await.unwrap();
    }
    assert_eq!(pace.slept(), Duration::from_millis(210));
}

#[tokio::test]
async fn what_is_unknown_or_malformed_is_not_tried_again() {
    let (_, exchange) = start(unhindered()).await;
    let client = client(&exchange, ClientOptions::default());
    let unknown = client.ticker("NONE").await.unwrap_err();
    assert_eq!(unknown, ExchangeError::NotFound { reason: "symbol \"NONE\" is not traded here".to_owned() });
    let malformed = client.order_book("BTCUSDT", 101).await.unwrap_err();
    let reason = "depth is 101; it must be from 1 to 100".to_owned();
    assert_eq!(malformed, ExchangeError::BadRequest { reason });
    assert_eq!(client.sent(), 2);
}

#[tokio::test]
async fn an_exchange_that_fails_is_tried_again_and_then_unavailable() {
    let (url, server) = always(StatusCode::SERVICE_UNAVAILABLE, "out of order").await;
    let options = ClientOptions::default().with_pace(Pace::skipping()).with_tries(3);
    let client = ExchangeClient::new(&url, options).unwrap();
    let error = client.ticker("BTCUSDT").await.unwrap_err();
    let reason = "503 Service Unavailable: out of order".to_owned();
    assert_eq!(error, ExchangeError::Unavailable { reason, tries: 3 });
    server.abort();
}

#[tokio::test]
async fn an_exchange_that_is_gone_is_unavailable() {
    let (_, exchange) = start(unhindered()).await;
    let options = ClientOptions::default().with_pace(Pace::skipping()).with_tries(2);
    let client = client(&exchange, options);
    exchange.stop().await.unwrap();
    assert!(matches!(client.ticker("BTCUSDT").await, Err(ExchangeError::Unavailable { tries: 2, .. })));
}

#[tokio::test]
async fn an_answer_of_another_kind_is_not_used() {
    let (url, server) = always(StatusCode::OK, "<html>").await;
    let client = ExchangeClient::new(&url, ClientOptions::default()).unwrap();
    let error = client.ticker("BTCUSDT").await.unwrap_err();
    assert!(
        matches!(&error, ExchangeError::BadAnswer { reason } if reason.starts_with("/ticker/BTCUSDT: ")),
        "{error}"
    );
    assert_eq!(client.sent(), 1);
    server.abort();
}
