//! Values that processes share through Redis.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use larder::{Cache, Source, codec};
use larder_core::Tag;
use larder_testing::RedisServer;
use serde::{Deserialize, Serialize};

use crate::{cache_at, process, until};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Ticker {
    symbol: String,
    price: f64,
}

fn ticker(price: f64) -> Ticker {
    Ticker { symbol: "BTCUSDT".to_owned(), price }
}

async fn load(cache: &Cache, price: f64) -> (Ticker, Source) {
    let loader = move || async move { Ok::<_, std::io::Error>(ticker(price)) };
    let outcome =
        cache.get_or_load("ticker", loader).tag("symbol:BTCUSDT").outcome().await.expect("the loader returns one");
    (outcome.value.as_ref().clone(), outcome.source)
}

#[tokio::test]
async fn what_one_process_loads_the_other_reads() {
    let server = RedisServer::start();
    let (one, two) = (process(&server).await, process(&server).await);
    assert_eq!(load(&one, 1.0).await, (ticker(1.0), Source::Loaded));
    // Whether or not the commit has come through: the other waits for the fill token's holder.
    assert_eq!(load(&two, 2.0).await, (ticker(1.0), Source::Remote));
    assert_eq!(load(&two, 2.0).await, (ticker(1.0), Source::Near));
    assert_eq!(two.stats().loads, 0);
}

#[tokio::test]
async fn two_processes_that_miss_together_load_once() {
    let server = RedisServer::start();
    let (one, two) = (process(&server).await, process(&server).await);
    let loads = Arc::new(AtomicU32::new(0));
    let load = |cache: Cache| {
        let loads = Arc::clone(&loads);
        async move {
            let loader = move || async move {
                loads.fetch_add(1, Ordering::SeqCst);
                // Long enough for the other one to find the fill token.
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                Ok::<_, std::io::Error>(7_u32)
            };
            *cache.get_or_load("k", loader).await.unwrap()
        }
    };
    let values = tokio::join!(load(one), load(two));
    assert_eq!(values, (7, 7));
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_url_is_all_that_the_builder_needs() {
    let server = RedisServer::start();
    let cache = Cache::builder().namespace("t").redis(server.url()).build().await.unwrap();
    until("the value is stored", || async { cache.set("k", 1_u32).await }).await;
    assert_eq!(server.command(&["EXISTS", "t:k"]), "1");
}

#[tokio::test]
async fn processes_may_write_with_different_codecs() {
    let server = RedisServer::start();
    let (one, two) = (process(&server).await, process(&server).await);
    assert!(one.set("json", ticker(1.0)).codec(codec::AnyCodec::Json).await);
    assert!(one.set("postcard", ticker(2.0)).codec(codec::AnyCodec::Postcard).await);
    assert_eq!(two.get("json").await, Some(Arc::new(ticker(1.0))));
    assert_eq!(two.get("postcard").await, Some(Arc::new(ticker(2.0))));
}

#[tokio::test]
async fn an_operators_removal_of_a_tags_marker_makes_its_entries_misses() {
    let server = RedisServer::start();
    let one = process(&server).await;
    assert!(one.set("k", 1_u32).tag("symbol:BTCUSDT").await);
    assert!(one.set("other", 2_u32).tag("symbol:ETHUSDT").await);
    let marker = Tag::from("symbol:BTCUSDT").marker("t:");
    assert_eq!(server.command(&["DEL", marker.as_str()]), "1");
    // Nobody told the near tiers, so a process asks that has none of it yet.
    let two = cache_at(&server.url()).await;
    assert_eq!(two.try_get::<_, u32>("k").await.unwrap(), None);
    assert_eq!(two.try_get::<_, u32>("other").await.unwrap(), Some(Arc::new(2)));
}

#[tokio::test]
async fn an_operators_removal_of_a_key_is_a_miss_and_not_an_error() {
    let server = RedisServer::start();
    let (one, two) = (process(&server).await, process(&server).await);
    load(&one, 1.0).await;
    until("the load is committed", || async { two.exists("ticker").await }).await;
    server.command(&["FLUSHALL"]);
    assert_eq!(load(&two, 2.0).await, (ticker(2.0), Source::Loaded));
}

#[tokio::test]
async fn a_foreign_value_is_a_miss_and_stays() {
    let server = RedisServer::start();
    let one = process(&server).await;
    server.command(&["SET", "t:ticker", "not ours"]);
    assert_eq!(load(&one, 1.0).await, (ticker(1.0), Source::Loaded));
    assert_eq!(server.command(&["GET", "t:ticker"]), "not ours");
    assert!(one.stats().undecodable > 0);
}

#[tokio::test]
async fn counters_count_together() {
    let server = RedisServer::start();
    let (one, two) = (process(&server).await, process(&server).await);
    one.prefix("stats").increment("calls", 2).await.unwrap();
    assert_eq!(two.prefix("stats").increment("calls", 3).await.unwrap(), 5);
    assert_eq!(one.counter("stats:calls").await.unwrap(), Some(5));
}
