use std::{sync::Arc, time::Duration};

use larder::{Cache, ErrorKind, HealthStatus, ManualClock, Source, Status};
use larder_testing::FaultyBackend;

use crate::{process, store};

const SECOND: Duration = Duration::from_secs(1);

/// A cache on a store that can be made to fail.
async fn faulty(clock: &ManualClock, store: &Arc<larder_memory::MemoryBackend>) -> (Cache, Arc<FaultyBackend>) {
    let backend = Arc::new(FaultyBackend::new(store.clone()));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(backend.clone());
    (builder.build().await.unwrap(), backend)
}

async fn load(cache: &Cache, key: &str, value: u32) -> (u32, Source) {
    let outcome = cache.get_or_load(key, move || async move { Ok::<_, ()>(value) }).outcome().await.unwrap();
    (*outcome.value, outcome.source)
}

#[tokio::test]
async fn a_remote_tier_that_fails_costs_nobody_a_value_and_is_used_again_when_it_is_back() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (cache, backend) = faulty(&clock, &shared).await;
    let other = process(&clock, &shared).await;
    backend.fail(ErrorKind::Unavailable);
    for n in 0..10 {
        assert_eq!(load(&cache, &format!("k{n}"), n).await, (n, Source::Loaded));
        assert_eq!(load(&cache, &format!("k{n}"), 99).await, (n, Source::Near));
    }
    clock.settle().await;
    assert_eq!(cache.health().await.status, HealthStatus::Degraded);
    assert!(cache.health().await.is_serving());
    backend.heal();
    clock.advance_and_settle(SECOND * 60).await;
    assert_eq!(cache.health().await.status, HealthStatus::Healthy);
    load(&cache, "after", 7).await;
    clock.settle().await;
    assert_eq!(load(&other, "after", 8).await, (7, Source::Remote));
}

#[tokio::test]
async fn a_remote_tier_that_hangs_delays_a_miss_by_its_deadline_and_a_hit_not_at_all() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    cache.set("hit", 1_u32).await;
    backend.hang();
    assert_eq!(cache.get("hit").await, Some(Arc::new(1_u32)));
    let reader = cache.clone();
    let miss = tokio::spawn(async move { load(&reader, "miss", 2).await });
    clock.settle().await;
    assert!(!miss.is_finished());
    clock.advance_and_settle(Duration::from_millis(50)).await;
    assert_eq!(miss.await.unwrap(), (2, Source::Loaded));
}

#[tokio::test]
async fn a_fault_is_a_miss_unless_the_caller_asks_for_it() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    backend.fail(ErrorKind::Auth);
    assert_eq!(cache.get::<_, u32>("k").await, None);
    assert!(cache.increment("n", 1).await.is_err());
    let stats = cache.stats();
    assert_eq!((stats.requests(), stats.misses), (1, 1));
}

#[tokio::test]
async fn an_invalidation_during_an_outage_is_deferred_and_then_carried_out() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (cache, backend) = faulty(&clock, &shared).await;
    let other = process(&clock, &shared).await;
    load(&cache, "k", 1).await;
    clock.settle().await;
    backend.fail(ErrorKind::Unavailable);
    for n in 0..5 {
        load(&cache, &format!("x{n}"), n).await;
    }
    let done = cache.invalidate().key("k").await.unwrap();
    assert_eq!(done.status, Status::Deferred);
    assert_eq!(load(&cache, "k", 2).await, (2, Source::Loaded));
    backend.heal();
    clock.advance_and_settle(SECOND * 60).await;
    assert_eq!(load(&other, "k", 3).await, (3, Source::Loaded));
}

#[tokio::test]
async fn health_tells_what_is_wrong_and_a_probe_writes_and_reads() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    assert_eq!(cache.health().probe().await.status, HealthStatus::Healthy);
    assert_eq!(cache.prefix("x").keys("%probe*", 10).await.unwrap().len(), 0);
    backend.fail(ErrorKind::Loading);
    for n in 0..5 {
        load(&cache, &format!("x{n}"), n).await;
    }
    let health = cache.health().await;
    let remote = health.remote.unwrap();
    assert_eq!((health.status, remote.reachable), (HealthStatus::Degraded, false));
    assert_ne!(remote.breaker, "closed");
    assert_eq!(Cache::in_memory().health().probe().await.status, HealthStatus::Healthy);
}
