//! Scripts that the server has forgotten, and a server that is still loading its data.

use std::{sync::Arc, time::Duration};

use larder_core::{Atomic, Backend, BackendExt, Counter, ErrorKind, Expected, Key, Lock, Result, SetItem, SetOutcome};
use larder_testing::RedisServer;

use crate::server::{backend_of, key, plain, until, within};

#[tokio::test]
async fn every_script_survives_that_the_server_forgets_it() {
    let server = RedisServer::start();
    let backend = backend_of(&server).await;
    let (lease, zero) = (Duration::from_secs(60), Some(Duration::ZERO));
    for round in 0..2 {
        let (value, lock) = (key(&format!("v{round}")), key(&format!("l{round}")));
        backend.set(&value, "1".into(), plain()).await.unwrap();
        let forget = || server.command(&["SCRIPT", "FLUSH", "SYNC"]);
        forget();
        let swapped = backend.compare_and_set(&value, &Expected::exactly("1"), "2".into(), plain()).await;
        assert_eq!(swapped.unwrap(), SetOutcome::Stored);
        forget();
        assert_eq!(backend.increment(&value, 3, zero).await.unwrap(), 5);
        forget();
        assert!(backend.compare_and_delete(&value, &Expected::exactly("5")).await.unwrap());
        forget();
        assert!(backend.acquire(&lock, "mine", lease).await.unwrap());
        forget();
        assert!(backend.extend(&lock, "mine", lease).await.unwrap());
        forget();
        assert!(!backend.release(&lock, "theirs").await.unwrap());
        assert!(backend.release(&lock, "mine").await.unwrap());
    }
    assert_eq!(server.command(&["DBSIZE"]), "0");
}

#[tokio::test]
async fn a_server_that_is_loading_says_so_and_is_used_when_it_is_done() {
    let server = RedisServer::builder()
        .option("enable-debug-command", "yes")
        .option("loading-process-events-interval-bytes", 1024)
        .start();
    let server = Arc::new(server);
    let backend = backend_of(&server).await;
    let keys: Vec<Key> = (0..2000).map(|index| key(&format!("k{index}"))).collect();
    let items: Vec<_> = keys.iter().map(|key| SetItem::new(key.clone(), "x".repeat(64), plain())).collect();
    backend.set_many(&items).await.into_iter().for_each(|answer| assert!(answer.unwrap().is_stored()));
    // Microseconds for each key: the load takes a second at least, in which the server answers now and then.
    server.command(&["CONFIG", "SET", "key-load-delay", "500"]);
    let reloading = tokio::task::spawn_blocking({
        let server = Arc::clone(&server);
        move || server.command(&["DEBUG", "RELOAD"])
    });
    let is_loading = |answer: &Result<_>| answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Loading);
    let error = until(async || backend.get(&keys[0]).await, is_loading).await.unwrap_err();
    assert!(error.is_transient() && error.message().contains("loading"), "{error}");
    assert_eq!(within(reloading).await.unwrap(), "OK");
    let found = until(async || backend.get(&keys[0]).await, Result::is_ok).await.unwrap();
    assert_eq!(found.unwrap(), "x".repeat(64));
    assert_eq!(backend.state().opened(), backend.state().connected() as u64, "loading is no fault of a socket");
}
