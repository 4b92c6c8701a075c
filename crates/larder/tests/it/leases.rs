//! Processes that need the same key at the same time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use larder::{Cache, ManualClock, Source as From, Strategy, strategy::Lease};
use larder_core::{
    BackendExt, ErrorKind, Key, SetOptions,
    envelope::{CodecId, Header, Kind},
};
use larder_testing::FaultyBackend;

use crate::{
    source::{Source, processes, processes_on, read, reading},
    store,
};

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> Strategy {
    Strategy::new("r", SECOND * 10).stale_window(SECOND * 60)
}

/// Loads the key in one process and lets the entry go stale; near copies live for a second only.
async fn make_stale(clock: &ManualClock, cache: &Cache, source: &Source) {
    read(cache, source).await.unwrap();
    clock.settle().await;
    clock.advance(SECOND * 11);
}

#[tokio::test]
async fn processes_that_find_an_entry_stale_refresh_it_once() {
    let clock = ManualClock::new();
    let [one, two, three] = processes(&clock, policy()).await;
    let source = Source::open();
    make_stale(&clock, &one, &source).await;
    source.close();
    for cache in [&one, &two, &three] {
        let outcome = read(cache, &source).await.unwrap();
        assert_eq!((*outcome.value, outcome.stale), (0, true));
    }
    clock.advance_and_settle(SECOND).await;
    assert_eq!(source.runs(), 2);
    source.admit(1);
    clock.advance_and_settle(SECOND).await;
    for cache in [&one, &two, &three] {
        let outcome = read(cache, &source).await.unwrap();
        assert_eq!((*outcome.value, outcome.stale), (1, false));
    }
    assert_eq!(source.runs(), 2);
}

#[tokio::test]
async fn the_refresh_of_a_process_that_dies_is_taken_over() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let [one, two] = processes_on(&clock, &shared, policy()).await;
    let source = Source::open();
    make_stale(&clock, &one, &source).await;
    // A lease whose holder has gone: nobody renews it.
    let token = Header::new(Kind::Placeholder, CodecId::RAW).encode(&[]).unwrap();
    shared.set(&Key::from_canonical("t:%lease:k"), token.into(), SetOptions::new().ttl(SECOND * 3)).await.unwrap();
    assert!(read(&two, &source).await.unwrap().stale);
    clock.advance_and_settle(SECOND * 2).await;
    assert_eq!(source.runs(), 1);
    clock.advance_and_settle(SECOND * 2).await;
    assert_eq!(source.runs(), 2);
}

#[tokio::test]
async fn a_lease_that_serves_stale_leaves_the_load_to_the_other_process() {
    let clock = ManualClock::new();
    let [one, two] = processes(&clock, policy().lease(Lease::ServeStale)).await;
    let source = Source::open();
    make_stale(&clock, &one, &source).await;
    source.close();
    read(&one, &source).await.unwrap();
    clock.settle().await;
    for _ in 0..5 {
        let outcome = read(&two, &source).await.unwrap();
        assert_eq!((*outcome.value, outcome.stale), (0, true));
        clock.advance_and_settle(SECOND).await;
    }
    assert_eq!(source.runs(), 2);
    source.admit(1);
    clock.advance_and_settle(SECOND).await;
    read(&two, &source).await.unwrap();
    clock.advance_and_settle(SECOND).await;
    assert_eq!(*read(&two, &source).await.unwrap().value, 1);
    assert_eq!(source.runs(), 2);
}

#[tokio::test]
async fn a_lease_that_serves_stale_loads_too_where_there_is_nothing_to_serve() {
    let clock = ManualClock::new();
    let [one, two] = processes(&clock, policy().lease(Lease::ServeStale)).await;
    let source = Source::gated();
    let first = reading(&one, &source);
    clock.settle().await;
    let second = reading(&two, &source);
    clock.settle().await;
    assert_eq!(source.runs(), 2);
    source.admit(2);
    assert_eq!(*first.await.unwrap().unwrap().value, 0);
    assert_eq!(*second.await.unwrap().unwrap().value, 1);
}

#[tokio::test]
async fn a_wait_for_another_process_is_bounded() {
    let clock = ManualClock::new();
    let [one, two] = processes(&clock, policy().lease(Lease::Wait { bound: SECOND * 2 })).await;
    let source = Source::gated();
    let first = reading(&one, &source);
    clock.settle().await;
    let second = reading(&two, &source);
    clock.advance_and_settle(SECOND * 2).await;
    assert_eq!(source.runs(), 2);
    source.admit(2);
    assert_eq!(*first.await.unwrap().unwrap().value, 0);
    assert_eq!(*second.await.unwrap().unwrap().value, 1);
}

#[tokio::test]
async fn processes_load_an_entry_once_whose_tag_was_invalidated() {
    let clock = ManualClock::new();
    let [one, two] = processes(&clock, policy()).await;
    let source = Source::open();
    let tagged = |cache: &Cache| {
        let (cache, source) = (cache.clone(), source.clone());
        tokio::spawn(async move { *cache.get_or_load("k", move || source.run()).tag("t").await.unwrap() })
    };
    tagged(&one).await.unwrap();
    clock.settle().await;
    one.invalidate().tag("t").await.unwrap();
    source.close();
    let (first, second) = (tagged(&one), tagged(&two));
    clock.advance_and_settle(SECOND).await;
    assert_eq!(source.runs(), 2);
    source.admit(1);
    clock.advance_and_settle(SECOND).await;
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (1, 1));
}

#[tokio::test]
async fn no_lease_is_left_behind() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let [one, two] = processes_on(&clock, &shared, policy()).await;
    let source = Source::open();
    make_stale(&clock, &one, &source).await;
    read(&two, &source).await.unwrap();
    clock.settle().await;
    let fresh = read(&two, &source).await.unwrap();
    assert_eq!((*fresh.value, fresh.source), (1, From::Near));
    let lease = Key::from_canonical("t:%lease:k");
    assert_eq!(shared.get(&lease).await.unwrap(), None);
}

/// A process that loads the key, and one whose way to the store fails when the test says so.
async fn with_an_ailing_process(clock: &ManualClock) -> (Cache, Cache, Arc<FaultyBackend>) {
    let shared = store(clock);
    let [one] = processes_on(clock, &shared, policy()).await;
    let ailing = Arc::new(FaultyBackend::new(shared.clone()));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(ailing.clone());
    (one, builder.strategy(policy().jitter(0.0)).build().await.unwrap(), ailing)
}

#[tokio::test]
async fn one_look_that_fails_ends_no_wait_for_another_process() {
    let clock = ManualClock::new();
    let (one, two, ailing) = with_an_ailing_process(&clock).await;
    let source = Source::gated();
    let first = reading(&one, &source);
    clock.settle().await;
    let second = reading(&two, &source);
    clock.settle().await;
    ailing.fail_next(2, ErrorKind::Timeout);
    clock.advance_and_settle(Duration::from_millis(50)).await;
    assert_eq!(source.runs(), 1);
    source.admit(1);
    clock.advance_and_settle(SECOND).await;
    assert_eq!(*first.await.unwrap().unwrap().value, 0);
    assert_eq!(*second.await.unwrap().unwrap().value, 0);
    assert_eq!(source.runs(), 1);
}

#[tokio::test]
async fn one_look_that_fails_ends_no_wait_of_a_batch_either() {
    let clock = ManualClock::new();
    let (one, two, ailing) = with_an_ailing_process(&clock).await;
    let source = Source::gated();
    let first = reading(&one, &source);
    clock.settle().await;
    let own = source.clone();
    let second = tokio::spawn(async move {
        let load = move |keys: Vec<&'static str>| async move {
            let value = own.run().await?;
            Ok::<_, &str>(keys.into_iter().map(|key| (key, value)).collect::<HashMap<_, _>>())
        };
        two.get_or_load_many(["k"], load).await
    });
    clock.settle().await;
    ailing.fail_next(2, ErrorKind::Timeout);
    clock.advance_and_settle(Duration::from_millis(50)).await;
    assert_eq!(source.runs(), 1);
    source.admit(1);
    clock.advance_and_settle(SECOND).await;
    assert_eq!(*first.await.unwrap().unwrap().value, 0);
    let [answer] = &second.await.unwrap()[..] else { panic!("one answer for one key") };
    assert_eq!(answer.as_ref().unwrap().as_deref(), Some(&0));
    assert_eq!(source.runs(), 1);
}

#[tokio::test]
async fn a_plain_read_of_a_key_that_is_being_loaded_gets_what_is_loaded() {
    let clock = ManualClock::new();
    let [cache] = processes(&clock, policy()).await;
    let source = Source::gated();
    let load = reading(&cache, &source);
    clock.settle().await;
    let reader = cache.clone();
    let read = tokio::spawn(async move { reader.get::<_, u32>("k").await });
    clock.settle().await;
    source.admit(1);
    assert_eq!(*load.await.unwrap().unwrap().value, 0);
    assert_eq!(read.await.unwrap().as_deref(), Some(&0));
    let stats = cache.stats();
    assert_eq!((stats.coalesced, stats.misses), (1, 2), "{stats:?}");
}

#[tokio::test]
async fn a_plain_read_waits_for_a_load_no_longer_than_for_the_remote_tier() {
    let clock = ManualClock::new();
    let [cache] = processes(&clock, policy()).await;
    let source = Source::gated();
    let load = reading(&cache, &source);
    clock.settle().await;
    let reader = cache.clone();
    let read = tokio::spawn(async move { reader.get::<_, u32>("k").await });
    clock.settle().await;
    clock.advance_and_settle(policy().remote_deadline).await;
    assert_eq!(read.await.unwrap(), None);
    source.admit(1);
    assert_eq!(*load.await.unwrap().unwrap().value, 0);
}

#[tokio::test]
async fn a_loader_that_looks_for_its_own_key_does_not_wait_for_itself() {
    let clock = ManualClock::new();
    let [cache] = processes(&clock, policy()).await;
    let inner = cache.clone();
    let load = cache.get_or_load("k", move || async move {
        assert_eq!(inner.get::<_, u32>("k").await, None);
        Ok::<_, ()>(1_u32)
    });
    assert_eq!(*load.await.unwrap(), 1);
}

#[tokio::test]
async fn without_a_near_tier_too_a_loader_that_failed_is_left_alone_for_a_while() {
    let clock = ManualClock::new();
    let fail_safe = larder::strategy::FailSafe::new(SECOND * 20).throttle(SECOND * 5);
    let strategy = policy().fail_safe(Some(fail_safe)).tiers(larder::strategy::Tiers::Remote);
    let [cache] = processes(&clock, strategy).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    clock.settle().await;
    source.set_broken(true);
    clock.advance(SECOND * 11);
    let reads_of = cache.stats().remote_hits;
    for _ in 0..3 {
        assert!(read(&cache, &source).await.unwrap().stale);
        clock.settle().await;
    }
    assert_eq!((source.runs(), cache.stats().remote_hits), (2, reads_of + 3));
    // No longer than the blind TTL, since there is no bus.
    clock.advance(SECOND);
    assert!(read(&cache, &source).await.unwrap().stale);
    clock.settle().await;
    assert_eq!(source.runs(), 3);
    // What is served beside the failing loader ends with an invalidation, like everything else.
    assert!(cache.delete("k").await);
    assert!(read(&cache, &source).await.is_err());
    source.set_broken(false);
    assert_eq!(*read(&cache, &source).await.unwrap().value, 4);
    clock.advance(SECOND);
    assert!(!read(&cache, &source).await.unwrap().stale);
}
