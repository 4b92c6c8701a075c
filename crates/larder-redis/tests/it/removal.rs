//! Removals that are told of in the same step: all of it happens or nothing, wherever it is cut off.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use larder_core::{Announcement, Backend, BackendExt, BusEvent, BusSource, Bytes, ErrorKind, Key, SetItem};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::{FaultProxy, ProxyMode, RedisCluster, RedisServer};

use crate::server::{backend_of, config_of, key, plain, until, within};

const CHANNEL: &str = "n:%bus";

fn keys(count: usize) -> Vec<Key> {
    (0..count).map(|index| key(&format!("k{index}"))).collect()
}

fn gone() -> Announcement {
    Arc::new(|_| Bytes::from_static(b"gone"))
}

async fn fill(backend: &RedisBackend, keys: &[Key]) {
    let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), "1", plain())).collect();
    backend.set_many(&items).await.into_iter().for_each(|answer| assert!(answer.unwrap().is_stored()));
}

/// How many messages come before one that is sent now.
async fn heard(backend: &RedisBackend, events: &mut futures_util::stream::BoxStream<'static, BusEvent>) -> usize {
    backend.open_bus(CHANNEL).await.unwrap().publish("end".into()).await.unwrap();
    let mut count = 0;
    loop {
        match within(events.next()).await.unwrap() {
            BusEvent::Message(message) if message == "end" => return count,
            BusEvent::Message(message) => {
                assert_eq!(message, "gone");
                count += 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn all_keys_of_a_socket_go_with_one_message_in_one_transaction() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let config = RedisConfig::builder().port(proxy.port()).sockets(1).batch_keys(40).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    let mut events = backend.open_bus(CHANNEL).await.unwrap().events();
    assert_eq!(within(events.next()).await, Some(BusEvent::Confirmed));
    let keys = keys(100);
    fill(&backend, &keys[..90]).await;
    let removed = backend.remove_and_publish(&keys, CHANNEL, &gone()).await;
    for (index, there) in removed.into_iter().enumerate() {
        assert_eq!(there.unwrap(), index < 90, "{index}");
    }
    let sent = ["multi", "unlink", "publish", "exec"].map(|name| proxy.commands_named(name));
    assert_eq!(sent, [3, 100, 3, 3], "chunks of 40, each with its message");
    assert_eq!(heard(&backend, &mut events).await, 3);
    assert!(backend.remove_and_publish(&[], CHANNEL, &gone()).await.is_empty());
    assert_eq!(heard(&backend, &mut events).await, 0);
}

#[tokio::test]
async fn wherever_the_connection_is_cut_no_key_is_removed_that_nobody_was_told_of() {
    let server = RedisServer::start();
    let (witness, proxy) = (backend_of(&server).await, FaultProxy::start(server.address()).await.unwrap());
    let mut events = witness.open_bus(CHANNEL).await.unwrap().events();
    assert_eq!(within(events.next()).await, Some(BusEvent::Confirmed));
    let config = RedisConfig::builder().port(proxy.port()).sockets(1).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    let (mut kept, mut told) = (0, 0);
    for length in 0_usize.. {
        fill(&witness, &keys(2)).await;
        until(async || backend.get(&key("k0")).await, Result::is_ok).await.unwrap();
        proxy.set(ProxyMode::Cut(length)).await;
        let removed = within(backend.remove_and_publish(&keys(2), CHANNEL, &gone())).await;
        proxy.set(ProxyMode::Pass).await;
        let there = witness.get_many(&keys(2), larder_core::GetOptions::new()).await;
        let gone: Vec<bool> = there.into_iter().map(|found| found.unwrap().is_none()).collect();
        let messages = heard(&witness, &mut events).await;
        match (gone.as_slice(), messages) {
            ([false, false], 0) => kept += 1,
            ([true, true], 1) => told += 1,
            other => panic!("cut after {length} bytes: {other:?}"),
        }
        if removed.into_iter().all(|answer| answer.is_ok()) {
            break;
        }
    }
    assert!(kept > 50 && told >= 1, "{kept} cuts kept the keys, {told} did not");
}

#[tokio::test]
async fn a_user_who_may_not_publish_removes_nothing_and_is_told_why() {
    for rights in ["&n:* ~n:* +@all -publish", "resetchannels ~n:* +@all"] {
        let server = RedisServer::builder().acl(&format!("user shop on >s3cret {rights}")).start();
        let config = config_of(&server).user("shop").password("s3cret").build().unwrap();
        let backend = within(RedisBackend::connect(config)).await.unwrap();
        server.command(&["SET", "n:k", "1"]);
        let removed = backend.remove_and_publish(&[key("n:k")], CHANNEL, &gone()).await;
        let error = removed.into_iter().next().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Auth, Some(&key("n:k"))));
        assert!(error.to_string().contains("publish"), "{error}");
        assert_eq!(server.command(&["GET", "n:k"]), "1");
    }
}

#[tokio::test]
async fn in_a_cluster_each_slot_has_its_transaction_and_every_node_hears() {
    let cluster = RedisCluster::builder().replicas(0).start();
    let config = RedisConfig::builder().url(cluster.url()).sockets(1).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    let mut keys = keys(60);
    keys.extend(["{t}1", "{t}2", "{t}3", "{t}2"].map(Key::from_canonical));
    let slots: std::collections::HashSet<_> = keys.iter().map(|key| cluster.slot_of(key.as_str())).collect();
    fill(&backend, &keys[1..]).await;
    let mut events = backend.open_bus(CHANNEL).await.unwrap().events();
    assert_eq!(within(events.next()).await, Some(BusEvent::Confirmed));
    let said = Arc::new(Mutex::new(Vec::new()));
    let says = Arc::clone(&said);
    let message: Announcement = Arc::new(move |keys| {
        says.lock().unwrap().push(keys.to_vec());
        Bytes::from_static(b"gone")
    });
    let removed = backend.remove_and_publish(&keys, CHANNEL, &message).await;
    let removed: Vec<bool> = removed.into_iter().map(Result::unwrap).collect();
    let there: Vec<bool> = (0..keys.len()).map(|index| index != 0 && index != 63).collect();
    assert_eq!(removed, there, "the first was absent, the last is named twice");
    for told in said.lock().unwrap().iter() {
        let slots: std::collections::HashSet<_> = told.iter().map(|key| cluster.slot_of(key.as_str())).collect();
        assert_eq!(slots.len(), 1, "a message names what goes with it: {told:?}");
    }
    for _ in 0..slots.len() {
        assert_eq!(within(events.next()).await, Some(BusEvent::Message("gone".into())));
    }
    for node in 0..3 {
        assert_eq!(cluster.node(node).command(&["DBSIZE"]), "0", "node {node}");
    }
}

#[tokio::test]
async fn a_removal_uses_the_socket_of_its_key() {
    let server = RedisServer::start();
    let backend = RedisBackend::connect(config_of(&server).sockets(4).build().unwrap()).await.unwrap();
    let keys = keys(40);
    // Neither a write that is sent before nor one that is sent after it changes places with it.
    for _ in 0..50 {
        for key in &keys {
            let set = async || backend.set(key, "1".into(), plain()).await.unwrap();
            let (one, gone) = (std::slice::from_ref(key), gone());
            let (_, removed, _) = futures_util::join!(set(), backend.remove_and_publish(one, CHANNEL, &gone), set());
            assert!(removed.into_iter().all(Result::unwrap), "{key}");
        }
        let removed = backend.remove_and_publish(&keys, CHANNEL, &gone()).await;
        assert!(removed.into_iter().all(Result::unwrap));
    }
}

#[tokio::test]
async fn keys_of_a_slot_on_its_way_are_removed_on_both_nodes() {
    let cluster = RedisCluster::builder().replicas(0).start();
    let backend = RedisBackend::connect(RedisConfig::from_url(cluster.url()).unwrap()).await.unwrap();
    let keys = ["{t}1", "{t}2", "{t}3", "{t}4"].map(Key::from_canonical);
    fill(&backend, &keys[..3]).await;
    let mut events = backend.open_bus(CHANNEL).await.unwrap().events();
    assert_eq!(within(events.next()).await, Some(BusEvent::Confirmed));
    let slot = cluster.slot_of("{t}1");
    let to = (cluster.primary_of_slot(slot) + 1) % 3;
    cluster.begin_migration(slot, to);
    cluster.move_keys(slot, 1);
    let removed = within(backend.remove_and_publish(&keys, CHANNEL, &gone())).await;
    let removed: Vec<bool> = removed.into_iter().map(Result::unwrap).collect();
    assert_eq!(removed, [true, true, true, false]);
    assert_eq!(within(events.next()).await, Some(BusEvent::Message("gone".into())));
    while cluster.move_keys(slot, 10) > 0 {}
    cluster.finish_migration(slot);
    // A slot that has moved: the message of the node that refused was not sent.
    fill(&backend, &keys[..1]).await;
    let removed = within(backend.remove_and_publish(&keys[..1], CHANNEL, &gone())).await;
    assert!(removed.into_iter().all(Result::unwrap));
    for node in 0..3 {
        assert_eq!(cluster.node(node).command(&["DBSIZE"]), "0", "node {node}");
    }
}
