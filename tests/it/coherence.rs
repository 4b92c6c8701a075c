//! Invalidations and writes that reach the near tiers of other processes over the bus.

use larder::{Cache, Status};
use larder_testing::{FaultProxy, ProxyMode, RedisServer};

use crate::{cache_at, hears_the_bus, process, until};

/// Two processes, with these keys in both of their near tiers.
async fn both_hold(server: &RedisServer, keys: &[(&str, &str)]) -> (Cache, Cache) {
    let (one, two) = (process(server).await, process(server).await);
    for (key, tag) in keys {
        assert!(one.set(*key, 1_u32).tag(*tag).await);
        // A write is announced: what the other reads before it has heard of it, it drops again.
        until("the other process holds it", || async {
            two.get::<_, u32>(*key).await;
            holds(&two, key).await
        })
        .await;
    }
    for (key, _) in keys {
        until("both hold it", || async {
            two.get::<_, u32>(*key).await;
            holds(&one, key).await && holds(&two, key).await
        })
        .await;
    }
    (one, two)
}

/// Whether the near tier has it; Redis is not asked.
async fn holds(cache: &Cache, key: &str) -> bool {
    cache.near().get::<_, u32>(key).await.is_some()
}

async fn loses(cache: &Cache, key: &str) {
    until("the near tier has dropped it", || async { !holds(cache, key).await }).await;
    let stored = cache.try_get::<_, u32>(key).await.expect("Redis is there");
    assert_eq!(stored, None, "{key} is in Redis");
}

#[tokio::test]
async fn an_invalidation_by_key_reaches_the_other_process() {
    let server = RedisServer::start();
    let (one, two) = both_hold(&server, &[("a", "x"), ("b", "x")]).await;
    let removed = one.invalidate().key("a").await.unwrap();
    assert_eq!((removed.near, removed.remote, removed.status), (1, 1, Status::Done));
    assert!(!holds(&one, "a").await);
    loses(&two, "a").await;
    assert!(holds(&two, "b").await);
}

#[tokio::test]
async fn an_invalidation_by_tag_reaches_the_other_process() {
    let server = RedisServer::start();
    let (one, two) = both_hold(&server, &[("a", "x"), ("b", "x"), ("c", "y")]).await;
    one.invalidate().tag("x").await.unwrap();
    for key in ["a", "b"] {
        assert!(!holds(&one, key).await);
        loses(&two, key).await;
    }
    assert!(holds(&two, "c").await);
}

#[tokio::test]
async fn an_invalidation_by_pattern_reaches_the_other_process() {
    let server = RedisServer::start();
    let (one, two) = both_hold(&server, &[("api:ticker:BTC", "x"), ("api:ticker:ETH", "x"), ("api:news:1", "x")]).await;
    let removed = one.invalidate().pattern("api:ticker:*").await.unwrap();
    assert_eq!(removed.remote, 2);
    for key in ["api:ticker:BTC", "api:ticker:ETH"] {
        loses(&two, key).await;
    }
    assert!(holds(&two, "api:news:1").await);
}

#[tokio::test]
async fn an_invalidation_by_symbol_reaches_the_other_process_and_no_other_symbol() {
    let server = RedisServer::start();
    let keys =
        [("api:ticker:BTC", "x"), ("indicator:rsi:BTC:14", "x"), ("board", "symbol:BTC"), ("api:ticker:BTCUSDT", "x")];
    let (one, two) = both_hold(&server, &keys).await;
    one.invalidate().symbol("BTC").await.unwrap();
    for key in ["api:ticker:BTC", "indicator:rsi:BTC:14", "board"] {
        loses(&two, key).await;
    }
    assert!(holds(&two, "api:ticker:BTCUSDT").await);
}

#[tokio::test]
async fn clearing_reaches_the_other_process() {
    let server = RedisServer::start();
    let (one, two) = both_hold(&server, &[("a", "x"), ("b", "y")]).await;
    one.clear().await.unwrap();
    loses(&two, "a").await;
    loses(&two, "b").await;
}

#[tokio::test]
async fn a_write_reaches_the_other_process() {
    let server = RedisServer::start();
    let (one, two) = both_hold(&server, &[("a", "x")]).await;
    assert!(one.set("a", 2_u32).await);
    until("the new value is read", || async { two.get::<_, u32>("a").await.as_deref() == Some(&2) }).await;
}

#[tokio::test]
async fn what_another_namespace_invalidates_is_nobody_elses_business() {
    let server = RedisServer::start();
    let (one, two) = both_hold(&server, &[("a", "x")]).await;
    let stranger = Cache::builder().namespace("t2").redis(server.url()).build().await.unwrap();
    until("the stranger has cleared", || async { stranger.clear().await.is_ok() }).await;
    // A later message of the same channel has been heard, so the stranger's would have been too.
    one.invalidate().key("b").await.unwrap();
    assert!(holds(&one, "a").await && holds(&two, "a").await);
    assert!(one.try_get::<_, u32>("a").await.unwrap().is_some());
}

#[tokio::test]
async fn what_was_invalidated_while_the_link_was_down_is_not_served_once_it_is_back() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let one = process(&server).await;
    let two = cache_at(&server.url_at(proxy.port())).await;
    hears_the_bus(&two).await;
    assert!(one.set("k", 1_u32).tag("t").await);
    until("it is in both near tiers", || async {
        two.get::<_, u32>("k").await;
        holds(&two, "k").await
    })
    .await;
    proxy.set(ProxyMode::Refuse).await;
    one.invalidate().tag("t").await.unwrap();
    until("the cut is noticed", || async { !two.health().await.remote.unwrap().bus_trusted }).await;
    assert!(!holds(&two, "k").await);
    proxy.set(ProxyMode::Pass).await;
    hears_the_bus(&two).await;
    assert_eq!(two.get::<_, u32>("k").await, None);
}

#[tokio::test]
async fn a_marker_that_redis_evicted_makes_misses_until_a_new_one_is_made() {
    let server = RedisServer::start();
    let (one, two) = both_hold(&server, &[("a", "x"), ("b", "y")]).await;
    assert_eq!(server.command(&["DEL", "t:%tag:x"]), "1");
    loses(&one, "a").await;
    loses(&two, "a").await;
    assert!(holds(&one, "b").await && holds(&two, "b").await);
    assert!(two.set("a", 2_u32).tag("x").await);
    until("both agree", || async { one.get::<_, u32>("a").await.as_deref() == Some(&2) }).await;
}

#[tokio::test]
async fn a_key_that_was_rewritten_without_a_tag_is_no_business_of_the_tag() {
    let server = RedisServer::start();
    let (one, two) = both_hold(&server, &[("a", "x")]).await;
    assert!(two.set("a", 2_u32).await);
    one.invalidate().tag("x").await.unwrap();
    until("the new value is read", || async { one.get::<_, u32>("a").await.as_deref() == Some(&2) }).await;
    one.invalidate().tag("x").await.unwrap();
    assert_eq!(two.get::<_, u32>("a").await.as_deref(), Some(&2));
    assert!(holds(&one, "a").await);
}
