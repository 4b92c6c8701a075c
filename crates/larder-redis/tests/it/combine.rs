//! Reads of callers at the same time, which go out together.

use std::{sync::Arc, task::Poll, time::Duration};

use larder_core::{Backend, BackendExt, Bytes, Error, ErrorKind, Key, Result};
use larder_redis::{RedisBackend, RedisConfig, RedisConfigBuilder};
use larder_testing::{FaultProxy, ProxyMode, RedisServer};
use tokio::{sync::Barrier, task::JoinSet};

use crate::server::{config_of, key, plain, until, within};

/// More than go out in one pipeline.
const CALLERS: usize = 200;

fn nth(index: usize) -> Key {
    Key::new(&format!("k{index}"))
}

async fn one_socket(config: RedisConfigBuilder) -> Arc<RedisBackend> {
    Arc::new(within(RedisBackend::connect(config.sockets(1).build().unwrap())).await.unwrap())
}

/// A value of its own in each key but every tenth, which is absent.
async fn fill(backend: &RedisBackend) {
    for index in (0..CALLERS).filter(|index| !index.is_multiple_of(10)) {
        backend.set(&nth(index), format!("v{index}").into(), plain()).await.unwrap();
    }
}

fn value_of(index: usize) -> Option<Bytes> {
    (!index.is_multiple_of(10)).then(|| format!("v{index}").into())
}

/// Everybody reads a key, beginning together.
async fn read_all(backend: &Arc<RedisBackend>) -> Vec<(usize, Result<Option<Bytes>>)> {
    let start = Arc::new(Barrier::new(CALLERS));
    let mut reads = JoinSet::new();
    for index in 0..CALLERS {
        let (backend, start) = (Arc::clone(backend), Arc::clone(&start));
        reads.spawn(async move {
            start.wait().await;
            (index, backend.get(&nth(index)).await)
        });
    }
    within(reads.join_all()).await
}

fn gets_calls(server: &RedisServer) -> usize {
    let stats = server.command(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls=")).unwrap_or("0");
    line.split(',').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_caller_gets_the_answer_to_its_own_key() {
    let server = RedisServer::start();
    let backend = one_socket(config_of(&server)).await;
    fill(&backend).await;
    for _ in 0..20 {
        for (index, read) in read_all(&backend).await {
            assert_eq!(read.unwrap(), value_of(index), "key {index}");
        }
    }
    assert_eq!(backend.state().in_flight, 0);
}

#[tokio::test]
async fn a_value_of_another_kind_is_an_error_to_its_reader_alone() {
    let server = RedisServer::start();
    let backend = one_socket(config_of(&server)).await;
    fill(&backend).await;
    server.command(&["DEL", "k7"]);
    server.command(&["RPUSH", "k7", "an item"]);
    for (index, read) in read_all(&backend).await {
        if index == 7 {
            let error = read.unwrap_err();
            assert_eq!((error.kind(), error.key()), (ErrorKind::KindMismatch, Some(&nth(7))), "{error}");
        } else {
            assert_eq!(read.unwrap(), value_of(index), "key {index}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_at_any_point_do_not_stall_the_others() {
    let server = RedisServer::start();
    let backend = one_socket(config_of(&server)).await;
    fill(&backend).await;
    for round in 0..50_usize {
        let mut reads = JoinSet::new();
        for index in 0..CALLERS {
            let backend = Arc::clone(&backend);
            // Two of three stay for so many turns at most, another number in each round.
            let turns = (!index.is_multiple_of(3)).then_some((index * 7 + round * 13) % 9);
            reads.spawn(async move {
                let key = nth(index);
                let leave = async {
                    match turns {
                        Some(turns) => {
                            for _ in 0..turns {
                                tokio::task::yield_now().await;
                            }
                        }
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    read = backend.get(&key) => Some((index, read)),
                    () = leave => None,
                }
            });
        }
        for (index, read) in within(reads.join_all()).await.into_iter().flatten() {
            assert_eq!(read.unwrap(), value_of(index), "round {round}, key {index}");
        }
    }
    assert_eq!(backend.state().in_flight, 0);
}

#[tokio::test]
async fn a_read_that_was_dropped_before_it_left_is_never_sent() {
    let server = RedisServer::start();
    let backend = one_socket(config_of(&server)).await;
    let before = gets_calls(&server);
    let keys: Vec<Key> = (0..CALLERS).map(nth).collect();
    let mut reads: Vec<_> = keys.iter().map(|key| backend.get(key)).collect();
    // Each is polled once and then dropped: no task of this runtime gets a turn in between.
    for read in &mut reads {
        assert!(futures_util::poll!(read).is_pending());
    }
    drop(reads);
    assert_eq!(backend.get(&key("a")).await.unwrap(), None);
    assert_eq!(gets_calls(&server) - before, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_in_the_middle_leaves_nobody_waiting() {
    let mut server = RedisServer::start();
    let deadline = Duration::from_millis(200);
    let backend = one_socket(config_of(&server).command_deadline(deadline).connect_deadline(deadline)).await;
    fill(&backend).await;
    let mut readers = JoinSet::new();
    for index in 0..CALLERS {
        let backend = Arc::clone(&backend);
        readers.spawn(async move {
            loop {
                match backend.get(&nth(index)).await {
                    Ok(read) => assert_eq!(read, value_of(index)),
                    Err(error) => return error.kind(),
                }
            }
        });
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    server.kill();
    for kind in within(readers.join_all()).await {
        assert!(matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout), "{kind:?}");
    }
    server.restart();
    until(async || backend.get(&nth(1)).await, Result::is_ok).await.unwrap();
    assert!(read_all(&backend).await.into_iter().all(|(_, read)| matches!(read, Ok(None))));
}

#[tokio::test]
async fn callers_of_a_silent_server_time_out_and_its_socket_is_replaced() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let config = RedisConfig::builder()
        .port(proxy.port())
        .connect_deadline(Duration::from_millis(200))
        .command_deadline(Duration::from_millis(50));
    let backend = one_socket(config).await;
    proxy.set(ProxyMode::Blackhole).await;
    for (_, read) in read_all(&backend).await {
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert_eq!(backend.state().connected(), 0, "all of them gave up on it");
    proxy.set(ProxyMode::Pass).await;
    until(async || backend.get(&nth(1)).await, Result::is_ok).await.unwrap();
}

#[test]
fn a_runtime_that_ends_with_reads_gathered_leaves_nothing_behind() {
    let server = RedisServer::start();
    let backend = Arc::new(RedisBackend::new(config_of(&server).sockets(1).build().unwrap()).unwrap());
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(until(async || backend.ping().await, Result::is_ok)).unwrap();
        let keys: Vec<Key> = (0..CALLERS).map(nth).collect();
        let mut reads: Vec<_> = keys.iter().map(|key| backend.get(key)).collect();
        runtime.block_on(async {
            for read in &mut reads {
                assert!(futures_util::poll!(read).is_pending());
            }
        });
        // These went by themselves: their timers cannot outlive the runtime.
        reads.drain(..10);
        // The task that was to carry the others never had a turn.
        drop(runtime);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let errors = runtime.block_on(within(futures_util::future::join_all(reads)));
        for error in errors {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        for (_, read) in runtime.block_on(read_all(&backend)) {
            assert_eq!(read.unwrap(), None);
        }
    }
}

#[test]
fn a_runtime_that_stands_still_does_not_hold_up_the_callers_of_another() {
    let server = RedisServer::start();
    let still = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let running = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // The connection belongs to the runtime that goes on.
    let backend = running.block_on(one_socket(config_of(&server)));
    let keys: Vec<Key> = (0..CALLERS).map(nth).collect();
    let mut reads: Vec<_> = keys.iter().map(|key| backend.get(key)).collect();
    // The other runtime may well have answered one by the time that it is asked for.
    let mut answered = Vec::new();
    still.block_on(async {
        for (place, read) in reads.iter_mut().enumerate() {
            if let Poll::Ready(read) = futures_util::poll!(read) {
                assert_eq!(read.unwrap(), None);
                answered.push(place);
            }
        }
    });
    assert!(answered.len() < CALLERS, "some are left to the runtime that stands still");
    for place in answered.into_iter().rev() {
        drop(reads.swap_remove(place));
    }
    for (_, read) in running.block_on(read_all(&backend)) {
        assert_eq!(read.unwrap(), None);
    }
    for read in still.block_on(within(futures_util::future::join_all(reads))) {
        assert_eq!(read.unwrap(), None);
    }
}

#[tokio::test]
async fn reads_beyond_the_limit_are_refused_at_once_and_the_others_answered() {
    let server = RedisServer::start();
    let backend = one_socket(config_of(&server).max_in_flight(150)).await;
    fill(&backend).await;
    let keys: Vec<Key> = (0..CALLERS).map(nth).collect();
    let reads = within(futures_util::future::join_all(keys.iter().map(|key| backend.get(key)))).await;
    let refused = reads.iter().filter_map(|read| read.as_ref().err()).map(Error::kind).collect::<Vec<_>>();
    assert_eq!(refused, vec![ErrorKind::Overloaded; 50]);
    for (index, read) in reads.into_iter().enumerate().filter(|(_, read)| read.is_ok()) {
        assert_eq!(read.unwrap(), value_of(index), "key {index}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_sees_its_own_write_however_many_others_read() {
    let server = RedisServer::start();
    let backend = one_socket(config_of(&server)).await;
    let mut callers = JoinSet::new();
    for index in 0..64 {
        let backend = Arc::clone(&backend);
        callers.spawn(async move {
            for round in 0..50 {
                let value = Bytes::from(format!("{round}"));
                backend.set(&nth(index), value.clone(), plain()).await.unwrap();
                assert_eq!(backend.get(&nth(index)).await.unwrap(), Some(value));
            }
        });
    }
    within(callers.join_all()).await;
}
