//! A cluster of three primaries and three replicas: slots that move, nodes that die, batches over all of them.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{
    Atomic, Backend, BackendExt, BusEvent, BusSource, Bytes, Counter, ErrorKind, Expected, GetOptions, Key, Lock,
    Pattern, Scan, SetItem, SetOptions,
};
use larder_redis::{RedisBackend, RedisConfig, RedisConfigBuilder};
use larder_testing::{
    RedisCluster,
    conformance::{Fixture, Power},
};

use crate::server::{key, plain, until, within};

fn config_of(cluster: &RedisCluster) -> RedisConfigBuilder {
    // Generous, since nine servers and their test share the machine with other tests.
    let deadline = Duration::from_secs(2);
    RedisConfig::builder().url(cluster.url()).connect_deadline(deadline).command_deadline(deadline)
}

async fn backend_of(cluster: &RedisCluster) -> RedisBackend {
    RedisBackend::connect(config_of(cluster).build().unwrap()).await.unwrap()
}

fn keys(count: usize) -> Vec<Key> {
    (0..count).map(|index| key(&format!("k{index}"))).collect()
}

async fn listed(backend: &RedisBackend, glob: &str) -> HashSet<String> {
    let pattern = Pattern::from_canonical(glob);
    let pages: Vec<_> = backend.scan(&pattern, 10).try_collect().await.unwrap();
    pages.into_iter().flatten().map(|key| key.as_str().to_owned()).collect()
}

fn names(keys: &[Key]) -> HashSet<String> {
    keys.iter().map(|key| key.as_str().to_owned()).collect()
}

#[test]
fn the_suite_of_all_backends_holds_on_a_cluster() {
    let cluster = RedisCluster::builder().replicas(0).start();
    larder_testing::conformance_suite!(async || {
        let backend = backend_of(&cluster).await;
        Fixture::new(Arc::new(backend)).powers(Power::ALL)
    });
}

#[test]
fn every_slot_of_the_table_is_the_servers() {
    let cluster = RedisCluster::builder().primaries(1).replicas(0).start();
    let table: serde_json::Value = serde_json::from_str(include_str!("../data/hash-slots.json")).unwrap();
    for (key, slot) in table["slots"].as_object().unwrap() {
        assert_eq!(Some(u64::from(cluster.slot_of(key))), slot.as_u64(), "{key}");
    }
}

#[tokio::test]
async fn a_batch_is_spread_over_the_primaries_and_answers_in_order() {
    let cluster = RedisCluster::builder().replicas(0).start();
    let backend = backend_of(&cluster).await;
    let keys = keys(1000);
    let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), key.as_str().to_owned(), plain())).collect();
    assert!(backend.set_many(&items).await.into_iter().all(|answer| answer.unwrap().is_stored()));
    for node in 0..3 {
        assert!(cluster.node(node).command(&["DBSIZE"]).parse::<u64>().unwrap() > 200, "node {node}");
    }
    for options in [GetOptions::new(), GetOptions::new().with_ttl()] {
        for (key, found) in keys.iter().zip(backend.get_many(&keys, options).await) {
            assert_eq!(found.unwrap().unwrap().value, key.as_str());
        }
    }
    assert_eq!(listed(&backend, "k*").await, names(&keys));
    assert!(backend.delete_many(&keys).await.into_iter().all(|there| there.unwrap()));
    assert!(listed(&backend, "k*").await.is_empty());
}

#[tokio::test]
async fn keys_of_a_slot_on_its_way_are_found_where_they_are() {
    let cluster = RedisCluster::builder().replicas(0).start();
    let backend = backend_of(&cluster).await;
    // Keys with one tag lie in one slot.
    let keys: Vec<Key> = (0..40).map(|index| Key::from_canonical(format!("{{tag}}:{index}"))).collect();
    let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), "1", plain())).collect();
    let all_read = async |what: &str| {
        for found in backend.get_many(&keys, GetOptions::new()).await {
            assert_eq!(found.unwrap().unwrap().value, "1", "{what}");
        }
        assert_eq!(listed(&backend, "{tag}*").await, names(&keys), "{what}");
    };
    backend.set_many(&items).await.into_iter().for_each(|answer| assert!(answer.unwrap().is_stored()));
    let slot = cluster.slot_of("{tag}");
    let (from, to) = (cluster.primary_of("{tag}"), (cluster.primary_of("{tag}") + 1) % 3);
    cluster.begin_migration(slot, to);
    all_read("nothing has moved yet").await;
    assert_eq!(cluster.move_keys(slot, 20), 20);
    all_read("half of the keys have moved").await;
    // What is written now is created where the slot is going to.
    let new = Key::from_canonical("{tag}:new");
    assert!(backend.set(&new, "1".into(), plain()).await.unwrap().is_stored());
    assert_eq!(backend.increment(&Key::from_canonical("{tag}:n"), 2, Some(Duration::from_secs(60))).await.unwrap(), 2);
    let token = Expected::exactly("1");
    assert!(backend.compare_and_delete(&new, &token).await.unwrap());
    for key in &keys {
        let outcome = backend.compare_and_set(key, &token, Bytes::from_static(b"1"), SetOptions::new()).await;
        assert!(outcome.unwrap().is_stored(), "{key}");
    }
    assert!(backend.delete(&Key::from_canonical("{tag}:n")).await.unwrap());
    while cluster.move_keys(slot, 100) > 0 {}
    all_read("all keys have moved").await;
    cluster.finish_migration(slot);
    all_read("the slot has moved").await;
    assert_eq!(cluster.primary_of("{tag}"), to);
    assert_ne!(from, to);
    backend.delete_many(&keys).await.into_iter().for_each(|there| assert!(there.unwrap()));
}

#[tokio::test]
async fn pattern_deletion_reaches_every_key_while_slots_move() {
    let cluster = RedisCluster::builder().replicas(0).start();
    let backend = backend_of(&cluster).await;
    let keys = keys(300);
    let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), "1", plain())).collect();
    backend.set_many(&items).await.into_iter().for_each(|answer| assert!(answer.unwrap().is_stored()));
    let pattern = Pattern::new("k*").unwrap();
    let mut pages = backend.scan(&pattern, 10);
    let mut removed = 0;
    let mut moved = 0..;
    while let Some(page) = pages.try_next().await.unwrap() {
        removed += backend.delete_many(&page).await.into_iter().filter(|there| *there.as_ref().unwrap()).count();
        // A slot moves as a whole, behind the back of the scan.
        if let Some(index) = moved.next().filter(|index| *index < 5) {
            let slot = cluster.slot_of(keys[index].as_str());
            cluster.begin_migration(slot, (cluster.primary_of_slot(slot) + 1) % 3);
            while cluster.move_keys(slot, 100) > 0 {}
            cluster.finish_migration(slot);
        }
    }
    assert_eq!(removed, keys.len());
    for node in 0..3 {
        assert_eq!(cluster.node(node).command(&["DBSIZE"]), "0", "node {node}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_dies_is_replaced_by_its_replica() {
    let mut cluster = RedisCluster::start();
    let backend = backend_of(&cluster).await;
    let keys = keys(60);
    let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), "1", plain())).collect();
    backend.set_many(&items).await.into_iter().for_each(|answer| assert!(answer.unwrap().is_stored()));
    // Every write has reached its replica before the crash.
    for node in 0..3 {
        assert_eq!(cluster.node(node).command(&["WAIT", "1", "10000"]), "1");
    }
    cluster.kill(0);
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.await_failover(0);
        cluster
    });
    // Nothing hangs meanwhile: a call fails in time, or succeeds.
    while !cluster.is_finished() {
        for answer in within(backend.get_many(&keys, GetOptions::new())).await {
            if let Err(error) = answer {
                assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
            }
        }
        tokio::task::yield_now().await;
    }
    let cluster = cluster.await.unwrap();
    let read = async || backend.get_many(&keys, GetOptions::new()).await.into_iter().collect::<Result<Vec<_>, _>>();
    until(read, |read| read.as_ref().is_ok_and(|found| found.iter().all(Option::is_some))).await.unwrap();
    for answer in backend.set_many(&items).await {
        assert!(answer.unwrap().is_stored());
    }
    assert_eq!(listed(&backend, "k*").await, names(&keys));
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_stands_still_is_left_for_its_replica() {
    let cluster = RedisCluster::start();
    let deadline = Duration::from_millis(300);
    let config = config_of(&cluster).connect_deadline(deadline).command_deadline(deadline).build().unwrap();
    let backend = until(async || RedisBackend::connect(config.clone()).await, Result::is_ok).await.unwrap();
    until(async || backend.set(&key("a"), "1".into(), plain()).await, Result::is_ok).await.unwrap();
    let primary = cluster.primary_of("a");
    assert_eq!(cluster.node(primary).command(&["WAIT", "1", "10000"]), "1");
    cluster.pause(primary);
    // Its connections stand: only deadlines tell.
    let error = within(backend.set(&key("a"), "2".into(), plain())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let stored = until(async || backend.set(&key("a"), "3".into(), plain()).await, Result::is_ok).await.unwrap();
    assert!(stored.is_stored());
    cluster.resume(primary);
    let read = until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap().unwrap();
    assert_eq!(read, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_failover_loses_no_call() {
    let cluster = RedisCluster::start();
    let backend = Arc::new(backend_of(&cluster).await);
    backend.set(&key("a"), "0".into(), plain()).await.unwrap();
    let primary = cluster.primary_of("a");
    let replica = cluster.replica_of(primary);
    let cluster = tokio::task::spawn_blocking(move || {
        cluster.failover(replica);
        cluster
    });
    let mut count = 0;
    while !cluster.is_finished() {
        count += 1;
        assert_eq!(within(backend.increment(&key("n:a"), 1, None)).await.unwrap(), count);
        assert!(within(backend.set(&key("a"), count.to_string().into(), plain())).await.unwrap().is_stored());
        let read = within(backend.get(&key("a"))).await.unwrap().unwrap();
        assert_eq!(read, count.to_string());
    }
    assert_eq!(cluster.await.unwrap().primary_of("a"), replica);
}

#[tokio::test]
async fn a_replica_answers_reads_that_allow_it() {
    let cluster = RedisCluster::start();
    let backend = backend_of(&cluster).await;
    backend.set(&key("a"), "1".into(), plain()).await.unwrap();
    let primary = cluster.primary_of("a");
    assert_eq!(cluster.node(primary).command(&["WAIT", "1", "10000"]), "1");
    let hits = |node: usize| -> u64 {
        let info = cluster.node(node).command(&["INFO", "stats"]);
        info.lines().find_map(|line| line.strip_prefix("keyspace_hits:")).unwrap().trim().parse().unwrap()
    };
    let replica = cluster.replica_of(primary);
    // A replica is listed as soon as it has told the others how far it is.
    let read = async || {
        let found = backend.get_many(&[key("a")], GetOptions::new().prefer_replica()).await.pop().unwrap();
        found.map(|found| (found, hits(replica)))
    };
    until(read, |read| read.as_ref().is_ok_and(|(_, hits)| *hits > 0)).await.unwrap();
    let before = (hits(primary), hits(replica));
    for options in [GetOptions::new().prefer_replica(), GetOptions::new().with_ttl().prefer_replica()] {
        let found = backend.get_many(&[key("a"), key("a")], options).await;
        assert!(found.into_iter().all(|found| found.unwrap().is_some()));
    }
    let one = backend.get_many(&[key("a")], GetOptions::new().prefer_replica()).await.pop().unwrap();
    assert!(one.unwrap().is_some());
    assert_eq!(hits(primary), before.0, "the primary was not asked");
    assert!(hits(replica) - before.1 >= 5, "the replica answered");
}

#[tokio::test]
async fn locks_and_messages_work_whatever_the_node() {
    let cluster = RedisCluster::builder().replicas(0).start();
    let (one, other) = (backend_of(&cluster).await, backend_of(&cluster).await);
    let lease = Duration::from_secs(60);
    for lock in keys(20) {
        assert!(one.acquire(&lock, "one", lease).await.unwrap());
        assert!(!other.acquire(&lock, "other", lease).await.unwrap());
        assert!(one.release(&lock, "one").await.unwrap());
    }
    let bus = one.open_bus("channel").await.unwrap();
    let mut events = bus.events();
    assert_eq!(within(events.next()).await, Some(BusEvent::Confirmed));
    // Whichever node it is given to passes it on.
    other.open_bus("channel").await.unwrap().publish(Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(within(events.next()).await, Some(BusEvent::Message(Bytes::from_static(b"hello"))));
}

#[tokio::test]
async fn a_node_that_was_never_there_does_no_harm_among_the_seeds() {
    let cluster = RedisCluster::builder().replicas(0).start();
    let mut nodes = vec!["127.0.0.1:1".to_owned()];
    nodes.extend(cluster.seeds());
    let config = RedisConfig::builder().cluster(nodes).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    assert!(backend.set(&key("a"), "1".into(), plain()).await.unwrap().is_stored());
    assert_eq!(backend.topology(), "cluster");
}

#[tokio::test]
async fn no_node_at_all_is_unavailable_in_time() {
    let config = RedisConfig::builder().cluster(["127.0.0.1:1"]).build().unwrap();
    let backend = RedisBackend::new(config).unwrap();
    assert_eq!(within(backend.get(&key("a"))).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let errors = within(backend.get_many(&keys(3), GetOptions::new())).await;
    assert!(errors.into_iter().all(|error| error.unwrap_err().kind() == ErrorKind::Unavailable));
}

#[tokio::test]
async fn sockets_are_kept_open_to_primaries_only() {
    let cluster = RedisCluster::builder().replicas(1).start();
    let config = config_of(&cluster).idle_timeout(Duration::from_secs(1)).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    // All six were asked for the layout, being named in the URL.
    let connected = || backend.state().nodes.iter().filter(|node| node.connected > 0).count();
    within(async {
        while connected() != 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let primaries: HashSet<_> = (0..3).map(|node| cluster.seeds()[node].clone()).collect();
    let open = backend.state().nodes.into_iter().filter(|node| node.connected > 0).map(|node| node.address);
    assert_eq!(open.collect::<HashSet<_>>(), primaries);
}
