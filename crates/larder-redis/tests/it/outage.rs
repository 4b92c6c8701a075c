//! A server that is away, silent, killed or back, and callers that go away.

use std::time::Duration;

use larder_core::{Backend, BackendExt, Counter, ErrorKind, GetOptions, Key, SetItem};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::{FaultProxy, ProxyMode, RedisServer};

use crate::server::{backend_of, config_of, key, plain, until, within};

#[test]
fn a_backend_is_made_without_a_runtime_and_without_a_server() {
    let mut server = RedisServer::start();
    server.kill();
    let backend = RedisBackend::new(config_of(&server).build().unwrap()).unwrap();
    for _ in 0..2 {
        // A runtime that ends takes its connections with it; the next one opens its own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        server.restart();
        runtime.block_on(until(async || backend.ping().await, Result::is_ok)).unwrap();
        runtime.block_on(async { backend.set(&key("a"), "1".into(), plain()).await }).unwrap();
    }
}

#[tokio::test]
async fn each_key_of_a_batch_gets_the_error_and_its_name() {
    let mut server = RedisServer::start();
    let backend = backend_of(&server).await;
    server.kill();
    let keys = [key("a"), key("b"), key("c")];
    let items = keys.clone().map(|key| SetItem::new(key, "1", plain()));
    let mut errors = Vec::new();
    errors.extend(backend.get_many(&keys, GetOptions::new()).await.into_iter().map(Result::unwrap_err));
    errors.extend(backend.get_many(&keys, GetOptions::new().with_ttl()).await.into_iter().map(Result::unwrap_err));
    errors.extend(backend.set_many(&items).await.into_iter().map(Result::unwrap_err));
    errors.extend(backend.delete_many(&keys).await.into_iter().map(Result::unwrap_err));
    errors.extend(backend.ttl_many(&keys).await.into_iter().map(Result::unwrap_err));
    assert_eq!(errors.len(), 15);
    for (error, key) in errors.iter().zip(keys.iter().cycle()) {
        assert_eq!((error.kind(), error.key()), (ErrorKind::Unavailable, Some(key)), "{error}");
    }
}

#[tokio::test]
async fn a_killed_server_is_used_again_once_it_is_back() {
    let mut server = RedisServer::start();
    let backend = backend_of(&server).await;
    for round in 0..3 {
        backend.set(&key("a"), "1".into(), plain()).await.unwrap();
        server.kill();
        let error = within(backend.get(&key("a"))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "round {round}: {error}");
        server.restart();
        let read = until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
        assert_eq!(read, None, "round {round}");
        let stored = until(async || backend.set(&key("a"), "1".into(), plain()).await, Result::is_ok).await.unwrap();
        assert!(stored.is_stored());
    }
}

#[tokio::test]
async fn a_write_after_a_restart_that_nobody_noticed_succeeds() {
    let mut server = RedisServer::start();
    let backend = backend_of(&server).await;
    backend.set(&key("a"), "1".into(), plain()).await.unwrap();
    let before = backend.state();
    server.restart();
    // The broken connection is announced to this runtime's tasks; no call has met it.
    within(async {
        while backend.state().connected() == before.connected() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(backend.set(&key("a"), "2".into(), plain()).await.unwrap().is_stored());
    assert_eq!(server.command(&["GET", "a"]), "2");
}

#[tokio::test]
async fn a_stopped_server_is_a_timeout_and_is_used_again_when_it_goes_on() {
    let server = RedisServer::start();
    let config = config_of(&server)
        .sockets(1)
        .connect_deadline(Duration::from_millis(200))
        .command_deadline(Duration::from_millis(100))
        .build()
        .unwrap();
    let backend = RedisBackend::connect(config).await.unwrap();
    backend.set(&key("a"), "1".into(), plain()).await.unwrap();
    server.pause();
    let error = within(backend.get(&key("a"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(within(backend.set(&key("b"), "1".into(), plain())).await.unwrap_err().kind(), ErrorKind::Timeout);
    server.resume();
    let read = until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
    assert_eq!(read.as_deref(), Some(&b"1"[..]));
}

#[tokio::test]
async fn a_socket_that_stays_silent_is_replaced() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let config = RedisConfig::builder()
        .port(proxy.port())
        .sockets(1)
        .connect_deadline(Duration::from_millis(200))
        .command_deadline(Duration::from_millis(50));
    let backend = within(RedisBackend::connect(config.build().unwrap())).await.unwrap();
    proxy.set(ProxyMode::Blackhole).await;
    for _ in 0..3 {
        assert_eq!(within(backend.get(&key("a"))).await.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert_eq!(backend.state().connected(), 0, "three calls gave up on it");
    proxy.set(ProxyMode::Pass).await;
    until(async || backend.get(&key("a")).await, Result::is_ok).await.unwrap();
    assert!(backend.state().opened() >= 2);
}

#[tokio::test]
async fn a_read_whose_connection_was_closed_is_asked_again_and_a_write_is_not() {
    let server = RedisServer::start();
    let backend = RedisBackend::connect(config_of(&server).sockets(1).build().unwrap()).await.unwrap();
    backend.increment(&key("n"), 1, None).await.unwrap();
    // Between the kill and the next call this runtime gets no turn, so the call meets the closed connection.
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    assert_eq!(backend.count(&key("n")).await.unwrap(), Some(1));
    assert_eq!(backend.state().opened(), 2);
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    assert_eq!(backend.increment(&key("n"), 1, None).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(server.command(&["GET", "n"]), "1");
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_happens_once_at_most() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let config = RedisConfig::builder().port(proxy.port()).sockets(1).build().unwrap();
    let backend = within(RedisBackend::connect(config)).await.unwrap();
    backend.increment(&key("n"), 1, None).await.unwrap();
    proxy.set(ProxyMode::HalfClose).await;
    within(backend.increment(&key("n"), 1, None)).await.unwrap_err();
    proxy.set(ProxyMode::Pass).await;
    let count = until(async || backend.count(&key("n")).await, Result::is_ok).await.unwrap().unwrap();
    assert!((1..=2).contains(&count), "{count}");
}

#[tokio::test]
async fn a_removal_is_never_overtaken_by_an_earlier_write_that_nobody_waits_for() {
    let server = RedisServer::start();
    let backend = RedisBackend::connect(config_of(&server).sockets(4).build().unwrap()).await.unwrap();
    let keys: Vec<Key> = (0..8).map(|index| key(&format!("k{index}"))).collect();
    // Opens all sockets.
    backend.ttl_many(&keys).await.into_iter().for_each(|answer| assert_eq!(answer.unwrap(), None));
    for round in 0..200 {
        let key = &keys[round % keys.len()];
        let mut write = Box::pin(backend.set(key, "old".into(), plain()));
        assert!(futures_util::poll!(&mut write).is_pending());
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        drop(write);
        backend.delete(key).await.unwrap();
        assert_eq!(backend.ttl(key).await.unwrap(), None, "round {round}");
    }
    assert_eq!(server.command(&["DBSIZE"]), "0");
}

#[tokio::test]
async fn a_dropped_future_leaves_the_backend_usable() {
    let server = RedisServer::start();
    let backend = backend_of(&server).await;
    backend.set(&key("a"), "1".into(), plain()).await.unwrap();
    let keys: Vec<Key> = (0..50).map(|index| key(&format!("k{index}"))).collect();
    for polls in 0..8 {
        let mut call = Box::pin(backend.get_many(&keys, GetOptions::new().with_ttl()));
        for _ in 0..polls {
            if futures_util::poll!(&mut call).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(backend.get(&key("a")).await.unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(backend.state().in_flight, 0);
    assert!(backend.state().opened() <= backend.state().sockets() as u64, "no socket was given up");
}

#[tokio::test]
async fn many_callers_share_the_few_sockets() {
    let server = RedisServer::start();
    let backend =
        std::sync::Arc::new(RedisBackend::connect(config_of(&server).sockets(2).build().unwrap()).await.unwrap());
    let callers: Vec<_> = (0..500)
        .map(|index| {
            let backend = std::sync::Arc::clone(&backend);
            tokio::spawn(async move {
                let key = key(&format!("k{index}"));
                backend.set(&key, index.to_string().into(), plain()).await.unwrap();
                assert_eq!(backend.get(&key).await.unwrap().unwrap(), index.to_string());
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(backend.state().opened(), 2);
}
