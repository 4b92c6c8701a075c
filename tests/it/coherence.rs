//! Invalidations and writes that reach the near tiers of other processes over the bus, and what becomes of those that do not.

use std::{sync::Arc, time::Duration};

use larder::{Cache, Status};
use larder_testing::{FaultProxy, ProxyMode, RedisServer};
use larder_tests::coherence::SplitBackend;
use tokio::sync::oneshot;

use crate::{DEADLINE, PATIENT, backend_at, cache_at, hears_the_bus, process, until};

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
async fn a_pattern_leaves_what_larder_keeps_for_itself() {
    let server = RedisServer::start();
    let cache = process(&server).await;
    assert!(cache.set("plan", 1_u32).await);
    assert_eq!(server.command(&["EXISTS", "t:%run", "t:%tag:%all"]), "2");
    assert_eq!(server.command(&["SET", "t:%lease:even", "a process loads it"]), "OK");
    assert_eq!(cache.keys("*n", 10).await.unwrap(), [cache.key("plan")]);
    let removed = cache.invalidate().pattern("*n").await.unwrap();
    assert_eq!(server.command(&["EXISTS", "t:plan", "t:%run", "t:%lease:even"]), "2");
    assert_eq!(removed.remote, 1);
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

/// A cache that hears others through the proxy; what it reads and writes goes to the server itself. Without a bus its near
/// entries live as long as with one: if one is gone, it did not just expire.
async fn listener(server: &RedisServer, proxy: &FaultProxy) -> Cache {
    let backend = SplitBackend::new(backend_at(&server.url()), backend_at(&server.url_at(proxy.port())), None);
    let builder = Cache::builder().namespace("t").strategy(PATIENT).blind_ttl(Duration::from_secs(600));
    let builder = builder.remote_command_deadline(DEADLINE).backend(Arc::new(backend));
    let cache = builder.build().await.expect("the settings are valid");
    hears_the_bus(&cache).await;
    cache
}

async fn is_trusted(cache: &Cache) -> bool {
    cache.health().await.remote.is_some_and(|remote| remote.bus_trusted)
}

/// Another process invalidates a key and a tag while the link of the messages is away. It returns.
async fn the_bus_link_drops_and_returns(gap: ProxyMode) {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.expect("there is a free port");
    let (one, two) = (process(&server).await, listener(&server, &proxy).await);
    assert!(one.set("a", 1_u32).await && one.set("b", 1_u32).tag("x").await);

    proxy.set(gap).await;
    until("the loss is noticed", || async { !is_trusted(&two).await }).await;
    for key in ["a", "b"] {
        assert_eq!(two.get(key).await, Some(Arc::new(1_u32)));
        assert!(holds(&two, key).await, "{key} is in the near tier during the gap");
    }
    // A load that reads the old value during the gap and comes to its end after it.
    let (loads, loading) = oneshot::channel();
    let (release, released) = oneshot::channel();
    let late = tokio::spawn({
        let two = two.clone();
        async move {
            let loader = || async {
                loads.send(()).expect("the test waits for it");
                released.await.expect("the test releases it");
                Ok::<_, std::io::Error>(1_u32)
            };
            two.get_or_load("c", loader).tag("x").await.expect("the loader does not fail")
        }
    });
    loading.await.expect("the load begins");
    let removed = one.invalidate().keys(["a", "c"]).tag("x").await.expect("Redis is there");
    assert_eq!(removed.status, Status::Done);

    proxy.set(ProxyMode::Pass).await;
    hears_the_bus(&two).await;
    for key in ["a", "b"] {
        assert!(!holds(&two, key).await, "the near tier still has {key}");
        assert_eq!(two.get::<_, u32>(key).await, None, "{key} is served");
    }
    release.send(()).expect("the load waits");
    assert_eq!(
        *late.await.expect("the load does not panic"),
        1,
        "who asked before the invalidation may have the old value"
    );
    for cache in [&two, &one] {
        assert_eq!(
            cache.try_get::<_, u32>("c").await.expect("Redis is there"),
            None,
            "what was loaded before is kept nowhere"
        );
    }
}

#[tokio::test]
async fn nothing_that_was_invalidated_while_the_bus_was_cut_is_served_once_it_is_confirmed() {
    the_bus_link_drops_and_returns(ProxyMode::Refuse).await;
}

#[tokio::test]
async fn nothing_that_was_invalidated_while_the_bus_was_half_open_is_served_once_it_is_confirmed() {
    the_bus_link_drops_and_returns(ProxyMode::Blackhole).await;
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
