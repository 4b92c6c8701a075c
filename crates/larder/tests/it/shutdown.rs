//! The end of a cache.

use std::{sync::Arc, time::Duration};

use larder::{Cache, LoadError, ManualClock, Strategy};
use larder_core::BackendExt;
use larder_testing::{Fault, FaultyBackend, Operation};

use crate::{
    source::{Source, near, processes_on, read, reading},
    store,
};

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> Strategy {
    Strategy::new("r", SECOND * 10).stale_window(SECOND * 60)
}

#[tokio::test]
async fn a_shutdown_waits_for_loads_and_for_what_they_store() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let slow = Arc::new(FaultyBackend::new(shared.clone()));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(slow.clone());
    let cache = builder.remote_command_deadline(SECOND * 60).build().await.unwrap();
    let source = Source::gated();
    let caller = reading(&cache, &source);
    clock.settle().await;
    caller.abort();
    slow.set_for(Operation::CompareAndSet, Fault::Hold);
    let ending = cache.clone();
    let shutdown = tokio::spawn(async move { ending.shutdown().await });
    source.admit(1);
    clock.settle().await;
    assert!(!shutdown.is_finished());
    slow.heal();
    assert_eq!(shutdown.await.unwrap(), 0);
    assert!(shared.get(&cache.key("k")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_shutdown_is_bounded_and_gives_tokens_back() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let [cache] = processes_on(&clock, &shared, policy()).await;
    let source = Source::gated();
    let caller = reading(&cache, &source);
    clock.settle().await;
    assert!(shared.get(&cache.key("k")).await.unwrap().is_some());
    let ending = cache.clone();
    let shutdown = tokio::spawn(async move { ending.shutdown_within(SECOND * 5).await });
    clock.advance_and_settle(SECOND * 5).await;
    assert_eq!(shutdown.await.unwrap(), 1);
    assert!(matches!(caller.await.unwrap(), Err(LoadError::TimedOut)));
    assert_eq!(shared.get(&cache.key("k")).await.unwrap(), None);
}

#[tokio::test]
async fn after_a_shutdown_calls_load_by_themselves() {
    let clock = ManualClock::new();
    let cache = near(&clock, policy()).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    assert_eq!(cache.shutdown().await, 0);
    assert_eq!(*read(&cache, &source).await.unwrap().value, 1);
}

#[tokio::test]
async fn a_cache_that_is_dropped_leaves_no_task_behind() {
    let clock = ManualClock::new();
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let [cache] = processes_on(&clock, &store(&clock), policy()).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    clock.settle().await;
    clock.advance(SECOND * 11);
    assert!(read(&cache, &source).await.unwrap().stale);
    drop(cache);
    clock.settle().await;
    assert_eq!(alive(), before);
}
