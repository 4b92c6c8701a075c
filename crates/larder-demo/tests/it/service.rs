use std::sync::Arc;

use larder::Cache;
use larder_demo::{
    exchange::ExchangeOptions,
    market::Market,
    service::{Stack, StackOptions},
    smoke::{self, SmokeOptions},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

struct Client {
    stack: Stack,
    http: reqwest::Client,
}

impl Client {
    async fn start() -> Self {
        let market = Arc::new(Market::of_symbols(7, ["BTCUSDT", "ETHUSDT"]).unwrap());
        let exchange = ExchangeOptions::default().with_latency(None).with_limit(None);
        let mut options = StackOptions { exchange, ..StackOptions::default() };
        options.plan.users = 3;
        let stack = Stack::start(market, Cache::in_memory(), options).await.unwrap();
        Self { stack, http: reqwest::Client::new() }
    }

    async fn get(&self, path: &str) -> (StatusCode, String, String) {
        let response = self.http.get(format!("{}{path}", self.stack.url())).send().await.unwrap();
        let x_cache = response.headers().get("x-cache").map(|value| value.to_str().unwrap().to_owned());
        (response.status(), x_cache.unwrap_or_default(), response.text().await.unwrap())
    }

    async fn ok(&self, path: &str) -> (String, Value) {
        let (status, x_cache, body) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        (x_cache, serde_json::from_str(&body).unwrap())
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> (StatusCode, Value) {
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    async fn put(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.send(self.http.put(format!("{}{path}", self.stack.url())).json(body)).await
    }
}

#[tokio::test]
async fn every_cached_route_misses_once_and_then_hits_with_the_same_answer() {
    let client = Client::start().await;
    for path in [
        "/ticker/BTCUSDT",
        "/orderbook/BTCUSDT?depth=5",
        "/exchange-info",
        "/candles/BTCUSDT?interval=1h&limit=10",
        "/indicators/BTCUSDT/rsi?interval=1h",
        "/indicators/BTCUSDT/macd?interval=1h&fast=5&slow=10&signal=3",
        "/indicators/BTCUSDT/bollinger?interval=1h&period=10&deviations=1.5",
        "/users/1/preferences",
        "/users/1/positions",
    ] {
        let (first, loaded) = client.ok(path).await;
        let (second, cached) = client.ok(path).await;
        assert_eq!((first.as_str(), second.as_str()), ("miss", "near"), "{path}");
        assert_eq!(loaded, cached, "{path}");
    }
}

#[tokio::test]
async fn parameters_of_an_indicator_are_part_of_its_key() {
    let client = Client::start().await;
    let (_, short) = client.ok("/indicators/BTCUSDT/rsi?interval=1h&period=5").await;
    let (x_cache, long) = client.ok("/indicators/BTCUSDT/rsi?interval=1h&period=30").await;
    assert_eq!(x_cache, "miss");
    assert_ne!(short, long);
}

#[tokio::test]
async fn new_candles_are_seen_at_once_by_everything_that_depends_on_them() {
    let client = Client::start().await;
    let dependent = ["/candles/BTCUSDT?interval=1h", "/indicators/BTCUSDT/rsi?interval=1h", "/ticker/BTCUSDT"];
    let mut before = Vec::new();
    for path in dependent {
        before.push(client.ok(path).await.1);
    }
    client.ok("/ticker/ETHUSDT").await;
    let mut newest = before[0].as_array().unwrap().last().unwrap().clone();
    newest["close"] = json!(newest["high"].as_f64().unwrap() * 2.0);
    newest["high"] = newest["close"].clone();
    let (status, answer) = client.put("/candles/BTCUSDT", &json!({ "interval": "1h", "candles": [newest] })).await;
    assert_eq!((status, &answer["revision"]), (StatusCode::OK, &json!(1)));
    for (path, old) in dependent.iter().zip(&before) {
        let (x_cache, new) = client.ok(path).await;
        assert_eq!(x_cache, "miss", "{path}");
        assert_ne!(&new, old, "{path}");
    }
    assert_eq!(client.ok("/ticker/ETHUSDT").await.0, "near");
}

#[tokio::test]
async fn preferences_that_were_changed_are_seen_at_once() {
    let client = Client::start().await;
    client.ok("/users/2/preferences").await;
    let (status, _) = client.put("/users/2/preferences", &json!({ "theme": "dark" })).await;
    assert_eq!(status, StatusCode::OK);
    let (x_cache, preferences) = client.ok("/users/2/preferences").await;
    assert_eq!((x_cache.as_str(), &preferences["values"]), ("miss", &json!({ "theme": "dark" })));
}

#[tokio::test]
async fn an_operator_can_drop_a_symbol() {
    let client = Client::start().await;
    client.ok("/ticker/BTCUSDT").await;
    let url = format!("{}/invalidate/symbol/BTCUSDT", client.stack.url());
    assert_eq!(client.send(client.http.post(url)).await.0, StatusCode::OK);
    assert_eq!(client.ok("/ticker/BTCUSDT").await.0, "miss");
}

#[tokio::test]
async fn wrong_requests_are_told_what_would_be_right() {
    let client = Client::start().await;
    for (path, status, text) in [
        ("/ticker/NOPE", StatusCode::NOT_FOUND, "NOPE"),
        ("/orderbook/BTCUSDT?depth=0", StatusCode::BAD_REQUEST, "`depth`"),
        ("/candles/BTCUSDT?interval=7m", StatusCode::BAD_REQUEST, "`interval`"),
        ("/candles/BTCUSDT?limit=x", StatusCode::BAD_REQUEST, "limit"),
        ("/candles/NOPE?interval=1h", StatusCode::NOT_FOUND, "no candles"),
        ("/indicators/BTCUSDT/astrology", StatusCode::NOT_FOUND, "astrology"),
        ("/indicators/BTCUSDT/macd?interval=1h&fast=30&slow=10", StatusCode::BAD_REQUEST, "30"),
        ("/users/99/preferences", StatusCode::NOT_FOUND, "99"),
    ] {
        let (found, _, body) = client.get(path).await;
        assert_eq!(found, status, "{path}: {body}");
        assert!(body.contains(text), "{path}: {body}");
    }
    let (status, answer) = client.put("/candles/BTCUSDT", &json!({ "interval": "1h", "candles": [] })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["error"].as_str().unwrap().contains("`candles`"));
}

#[tokio::test]
async fn figures_health_and_the_index_page_are_there() {
    let client = Client::start().await;
    client.ok("/ticker/BTCUSDT").await;
    client.ok("/ticker/BTCUSDT").await;
    let (_, stats) = client.ok("/stats").await;
    assert_eq!((&stats["hit_rate"], &stats["exchange"]["served"]), (&json!(0.5), &json!(1)));
    assert_eq!(client.ok("/healthz").await.1["status"], "healthy");
    assert_eq!(client.ok("/livez").await.1["live"], true);
    assert_eq!(client.ok("/readyz").await.1["ready"], true);
    let (_, _, page) = client.get("/").await;
    assert!(page.contains("<td>ticker</td><td>50.0 %</td>"), "{page}");
    assert_eq!(client.get("/metrics").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_smoke_run_passes() {
    let market = Arc::new(Market::of_symbols(7, ["BTCUSDT", "ETHUSDT"]).unwrap());
    let mut options = SmokeOptions::new(7, std::time::Duration::from_millis(500));
    options.exchange = ExchangeOptions::default().with_latency(None).with_limit(None);
    options.progress = false;
    let report = smoke::run(market, Cache::in_memory(), &options).await.unwrap();
    assert!(report.is_passed(), "{report}");
    assert!(report.to_json()["passed"].as_bool().unwrap());
}
