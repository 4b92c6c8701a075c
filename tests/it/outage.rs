//! Redis goes away, comes back, or was never there.

use std::sync::Arc;

use larder::{Cache, HealthStatus, Source, Status};
use larder_testing::{FaultProxy, ProxyMode, RedisServer};

use crate::{PATIENCE, cache_at, hears_the_bus, process, until};

async fn load(cache: &Cache, key: &str, value: u32) -> (u32, Source) {
    let loader = move || async move { Ok::<_, std::io::Error>(value) };
    let outcome = cache.get_or_load(key, loader).outcome().await.expect("a load needs no Redis");
    (*outcome.value, outcome.source)
}

async fn is_in_use(cache: &Cache, server: &RedisServer) {
    until("Redis is used again", || async {
        cache.set("back", 1_u32).await && server.command(&["EXISTS", "t:back"]) == "1"
    })
    .await;
}

#[tokio::test]
async fn reads_go_on_while_redis_is_away_and_use_it_again_when_it_is_back() {
    let mut server = RedisServer::start();
    let cache = process(&server).await;
    assert_eq!(load(&cache, "before", 1).await, (1, Source::Loaded));
    assert_eq!(cache.health().await.status, HealthStatus::Healthy);

    server.kill();
    until("the cut is noticed", || async { !cache.health().await.remote.unwrap().bus_trusted }).await;
    for round in 0..5 {
        let key = format!("during:{round}");
        assert_eq!(load(&cache, &key, round).await, (round, Source::Loaded));
        assert_eq!(load(&cache, &key, 100).await, (round, Source::Near));
    }
    let health = cache.health().await;
    assert_eq!(health.status, HealthStatus::Degraded);
    assert!(health.is_serving() && health.why.is_some());
    let remote = health.remote.unwrap();
    assert!(!remote.reachable);
    assert_ne!(remote.breaker, "closed");

    server.restart();
    is_in_use(&cache, &server).await;
    assert_eq!(load(&cache, "after", 3).await, (3, Source::Loaded));
    let two = process(&server).await;
    assert_eq!(load(&two, "after", 4).await, (3, Source::Remote));
    hears_the_bus(&cache).await;
    assert_eq!(cache.health().await.status, HealthStatus::Healthy);
}

#[tokio::test]
async fn a_counter_fails_in_an_outage_rather_than_count_alone() {
    let mut server = RedisServer::start();
    let cache = process(&server).await;
    assert_eq!(cache.increment("calls", 1).await.unwrap(), 1);
    server.kill();
    for _ in 0..5 {
        let error = cache.increment("calls", 1).await.expect_err("another process may count too");
        assert!(error.is_transient(), "{error}");
    }
}

#[tokio::test]
async fn the_methods_that_try_tell_of_an_outage_once_the_breaker_is_open() {
    let mut server = RedisServer::start();
    let cache = process(&server).await;
    server.kill();
    for _ in 0..5 {
        assert_eq!(cache.get::<_, u32>("k").await, None);
    }
    for _ in 0..5 {
        let error = cache.try_get::<_, u32>("k").await.expect_err("nobody can tell whether it is there");
        assert!(error.is_transient(), "{error}");
    }
}

#[tokio::test]
async fn redis_may_be_absent_at_the_start() {
    let mut server = RedisServer::start();
    server.kill();
    let cache = cache_at(&server.url()).await;
    assert_eq!(load(&cache, "k", 1).await, (1, Source::Loaded));
    assert_eq!(load(&cache, "k", 2).await, (1, Source::Near));
    assert_eq!(cache.health().await.status, HealthStatus::Degraded);
    server.restart();
    is_in_use(&cache, &server).await;
    hears_the_bus(&cache).await;
}

#[tokio::test]
async fn what_was_invalidated_in_an_outage_does_not_come_back_with_redis() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let witness = process(&server).await;
    let cache = cache_at(&server.url_at(proxy.port())).await;
    hears_the_bus(&cache).await;
    assert!(cache.set("k", 1_u32).await);

    proxy.set(ProxyMode::Refuse).await;
    let removed = cache.invalidate().key("k").await.expect("the removal is remembered");
    assert_eq!(removed.status, Status::Deferred);
    assert_eq!(cache.get::<_, u32>("k").await, None);
    assert_eq!(witness.get("k").skip_near().await, Some(Arc::new(1_u32)), "Redis could not be reached");

    proxy.set(ProxyMode::Pass).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while server.command(&["EXISTS", "t:k"]) != "0" {
        assert_eq!(cache.get::<_, u32>("k").await, None, "it came back before it was removed");
        assert!(tokio::time::Instant::now() < deadline, "the removal was not made up for");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(cache.get::<_, u32>("k").await, None);
}

#[tokio::test]
async fn a_cut_of_the_bus_empties_the_near_tier() {
    let mut server = RedisServer::start();
    let cache = process(&server).await;
    assert!(cache.set("k", 1_u32).await);
    assert!(cache.near().get::<_, u32>("k").await.is_some());
    server.kill();
    until("the near tier is empty", || async { cache.near().get::<_, u32>("k").await.is_none() }).await;
}

/// Its entries carry the namespace's generation, and other processes remove what they share.
#[tokio::test]
async fn a_cache_does_not_copy_what_an_outage_left() {
    let builder = Cache::builder().redis("redis://127.0.0.1:1").fallback(|fallback| fallback.copy_back(10, 1 << 20));
    let error = builder.build().await.expect_err("it is unsafe");
    assert_eq!(error.kind(), larder::ErrorKind::Config);
    assert!(error.to_string().contains("`copy_back`"), "{error}");
}
