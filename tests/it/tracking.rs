//! Near tiers that hear of writers which do not use Larder.

use std::sync::Arc;

use larder::Cache;
use larder_testing::{FaultProxy, ProxyMode, RedisServer};

use crate::{DEADLINE, PATIENT, backend_at, hears_the_bus, process, until};

/// A cache that tracks its keys. Its near entries end by themselves only long after the test.
async fn tracking(url: &str) -> Cache {
    let builder = Cache::builder().namespace("t").strategy(PATIENT).remote_command_deadline(DEADLINE);
    let cache =
        builder.tracking(true).backend(Arc::new(backend_at(url))).build().await.expect("the settings are valid");
    hears_the_bus(&cache).await;
    // Also that the markers are there, and that it hears of changes by others.
    until("it is told of changes", || async {
        cache.set("warming", 1_u32).await;
        holds(&cache, "warming").await
    })
    .await;
    cache
}

/// Whether the near tier has it; Redis is not asked.
async fn holds(cache: &Cache, key: &str) -> bool {
    cache.near().get::<_, u32>(key).await.is_some()
}

async fn loses(cache: &Cache, key: &str) {
    until("it is dropped", || async { !holds(cache, key).await }).await;
}

#[tokio::test]
async fn what_an_operator_deletes_overwrites_or_flushes_leaves_the_near_tier() {
    let server = RedisServer::start();
    let cache = tracking(&server.url()).await;
    for key in ["a", "b", "c"] {
        assert!(cache.set(key, 1_u32).await);
        assert!(holds(&cache, key).await, "{key}");
    }
    assert_eq!(server.command(&["DEL", "t:a"]), "1");
    loses(&cache, "a").await;
    assert_eq!(cache.get::<_, u32>("a").await, None);
    assert_eq!(server.command(&["SET", "t:b", "not an entry"]), "OK");
    loses(&cache, "b").await;
    assert!(holds(&cache, "c").await, "c was left alone");
    assert_eq!(server.command(&["FLUSHDB"]), "OK");
    loses(&cache, "c").await;
    assert_eq!(cache.get::<_, u32>("c").await, None);
}

#[tokio::test]
async fn what_expires_in_redis_before_its_time_leaves_the_near_tier() {
    let server = RedisServer::start();
    let cache = tracking(&server.url()).await;
    assert!(cache.set("a", 1_u32).await);
    assert_eq!(server.command(&["PEXPIRE", "t:a", "1"]), "1");
    loses(&cache, "a").await;
}

#[tokio::test]
async fn ones_own_writes_do_not_throw_ones_own_entries_away() {
    let server = RedisServer::start();
    let cache = tracking(&server.url()).await;
    for round in 0..20_u32 {
        assert!(cache.set("a", round).await);
        assert_eq!(
            *cache.get_or_load(format!("l:{round}"), move || async move { Ok::<_, ()>(round) }).await.unwrap(),
            round
        );
    }
    // What others change is told in the order in which it changed: when this has come, so has everything before.
    assert!(cache.set("last", 1_u32).await);
    assert_eq!(server.command(&["DEL", "t:last"]), "1");
    loses(&cache, "last").await;
    assert!(holds(&cache, "a").await);
    for round in 0..20_u32 {
        assert!(holds(&cache, &format!("l:{round}")).await, "l:{round}");
    }
}

#[tokio::test]
async fn what_another_cache_writes_is_seen() {
    let server = RedisServer::start();
    let (one, two) = (tracking(&server.url()).await, process(&server).await);
    assert!(one.set("a", 1_u32).await);
    assert!(two.set("a", 2_u32).await);
    until("the new value is read", || async { one.get::<_, u32>("a").await.as_deref() == Some(&2) }).await;
}

#[tokio::test]
async fn while_changes_may_be_missed_near_entries_are_not_relied_on() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let cache = tracking(&server.url_at(proxy.port())).await;
    assert!(cache.set("a", 1_u32).await && holds(&cache, "a").await);
    proxy.set(ProxyMode::Refuse).await;
    assert_eq!(server.command(&["DEL", "t:a"]), "1");
    loses(&cache, "a").await;
    proxy.set(ProxyMode::Pass).await;
    until("it is told of changes again", || async {
        cache.set("b", 1_u32).await;
        holds(&cache, "b").await
    })
    .await;
    assert_eq!(cache.get::<_, u32>("a").await, None);
}

#[tokio::test]
async fn a_backend_that_does_not_tell_of_changes_is_refused() {
    let memory = larder_memory::MemoryBackend::builder().build().unwrap();
    let error = Cache::builder().tracking(true).backend(Arc::new(memory)).build().await.unwrap_err();
    assert!(error.to_string().contains("tracking"), "{error}");
}
