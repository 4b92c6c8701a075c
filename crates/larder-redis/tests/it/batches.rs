//! Batches that are cut into parts, and what reaches the server.

use larder_core::{Backend, BackendExt, ErrorKind, Expiry, GetOptions, Inspect, Key, SetItem, SetOptions, SetOutcome};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::{FaultProxy, ProxyMode, RedisServer};
use std::time::Duration;

use crate::server::{backend_of, config_of, key, plain, until, within};

#[tokio::test]
async fn a_batch_in_many_parts_answers_in_the_order_of_its_keys() {
    let server = RedisServer::start();
    let config = config_of(&server).sockets(3).batch_keys(7).batch_bytes(600).build().unwrap();
    let backend = RedisBackend::connect(config).await.unwrap();
    let keys: Vec<Key> = (0..200).map(|index| key(&format!("k{index}"))).collect();
    let value = |index: usize| format!("{index}{}", "x".repeat(index));
    let items: Vec<_> =
        keys.iter().enumerate().map(|(index, key)| SetItem::new(key.clone(), value(index), plain())).collect();
    assert!(backend.set_many(&items).await.into_iter().all(|answer| answer.unwrap().is_stored()));
    assert!(backend.delete(&keys[150]).await.unwrap());
    for options in [GetOptions::new(), GetOptions::new().with_ttl()] {
        let found = backend.get_many(&keys, options).await;
        assert_eq!(found.len(), keys.len());
        for (index, found) in found.into_iter().enumerate() {
            let found = found.unwrap();
            assert_eq!(
                found.as_ref().map(|found| found.value.to_vec()),
                (index != 150).then(|| value(index).into_bytes())
            );
            assert_eq!(found.is_some_and(|found| found.remaining.is_some()), options.with_ttl && index != 150);
        }
    }
    let there = backend.expire_many(&keys, Expiry::After(Duration::from_secs(60))).await;
    assert_eq!(there.into_iter().filter(|answer| *answer.as_ref().unwrap()).count(), 199);
    let deleted = backend.delete_many(&keys).await;
    assert!(deleted.into_iter().enumerate().all(|(index, there)| there.unwrap() == (index != 150)));
}

#[tokio::test]
async fn the_later_of_two_writes_to_a_key_wins_across_parts() {
    let server = RedisServer::start();
    let backend = RedisBackend::connect(config_of(&server).batch_keys(1).build().unwrap()).await.unwrap();
    let items: Vec<_> = (0..50).map(|index| SetItem::new(key("a"), index.to_string(), plain())).collect();
    backend.set_many(&items).await.into_iter().for_each(|answer| assert!(answer.unwrap().is_stored()));
    assert_eq!(server.command(&["GET", "a"]), "49");
}

#[tokio::test]
async fn a_thousand_plain_reads_are_one_mget_and_a_read_asks_for_no_ping() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let config = RedisConfig::builder().port(proxy.port()).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    let pings = proxy.commands_named("ping");
    let keys: Vec<Key> = (0..1000).map(|index| key(&format!("k{index}"))).collect();
    assert_eq!(backend.get_many(&keys, GetOptions::new()).await.len(), 1000);
    backend.get(&key("a")).await.unwrap();
    assert_eq!((proxy.commands_named("mget"), proxy.commands_named("get")), (1, 1));
    assert_eq!(proxy.commands_named("ping"), pings);
}

#[tokio::test]
async fn a_life_of_zero_obeys_the_condition() {
    let server = RedisServer::start();
    let backend = backend_of(&server).await;
    let gone = || SetOptions::new().ttl(Duration::ZERO);
    let set = async |name: &str, options| backend.set(&key(name), "v".into(), options).await.unwrap();
    set("there", plain()).await;
    assert_eq!(set("there", gone().only_if_absent()).await, SetOutcome::Rejected);
    assert_eq!(server.command(&["EXISTS", "there"]), "1");
    assert_eq!(set("absent", gone().only_if_present()).await, SetOutcome::Rejected);
    assert_eq!(set("absent", gone().only_if_absent()).await, SetOutcome::Stored);
    assert_eq!(server.command(&["EXISTS", "absent"]), "0");
    assert_eq!(set("there", gone().only_if_present()).await, SetOutcome::Stored);
    assert_eq!(server.command(&["EXISTS", "there"]), "0");
}

#[tokio::test]
async fn a_lasting_key_told_to_last_is_there_and_an_absent_one_is_not() {
    let server = RedisServer::start();
    let backend = backend_of(&server).await;
    backend.set(&key("a"), "1".into(), plain()).await.unwrap();
    let answers = backend.expire_many(&[key("a"), key("b")], Expiry::Never).await;
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn the_database_user_and_socket_of_the_settings_are_used() {
    let server = RedisServer::builder().unix_socket().acl("user ada on >s3cret ~* &* +@all").start();
    let path = server.unix_socket().unwrap();
    let config = RedisConfig::builder().unix_socket(path).database(3).user("ada").password("s3cret");
    let backend = RedisBackend::connect(config.client_name("spec").build().unwrap()).await.unwrap();
    backend.set(&key("a"), "1".into(), plain()).await.unwrap();
    let clients = server.command(&["CLIENT", "LIST"]);
    let ours = clients.lines().find(|line| line.contains("name=spec")).unwrap();
    assert!(ours.contains("db=3") && ours.contains("user=ada"), "{ours}");
    assert_eq!(server.command(&["EXISTS", "a"]), "0");
    assert_eq!(backend.server_figures().await.unwrap().keys, Some(1));
}

#[tokio::test]
async fn the_figures_are_the_servers() {
    let server = RedisServer::builder().max_memory_bytes(64 << 20).option("maxmemory-policy", "allkeys-lru").start();
    let backend = backend_of(&server).await;
    backend.set(&key("a"), "1".into(), plain()).await.unwrap();
    backend.get(&key("a")).await.unwrap();
    backend.get(&key("b")).await.unwrap();
    let figures = backend.server_figures().await.unwrap();
    assert!(server.command(&["INFO", "server"]).contains(figures.version.as_deref().unwrap()));
    assert!(server.command(&["INFO", "server"]).contains(figures.run_id.as_deref().unwrap()));
    assert_eq!(figures.mode.as_deref(), Some("standalone"));
    assert_eq!((figures.keys, figures.hits, figures.misses), (Some(1), Some(1), Some(1)));
    assert_eq!((figures.max_bytes, figures.eviction_policy.as_deref()), (Some(64 << 20), Some("allkeys-lru")));
    assert!(figures.used_bytes > Some(0) && figures.clients > Some(0));
}

#[tokio::test]
async fn a_hundred_thousand_keys_go_in_one_call_and_never_lie_in_the_servers_buffers_together() {
    const KEYS: usize = 100_000;
    let server = RedisServer::start();
    let config = config_of(&server).sockets(2).command_deadline(Duration::from_secs(5)).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    let keys: Vec<Key> = (0..KEYS).map(|index| key(&format!("k{index}"))).collect();
    let value = |index: usize| format!("{index:0>256}");
    let items: Vec<_> =
        keys.iter().enumerate().map(|(index, key)| SetItem::new(key.clone(), value(index), plain())).collect();
    assert!(backend.set_many(&items).await.into_iter().all(|answer| answer.unwrap().is_stored()));
    assert_eq!(server.command(&["DBSIZE"]), KEYS.to_string());
    for options in [GetOptions::new(), GetOptions::new().with_ttl()] {
        let found = backend.get_many(&keys, options).await;
        assert_eq!(found.len(), KEYS);
        for (index, found) in found.into_iter().enumerate() {
            assert_eq!(found.unwrap().unwrap().value, value(index));
        }
    }
    // One answer to all would have some 26 MB. The server tells the largest of the last seconds.
    let info = server.command(&["INFO", "clients"]);
    let largest = info.lines().find_map(|line| line.strip_prefix("client_recent_max_output_buffer:")).unwrap();
    assert!(largest.trim().parse::<usize>().unwrap() < 4 << 20, "{largest}");
    assert!(backend.delete_many(&keys).await.into_iter().all(|there| there.unwrap()));
    assert_eq!(server.command(&["DBSIZE"]), "0");
}

#[tokio::test]
async fn one_part_of_a_batch_is_on_its_way_at_once_by_number_and_by_bytes() {
    // A connection whose number nobody may ask is not given up for a write of unknown outcome.
    let server = RedisServer::builder().acl("user default on nopass ~* &* +@all -client|id").start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let config = RedisConfig::builder().port(proxy.port()).sockets(1).command_deadline(Duration::from_millis(300));
    let backend = within(RedisBackend::connect(config.build().unwrap())).await.unwrap();
    let large = larder_core::Bytes::from(vec![b'x'; 300 << 10]);
    let batches = [(5000, "1".into(), 1024), (20, large, 3)];
    let mut sent = 0;
    for (count, value, part) in batches {
        let items: Vec<_> =
            (0..count).map(|index| SetItem::new(key(&format!("k{index}")), value.clone(), plain())).collect();
        proxy.set(ProxyMode::Blackhole).await;
        // No part is answered, so that no other follows, and the keys of the others get the error without waiting.
        let errors: Vec<_> = within(backend.set_many(&items)).await.into_iter().map(Result::unwrap_err).collect();
        assert!(errors.iter().all(|error| error.kind() == ErrorKind::Timeout), "{}", errors[0]);
        proxy.set(ProxyMode::Pass).await;
        // On the same connection, so that what was sent before has arrived.
        until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
        sent += part;
        assert_eq!(proxy.commands_named("set"), sent);
    }
    assert_eq!(backend.state().opened(), 1);
}

#[tokio::test]
async fn one_value_above_the_default_limit_fails_by_itself_in_a_batch() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let config = RedisConfig::builder().port(proxy.port()).command_deadline(Duration::from_secs(5)).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    let limit = 8 << 20;
    let mut items: Vec<_> = (0..100).map(|index| SetItem::new(key(&format!("k{index}")), "1", plain())).collect();
    items[50] = SetItem::new(key("k50"), vec![b'x'; limit + 1], plain());
    items[51] = SetItem::new(key("k51"), vec![b'x'; limit], plain());
    for (index, answer) in backend.set_many(&items).await.into_iter().enumerate() {
        match answer {
            Ok(outcome) => assert!(outcome.is_stored() && index != 50),
            Err(error) => {
                assert_eq!((index, error.kind(), error.key()), (50, ErrorKind::TooLarge, Some(&key("k50"))));
                assert!(!error.is_transient() && error.message().contains("8388608"), "{error}");
            }
        }
    }
    assert_eq!(server.command(&["DBSIZE"]), "99");
    assert_eq!(proxy.commands_named("set"), 99);
}
