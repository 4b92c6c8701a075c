//! Word of changes by others: which come, which do not, and when it is not to be relied on.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::BoxStream};
use larder_core::{
    Announcement, Atomic, BackendExt, BusSource, Bytes, Expected, GetOptions, Key, SetItem, Tracking, TrackingEvent,
    envelope::{CodecId, Header, Kind},
};
use larder_redis::RedisBackend;
use larder_testing::{RedisCluster, RedisServer};

use crate::server::{backend_of, config_of, key, plain, within};

type Events = BoxStream<'static, TrackingEvent>;

async fn next(events: &mut Events) -> TrackingEvent {
    within(events.next()).await.expect("the stream goes on until it is dropped")
}

async fn tracked(backend: &RedisBackend) -> Events {
    let mut events = backend.track("n:");
    assert_eq!(next(&mut events).await, TrackingEvent::Confirmed);
    events
}

fn keys(names: &[&str]) -> TrackingEvent {
    TrackingEvent::Keys(names.iter().map(|name| key(name)).collect())
}

/// An entry of a write that no other is like.
fn entry(payload: &str) -> Bytes {
    Header::new(Kind::Value, CodecId::RAW).encode(payload.as_bytes()).unwrap().into()
}

fn placeholder() -> Bytes {
    Header::new(Kind::Placeholder, CodecId::RAW).encode(b"").unwrap().into()
}

/// Asserts that nothing is told before what is written now.
async fn assert_silent(server: &RedisServer, events: &mut Events) {
    server.command(&["SET", "n:end", "1"]);
    assert_eq!(next(events).await, keys(&["n:end"]));
}

#[tokio::test]
async fn writes_removals_and_ends_of_life_by_whomever_are_told_and_those_of_other_prefixes_not() {
    let server = RedisServer::start();
    let backend = backend_of(&server).await;
    let mut events = tracked(&backend).await;
    server.command(&["SET", "n:a", "1"]);
    assert_eq!(next(&mut events).await, keys(&["n:a"]));
    server.command(&["SET", "other:a", "1"]);
    server.command(&["DEL", "n:a"]);
    assert_eq!(next(&mut events).await, keys(&["n:a"]));
    server.command(&["SET", "n:b", "1", "PX", "20"]);
    assert_eq!(next(&mut events).await, keys(&["n:b"]));
    assert_eq!(next(&mut events).await, keys(&["n:b"]), "it expired");
    server.command(&["MSET", "n:c", "1", "n:d", "1"]);
    assert_eq!(next(&mut events).await, keys(&["n:c", "n:d"]));
    server.command(&["FLUSHDB"]);
    assert_eq!(next(&mut events).await, TrackingEvent::Flushed);
}

#[tokio::test]
async fn what_is_evicted_is_told() {
    let server = RedisServer::start();
    let backend = backend_of(&server).await;
    server.command(&["SET", "n:a", "1"]);
    let mut events = tracked(&backend).await;
    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]);
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    // Commands that need memory make room first.
    drop(server.try_command(&["SET", "other", "1"]));
    assert_eq!(next(&mut events).await, keys(&["n:a"]));
}

#[tokio::test]
async fn own_values_are_not_told_but_what_others_make_of_them_is() {
    let server = RedisServer::start();
    let (backend, other) = (backend_of(&server).await, backend_of(&server).await);
    let mut events = tracked(&backend).await;
    let (name, life) = (key("n:k"), Duration::from_secs(600));
    for _ in 0..20 {
        // A load: a placeholder, and the value in its place.
        let (placeholder, value) = (placeholder(), entry("value"));
        assert_eq!(backend.get_or_set(&name, placeholder.clone(), life).await.unwrap(), None);
        let expected = Expected::prefix(placeholder.slice(..16));
        assert!(backend.compare_and_set(&name, &expected, value, plain()).await.unwrap().is_stored());
        backend.set(&name, entry("written over"), plain()).await.unwrap();
        assert_silent(&server, &mut events).await;
        // One's own removal is told, with what another one stores.
        backend.delete(&name).await.unwrap();
        assert_eq!(next(&mut events).await, keys(&["n:k"]));
    }
    let items: Vec<_> = (0..50).map(|index| SetItem::new(key(&format!("n:{index}")), entry("v"), plain())).collect();
    larder_core::Backend::set_many(&backend, &items).await.into_iter().for_each(|it| assert!(it.unwrap().is_stored()));
    assert_silent(&server, &mut events).await;
    // Right behind one's own, so that both may be told as one.
    for _ in 0..20 {
        backend.set(&name, entry("own"), plain()).await.unwrap();
        other.set(&name, entry("another's"), plain()).await.unwrap();
        assert_eq!(next(&mut events).await, keys(&["n:k"]));
        assert_silent(&server, &mut events).await;
    }
    backend.set(&name, entry("own"), plain()).await.unwrap();
    server.command(&["DEL", "n:k"]);
    assert_eq!(next(&mut events).await, keys(&["n:k"]));
    // What is no entry cannot be told from another's.
    backend.set(&name, "plain".into(), plain()).await.unwrap();
    assert_eq!(next(&mut events).await, keys(&["n:k"]));
}

/// What is told before what is written now.
async fn told(server: &RedisServer, events: &mut Events) -> BTreeSet<Key> {
    server.command(&["SET", "n:end", "1"]);
    let mut told = BTreeSet::new();
    while !told.contains(&key("n:end")) {
        match next(events).await {
            TrackingEvent::Keys(keys) => told.extend(keys),
            other => panic!("{other:?}"),
        }
    }
    told
}

#[tokio::test]
async fn a_removal_by_others_is_told_though_the_key_is_being_loaded_or_was_loaded_anew() {
    let server = RedisServer::start();
    // One socket, so that what stands under the key is looked at after the load has begun.
    let config = config_of(&server).sockets(1).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    let mut events = tracked(&backend).await;
    let (name, life) = (key("n:k"), Duration::from_secs(600));
    for is_loaded in [false, true] {
        backend.set(&name, entry("a value that is kept near"), plain()).await.unwrap();
        assert_silent(&server, &mut events).await;
        server.command(&["DEL", "n:k"]);
        let token = placeholder();
        assert_eq!(backend.get_or_set(&name, token.clone(), life).await.unwrap(), None);
        if is_loaded {
            let expected = Expected::prefix(token.slice(..16));
            assert!(backend.compare_and_set(&name, &expected, entry("new"), plain()).await.unwrap().is_stored());
        }
        assert!(told(&server, &mut events).await.contains(&name), "loaded: {is_loaded}");
        backend.delete(&name).await.unwrap();
        told(&server, &mut events).await;
    }
}

#[tokio::test]
async fn a_load_after_ones_own_removal_or_the_end_of_a_life_is_ones_own() {
    let server = RedisServer::start();
    let config = config_of(&server).sockets(1).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    let mut events = tracked(&backend).await;
    let (name, life) = (key("n:k"), Duration::from_secs(600));
    let load = async || {
        let token = placeholder();
        assert_eq!(backend.get_or_set(&name, token.clone(), life).await.unwrap(), None);
        let expected = Expected::prefix(token.slice(..16));
        assert!(backend.compare_and_set(&name, &expected, entry("new"), plain()).await.unwrap().is_stored());
    };
    for by_many in [false, true] {
        backend.set(&name, entry("old"), plain()).await.unwrap();
        assert_silent(&server, &mut events).await;
        if by_many {
            let gone: Announcement = Arc::new(|_| Bytes::from_static(b"gone"));
            backend.remove_and_publish(std::slice::from_ref(&name), "n:%bus", &gone).await;
        } else {
            backend.delete(&name).await.unwrap();
        }
        told(&server, &mut events).await;
        load().await;
        assert_silent(&server, &mut events).await;
    }
    // Others removed it, which was told.
    server.command(&["DEL", "n:k"]);
    assert!(told(&server, &mut events).await.contains(&name));
    load().await;
    assert_silent(&server, &mut events).await;
}

#[tokio::test]
async fn own_values_are_not_told_however_many_there_are() {
    let server = RedisServer::start();
    let backend = backend_of(&server).await;
    let mut events = tracked(&backend).await;
    for round in 0..20 {
        let item = |index| SetItem::new(key(&format!("n:{round}:{index}")), entry("v"), plain());
        let items: Vec<_> = (0..1000).map(item).collect();
        let stored = larder_core::Backend::set_many(&backend, &items).await;
        assert!(stored.into_iter().all(|answer| answer.unwrap().is_stored()));
        assert_eq!(told(&server, &mut events).await.len(), 1, "round {round}: the end, and none of these");
    }
}

#[tokio::test]
async fn a_link_that_is_lost_is_told_and_confirmed_when_it_stands_again() {
    let mut server = RedisServer::start();
    let backend = backend_of(&server).await;
    let mut events = tracked(&backend).await;
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    assert_eq!(next(&mut events).await, TrackingEvent::Lost);
    assert_eq!(next(&mut events).await, TrackingEvent::Confirmed);
    server.kill();
    assert_eq!(next(&mut events).await, TrackingEvent::Lost);
    server.restart();
    assert_eq!(next(&mut events).await, TrackingEvent::Confirmed);
    assert_silent(&server, &mut events).await;
}

#[tokio::test]
async fn nothing_is_tracked_any_more_after_the_stream_is_dropped() {
    let server = RedisServer::start();
    let backend = backend_of(&server).await;
    let tracking = || {
        let info = server.command(&["INFO", "clients"]);
        info.lines().find_map(|line| line.trim_end().strip_prefix("tracking_clients:")).unwrap().to_owned()
    };
    let events = tracked(&backend).await;
    assert_eq!(tracking(), "1");
    drop(events);
    within(async {
        while tracking() != "0" {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn without_the_right_nothing_is_confirmed_until_it_is_given() {
    let server = RedisServer::builder().acl("user shop on >s3cret ~* &* +@all -client|tracking").start();
    let backend = within(RedisBackend::connect(config_of(&server).user("shop").password("s3cret").build().unwrap()));
    let backend = backend.await.unwrap();
    let mut events = backend.track("n:");
    within(async {
        while !server.command(&["ACL", "LOG"]).contains("client|tracking") {
            assert!(futures_util::poll!(events.next()).is_pending());
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.command(&["ACL", "SETUSER", "shop", "+client|tracking"]);
    assert_eq!(next(&mut events).await, TrackingEvent::Confirmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_all_primaries_are_tracked_and_a_failover_is_a_loss() {
    let cluster = RedisCluster::start();
    let config = larder_redis::RedisConfig::from_url(cluster.url()).unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    let mut events = tracked(&backend).await;
    let names: Vec<Key> = (0..60).map(|index| key(&format!("n:{index}"))).collect();
    let writer = within(RedisBackend::connect(larder_redis::RedisConfig::from_url(cluster.url()).unwrap()));
    let writer = writer.await.unwrap();
    let items: Vec<_> = names.iter().map(|name| SetItem::new(name.clone(), entry("v"), plain())).collect();
    larder_core::Backend::set_many(&writer, &items).await.into_iter().for_each(|it| assert!(it.unwrap().is_stored()));
    let mut told = BTreeSet::new();
    while told.len() < names.len() {
        match next(&mut events).await {
            TrackingEvent::Keys(keys) => told.extend(keys),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, names.iter().cloned().collect());
    // One's own, on whichever node.
    larder_core::Backend::set_many(&backend, &items).await.into_iter().for_each(|it| assert!(it.unwrap().is_stored()));
    let primary = cluster.primary_of("n:0");
    let replica = cluster.replica_of(primary);
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.failover(replica);
        cluster
    });
    let reading = async {
        loop {
            drop(larder_core::Backend::get_many(&backend, &names, GetOptions::new()).await);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = reading => {}
        event = next(&mut events) => assert_eq!(event, TrackingEvent::Lost),
    }
    assert_eq!(next(&mut events).await, TrackingEvent::Confirmed);
    let cluster = cluster.await.unwrap();
    writer.set(&names[0], entry("new"), plain()).await.unwrap();
    loop {
        match next(&mut events).await {
            TrackingEvent::Keys(keys) if keys == [names[0].clone()] => break,
            // It may have been confirmed before all nodes agreed.
            TrackingEvent::Lost | TrackingEvent::Confirmed => {
                writer.set(&names[0], entry("new"), plain()).await.unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    drop(cluster);
}
