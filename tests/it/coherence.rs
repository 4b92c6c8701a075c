//! Invalidations and writes that reach the near tiers of other processes over the bus.

use larder::{Cache, Status};
use larder_testing::RedisServer;

use crate::{process, until};

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
async fn under_an_update_no_process_keeps_what_it_read_before_the_change() {
    let server = RedisServer::start();
    let (one, two) = both_hold(&server, &[("a", "x"), ("b", "x"), ("c", "y")]).await;
    let load = async |value: u32| *two.get_or_load("a", move || async move { Ok::<_, ()>(value) }).await.unwrap();
    let change = || async {
        for key in ["a", "b"] {
            loses(&two, key).await;
        }
        assert_eq!(load(1).await, 1, "the old value, read under the hold");
        assert!(!holds(&two, "a").await);
        assert_eq!(load(2).await, 2);
        Ok::<_, ()>(())
    };
    let updated = one.update().key("a").tag("x").run(change).await.unwrap();
    let invalidated = updated.invalidated.unwrap();
    assert_eq!((invalidated.remote, invalidated.status), (2, Status::Done));
    until("it is loaded and kept again", || async {
        load(3).await;
        holds(&two, "a").await
    })
    .await;
    assert_eq!(load(4).await, 3);
    assert!(holds(&two, "c").await);
}
