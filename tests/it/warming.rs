//! Warming through the functions that the service calls.

use std::{convert::Infallible, time::Duration};

use larder::{Cache, Source, Strategy, cached, with_cache};
use larder_testing::RedisServer;
use larder_warming::{Report, Warmed, Warmer, product};

use crate::{PATIENT, process};

const INDICATOR: Strategy = PATIENT.jitter(0.0).hard_timeout(Duration::from_secs(20));

#[cached(strategy = INDICATOR, region = "indicator", key = "{name}:{symbol}", tags = ["symbol:{symbol}"])]
async fn indicator(name: &str, symbol: &str) -> usize {
    name.len() + symbol.len()
}

async fn warm(cache: &Cache) -> Report {
    let warmer = Warmer::builder().concurrency(3).build().expect("the settings are valid");
    let keys = product(["rsi", "macd"], ["BTCUSDT", "ETHUSDT", "BNBUSDT"]);
    let cache = cache.clone();
    let load = move |(name, symbol)| {
        with_cache(cache.clone(), async move {
            let outcome = indicator::outcome(name, symbol).await;
            let loaded = outcome.source == Source::Loaded;
            Ok::<_, Infallible>(if loaded { Warmed::Loaded } else { Warmed::AlreadyWarm })
        })
    };
    warmer.run("indicators", keys, load).await
}

#[tokio::test]
async fn what_was_warmed_is_a_hit_for_the_service_and_for_the_next_process() {
    let server = RedisServer::start();
    let (one, two) = (process(&server).await, process(&server).await);

    let report = warm(&one).await;
    assert_eq!((report.loaded, report.already_warm, report.failed), (6, 0, 0), "{report}");
    let outcome = with_cache(one.clone(), indicator::outcome("rsi", "BTCUSDT")).await;
    assert_eq!((outcome.value, outcome.source), (10, Source::Near));

    // The other process finds it in Redis and takes it into its near tier.
    let report = warm(&two).await;
    assert_eq!((report.loaded, report.already_warm, report.failed), (0, 6, 0), "{report}");
    let outcome = with_cache(two.clone(), indicator::outcome("rsi", "BTCUSDT")).await;
    assert_eq!(outcome.source, Source::Near);
}

#[tokio::test]
async fn what_was_invalidated_is_warmed_anew_and_nothing_else() {
    let server = RedisServer::start();
    let cache = process(&server).await;
    warm(&cache).await;
    cache.invalidate().symbol("ETHUSDT").await.unwrap();
    let report = warm(&cache).await;
    assert_eq!((report.loaded, report.already_warm), (2, 4), "{report}");
}
