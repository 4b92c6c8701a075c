use std::{sync::Arc, time::Duration};

use larder::{Cache, ErrorKind, HealthStatus, ManualClock, Region, Source, Status};
use larder_core::{BackendExt, Each, Found, GetOptions, Key};
use larder_testing::{Fault, FaultyBackend, ModelBackend, Operation};

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

#[tokio::test]
async fn a_fault_that_the_fallback_hides_is_counted_all_the_same() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    backend.fail(ErrorKind::Timeout);
    assert_eq!(cache.get::<_, u32>("k").await, None);
    assert_eq!(cache.stats().remote_faults, 1);
    let health = cache.health().await.remote.unwrap();
    assert_eq!(health.last_fault_kind.as_deref(), Some("timeout"));
    cache.clear_stats();
    assert_eq!(cache.stats().remote_faults, 0);
}

#[tokio::test]
async fn each_way_to_be_degraded_is_told_apart_and_ends_by_itself() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Loading, ErrorKind::Auth, ErrorKind::ReadOnly] {
        let clock = ManualClock::new();
        let (cache, backend) = faulty(&clock, &store(&clock)).await;
        backend.fail(kind);
        for n in 0..5 {
            assert_eq!(load(&cache, &format!("k{n}"), n).await, (n, Source::Loaded));
        }
        clock.advance(SECOND);
        let health = cache.health().await;
        assert_eq!((health.status, health.reason.as_deref()), (HealthStatus::Degraded, Some(kind.as_str())));
        assert!(health.why.is_some() && health.lasts_ms >= Some(1000), "{health:?}");
        assert!(health.is_ready() && health.is_live());
        assert!(health.remote.unwrap().faults[kind.as_str()] > 0);
        backend.heal();
        clock.advance_and_settle(SECOND * 10).await;
        let health = cache.health().await;
        assert_eq!((health.status, health.reason, health.lasts_ms), (HealthStatus::Healthy, None, None));
    }
}

#[tokio::test]
async fn a_remote_tier_without_memory_is_degraded_and_still_answers_what_it_has() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (cache, backend) = faulty(&clock, &shared).await;
    assert!(cache.set("before", 1_u32).await);
    for operation in [Operation::SetMany, Operation::GetOrSet, Operation::CompareAndSet] {
        backend.set_for(operation, Fault::Fail(ErrorKind::OutOfMemory));
    }
    for n in 0..50 {
        assert_eq!(load(&cache, &format!("k{n}"), n).await, (n, Source::Loaded));
    }
    let health = cache.health().await;
    assert_eq!((health.status, health.reason.as_deref()), (HealthStatus::Degraded, Some("out_of_memory")));
    let remote = health.remote.unwrap();
    assert_eq!((remote.reachable, remote.takes_writes, remote.breaker.as_str()), (true, false, "closed"));
    assert_eq!(cache.get("before").skip_near().await, Some(Arc::new(1_u32)));
    assert_eq!(cache.invalidate().key("before").await.unwrap().status, Status::Done);
    backend.heal();
    clock.advance(SECOND);
    assert!(cache.set("after", 1_u32).await);
    assert_eq!(cache.health().await.status, HealthStatus::Healthy);
}

#[tokio::test]
async fn a_journal_that_overflows_invalidates_the_namespace_and_says_so() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let backend = Arc::new(FaultyBackend::new(shared.clone()));
    let generation = Key::new("t:%generation");
    let marker = generation.clone();
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(backend.clone());
    let builder = builder.fallback(move |fallback| fallback.journal_keys(2).generation(marker.clone()));
    let cache = builder.build().await.unwrap();
    shared.set(&generation, "1".into(), larder_core::SetOptions::new()).await.unwrap();
    backend.fail(ErrorKind::Unavailable);
    for n in 0..5 {
        load(&cache, &format!("x{n}"), n).await;
    }
    for n in 0..3 {
        assert_eq!(cache.invalidate().key(format!("k{n}")).await.unwrap().status, Status::Deferred);
    }
    let remote = cache.health().await.remote.unwrap();
    assert!(remote.journal_overflown && remote.journal_lost > 0, "{remote:?}");
    backend.heal();
    clock.advance_and_settle(SECOND * 10).await;
    assert_eq!(shared.get(&generation).await.unwrap(), None);
    let health = cache.health().await;
    assert_eq!(health.status, HealthStatus::Healthy);
    let remote = health.remote.unwrap();
    assert_eq!((remote.journal, remote.journal_overflown, remote.journal_lost > 0), (0, false, true));
}

#[tokio::test]
async fn a_remote_tier_that_must_be_there_is_asked_for_at_the_start() {
    let clock = ManualClock::new();
    for kind in [ErrorKind::Unavailable, ErrorKind::Auth, ErrorKind::Loading] {
        let backend = Arc::new(FaultyBackend::new(store(&clock)));
        backend.fail(kind);
        let builder = Cache::builder().timer(Arc::new(clock.clone())).backend(backend.clone());
        let error = builder.clone().require_remote().build().await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains("`require_remote`"), "{error}");
        assert!(builder.clone().build().await.is_ok());
        backend.heal();
        assert!(builder.require_remote().build().await.is_ok());
    }
    let error = Cache::builder().require_remote().build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_cache_that_was_shut_down_is_live_and_no_longer_ready() {
    let clock = ManualClock::new();
    let (cache, _) = faulty(&clock, &store(&clock)).await;
    assert!(cache.health().await.is_ready());
    cache.shutdown().await;
    clock.advance(SECOND * 3600);
    let health = cache.health().await;
    assert!(health.is_live() && !health.is_ready());
}

#[test]
fn a_cache_whose_runtime_is_gone_is_not_live() {
    let clock = ManualClock::new();
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let first = runtime();
    let (cache, _) = first.block_on(faulty(&clock, &store(&clock)));
    drop(first);
    let health = runtime().block_on(async {
        assert!(cache.health().await.is_live());
        clock.advance(SECOND * 60);
        cache.health().await
    });
    assert!(!health.is_live());
}

#[tokio::test]
async fn the_breaker_can_be_opened_by_hand_and_tells_of_its_changes() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    let fallback = cache.fallback().unwrap();
    let mut states = fallback.subscribe();
    fallback.force_open();
    assert_eq!(*states.borrow_and_update(), larder::BreakerState::ForcedOpen);
    backend.reset_calls();
    assert_eq!(load(&cache, "k", 1).await, (1, Source::Loaded));
    assert_eq!(backend.calls(), 0);
    assert_eq!(cache.health().await.reason.as_deref(), Some("forced_open"));
    fallback.auto();
    clock.settle().await;
    assert_eq!(*states.borrow_and_update(), larder::BreakerState::Closed);
    assert_eq!(cache.health().await.status, HealthStatus::Healthy);
    assert!(Cache::in_memory().fallback().is_none());
}

#[tokio::test]
async fn the_report_is_plain_json() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    let json = cache.health().await.to_json();
    assert!(
        json.contains(r#""status":"healthy","why":null,"reason":null,"lasts_ms":null,"live":true,"ready":true"#),
        "{json}"
    );
    backend.fail(ErrorKind::Auth);
    cache.get::<_, u32>("k").await;
    let json = cache.health().await.to_json();
    assert!(json.contains(r#""reason":"auth""#) && json.contains(r#""faults":{"auth":"#), "{json}");
}

#[tokio::test]
async fn a_write_in_an_outage_is_kept_here_and_told_to_who_asks_for_faults() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (cache, backend) = faulty(&clock, &shared).await;
    let other = process(&clock, &shared).await;
    assert!(cache.set("k", 1_u32).await);
    backend.fail(ErrorKind::Unavailable);
    for _ in 0..5 {
        cache.get::<_, u32>("missing").await;
    }
    for value in 2..5_u32 {
        assert!(cache.set("k", value).await);
        assert_eq!(cache.try_set("k", value).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(cache.get("k").await, Some(Arc::new(value)));
        assert_eq!(cache.set_many([("a", value), ("b", value)], None).await, 2);
        let many = cache.try_set_many([("a", value), ("b", value)], None).await;
        assert_eq!(many.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(cache.get("b").await, Some(Arc::new(value)));
    }
    assert_eq!(other.get::<_, u32>("k").await, Some(Arc::new(1)), "nobody else knows of them");
    backend.heal();
    clock.advance_and_settle(SECOND * 60).await;
    assert!(cache.try_set("k", 9_u32).await.unwrap().is_stored());
}

/// Lets the breaker open.
async fn lose(cache: &Cache, backend: &FaultyBackend) {
    backend.fail(ErrorKind::Unavailable);
    for n in 0..3 {
        load(cache, &format!("lost{n}"), n).await;
    }
    assert!(!cache.fallback().unwrap().state().lets_calls_through());
}

#[tokio::test]
async fn an_outage_keeps_what_a_region_has_for_the_regions_own_time() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    let sessions: Region<str, u32> = cache.region("session").strategy(larder::strategy::session()).build().unwrap();
    let read = async |value: u32| *sessions.get_or_load("s", move || async move { Ok::<_, ()>(value) }).await.unwrap();
    lose(&cache, &backend).await;
    assert_eq!(read(1).await, 1);
    clock.settle().await;
    clock.advance_and_settle(SECOND * 9).await;
    assert_eq!(read(2).await, 1);
    clock.advance_and_settle(SECOND * 2).await;
    assert_eq!(read(3).await, 3, "a logout elsewhere could not be heard of");
}

#[tokio::test]
async fn what_comes_from_the_fallback_is_not_kept_near_beyond_the_outage_ttl() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    lose(&cache, &backend).await;
    assert!(cache.set("k", 1_u32).ttl(SECOND * 3600).skip_near().await);
    clock.advance_and_settle(SECOND * 50).await;
    assert_eq!(cache.get::<_, u32>("k").await.as_deref(), Some(&1));
    clock.advance_and_settle(SECOND * 11).await;
    assert_eq!(cache.get::<_, u32>("k").await, None);
}

#[tokio::test]
async fn a_longer_life_that_is_asked_for_in_an_outage_does_not_outlast_the_outage_ttl() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    let sessions: Region<str, u32> = cache.region("session").strategy(larder::strategy::session()).build().unwrap();
    lose(&cache, &backend).await;
    assert!(sessions.set("s", 1).await);
    clock.advance_and_settle(SECOND * 8).await;
    assert!(sessions.expire("s", SECOND * 1800).await.unwrap());
    assert!(sessions.get("s").await.is_some());
    clock.advance_and_settle(SECOND * 3).await;
    assert_eq!(sessions.get("s").await, None);
}

#[tokio::test]
async fn a_probe_whose_read_fails_is_degraded_and_not_unhealthy() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    backend.set_for(Operation::GetMany, Fault::Fail(ErrorKind::Timeout));
    let health = cache.health().probe().await;
    assert_eq!((health.status, health.reason.as_deref()), (HealthStatus::Degraded, Some("timeout")));
    assert!(health.is_ready());
}

#[tokio::test]
async fn a_probe_that_the_breaker_opens_under_is_degraded_and_not_unhealthy() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    backend.set_for(Operation::SetMany, Fault::Hold);
    let prober = cache.clone();
    let probe = tokio::spawn(async move { prober.health().probe().await });
    backend.until_stuck(1).await;
    cache.fallback().unwrap().force_open();
    backend.set_for(Operation::SetMany, Fault::None);
    let health = probe.await.unwrap();
    assert_eq!((health.status, health.reason.as_deref()), (HealthStatus::Degraded, Some("forced_open")));
}

#[tokio::test]
async fn a_probe_of_a_remote_tier_without_memory_says_that_it_has_none() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    backend.set_for(Operation::SetMany, Fault::Fail(ErrorKind::OutOfMemory));
    let health = cache.health().probe().await;
    assert_eq!((health.status, health.reason.as_deref()), (HealthStatus::Degraded, Some("out_of_memory")));
}

#[tokio::test]
async fn a_probe_takes_no_longer_than_the_deadline_of_a_read() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    backend.set_for(Operation::SetMany, Fault::Hold);
    backend.set_for(Operation::GetMany, Fault::Hold);
    let prober = cache.clone();
    let probe = tokio::spawn(async move { prober.health().probe().await });
    backend.until_stuck(1).await;
    clock.advance_and_settle(Duration::from_millis(30)).await;
    backend.set_for(Operation::SetMany, Fault::None);
    clock.settle().await;
    backend.until_stuck(1).await;
    clock.advance_and_settle(Duration::from_millis(20)).await;
    assert!(probe.is_finished());
    assert_eq!(probe.await.unwrap().status, HealthStatus::Degraded);
}

#[tokio::test]
async fn a_removal_that_has_not_been_carried_out_is_no_good_health() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    assert!(cache.set("k", 1_u32).await);
    backend.set_for(Operation::DeleteMany, Fault::Fail(ErrorKind::Timeout));
    assert_eq!(cache.invalidate().key("k").await.unwrap().status, Status::Deferred);
    clock.advance_and_settle(SECOND).await;
    let health = cache.health().await;
    assert_eq!((health.status, health.reason.as_deref()), (HealthStatus::Degraded, Some("journal")));
    let remote = health.remote.unwrap();
    assert_eq!((remote.breaker.as_str(), remote.journal), ("closed", 1));
    backend.heal();
    clock.advance_and_settle(SECOND * 10).await;
    assert_eq!(cache.health().await.status, HealthStatus::Healthy);
}

#[tokio::test]
async fn what_an_outage_left_near_goes_too_when_the_breaker_is_closed_by_hand() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (cache, _backend) = faulty(&clock, &shared).await;
    let other = process(&clock, &shared).await;
    cache.fallback().unwrap().force_open();
    assert_eq!(load(&cache, "k", 1).await, (1, Source::Loaded));
    assert!(other.set("k", 2_u32).await);
    cache.fallback().unwrap().force_closed();
    clock.settle().await;
    assert_eq!(load(&cache, "k", 3).await, (2, Source::Remote));
}

#[tokio::test]
async fn a_process_that_starts_into_an_outage_with_a_journal_that_lacks_something_keeps_what_it_loads() {
    let clock = ManualClock::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    // Of a process that died in the outage before a removal had reached the disk.
    std::fs::write(&path, "larder journal1o").unwrap();
    let backend = Arc::new(FaultyBackend::new(store(&clock)));
    backend.fail(ErrorKind::Unavailable);
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(backend.clone());
    let builder = builder.fallback(move |fallback| fallback.journal_file(path.clone(), larder::Fsync::Always));
    let cache = builder.build().await.unwrap();
    assert_eq!(load(&cache, "k", 1).await, (1, Source::Loaded));
    clock.advance_and_settle(SECOND * 30).await;
    assert_eq!(load(&cache, "k", 2).await, (1, Source::Near));
    backend.heal();
    clock.advance_and_settle(SECOND * 2).await;
    assert_eq!(load(&cache, "k", 3).await, (3, Source::Loaded));
}

#[tokio::test]
async fn the_longest_deadline_there_is_does_not_panic() {
    let clock = ManualClock::new();
    let patient = larder::Strategy::default().remote_deadline(Duration::MAX);
    let builder = Cache::builder().timer(Arc::new(clock.clone())).backend(store(&clock)).strategy(patient);
    let cache = builder.build().await.unwrap();
    assert_eq!(load(&cache, "k", 1).await, (1, Source::Loaded));
    clock.settle().await;
    assert_eq!(cache.health().probe().await.status, HealthStatus::Healthy);
}

#[tokio::test]
async fn callers_that_wait_for_less_than_a_command_may_take_find_an_outage_out_too() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    let brief = larder::Strategy::default().remote_deadline(Duration::from_millis(10));
    let region: Region<str, u32> = cache.region("brief").strategy(brief).build().unwrap();
    backend.hang();
    for n in 0..40 {
        let region = region.clone();
        let read = tokio::spawn(async move { region.get(&format!("k{n}")).await });
        clock.advance_and_settle(Duration::from_millis(10)).await;
        assert_eq!(read.await.unwrap(), None);
    }
    assert!(!cache.fallback().unwrap().state().lets_calls_through());
}

#[tokio::test]
async fn a_write_in_an_outage_waits_for_nobody() {
    let clock = ManualClock::new();
    let shared = ModelBackend::new(Arc::new(clock.clone()));
    let backend = Arc::new(FaultyBackend::new(Arc::new(shared)));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(backend.clone());
    let cache = builder.build().await.unwrap();
    clock.settle().await;
    assert!(cache.health().await.remote.unwrap().bus_trusted);
    backend.hang();
    cache.fallback().unwrap().force_open();
    let writer = cache.clone();
    let write = tokio::spawn(async move { writer.set("k", 1_u32).await });
    clock.settle().await;
    assert!(write.is_finished(), "the message about it is nothing to wait for");
    assert!(write.await.unwrap());
}

#[tokio::test]
async fn a_life_of_zero_removes_a_key_also_when_the_remote_tier_cannot_be_read() {
    for away in [true, false] {
        let clock = ManualClock::new();
        let (cache, backend) = faulty(&clock, &store(&clock)).await;
        assert!(cache.set("k", 1_u32).await);
        if away {
            lose(&cache, &backend).await;
        } else {
            backend.set_for(Operation::GetMany, Fault::Fail(ErrorKind::Timeout));
        }
        cache.expire("k", Duration::ZERO).await.unwrap();
        backend.heal();
        clock.advance_and_settle(SECOND * 10).await;
        assert_eq!(cache.get::<_, u32>("k").await, None, "away: {away}");
    }
}

#[tokio::test]
async fn whether_a_key_can_be_given_another_life_is_not_made_up() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    assert!(cache.set("k", 1_u32).await);
    backend.set_for(Operation::GetMany, Fault::Fail(ErrorKind::Timeout));
    assert_eq!(cache.expire("k", SECOND).await.unwrap_err().kind(), ErrorKind::Timeout);
    lose(&cache, &backend).await;
    assert_eq!(cache.expire("k", SECOND).await.unwrap_err().kind(), ErrorKind::Unavailable);
    // What the fallback has can be changed there.
    assert!(cache.set("k", 1_u32).await);
    assert!(cache.expire("k", SECOND).await.unwrap());
}

#[tokio::test]
async fn what_is_left_of_a_life_is_not_made_up_when_it_cannot_be_read() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (cache, backend) = faulty(&clock, &shared).await;
    assert!(cache.set("k", 1_u32).ttl(SECOND * 60).skip_near().await);
    backend.set_for(Operation::GetMany, Fault::Fail(ErrorKind::Timeout));
    assert_eq!(cache.try_ttl("k").await.unwrap_err().kind(), ErrorKind::Timeout);
    // A life that is to be kept and cannot be read is not an endless one.
    assert!(cache.try_set("k", 2_u32).keep_ttl().await.is_err());
    backend.heal();
    clock.settle().await;
    assert_eq!(cache.get::<_, u32>("k").await, None, "what was to be replaced is gone");
    lose(&cache, &backend).await;
    assert_eq!(cache.try_exists("k").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(cache.set("k", 3_u32).keep_ttl().await);
    assert!(cache.try_exists("k").await.unwrap());
}

/// A store of which one key cannot be read, as when one node of a cluster is away.
#[derive(Debug)]
struct OneBadKey {
    inner: Arc<larder_memory::MemoryBackend>,
    bad: Key,
}

backend_over!(OneBadKey, "one bad key", inner, {
    async fn get_many(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
        let bad = || Err(larder_core::Error::new(ErrorKind::Unavailable, "get_many", "this node is away"));
        let found = self.inner.get_many(keys, options).await;
        keys.iter().zip(found).map(|(key, found)| if *key == self.bad { bad() } else { found }).collect()
    }
});

#[tokio::test]
async fn a_marker_that_cannot_be_read_is_not_taken_for_one_that_is_gone() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let one = process(&clock, &shared).await;
    let first = one.get_or_load("k", || async { Ok::<_, ()>(1_u32) }).tag("a");
    assert_eq!(*first.await.unwrap(), 1);
    clock.settle().await;
    let backend = Arc::new(OneBadKey { inner: shared.clone(), bad: Key::from_canonical("t:%tag:a") });
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(backend);
    let cut_off = builder.build().await.unwrap();
    assert_eq!(load(&cut_off, "k", 2).await, (2, Source::Loaded));
    clock.settle().await;
    let two = process(&clock, &shared).await;
    assert_eq!(load(&two, "k", 3).await, (1, Source::Remote), "nobody has invalidated it");
}

#[tokio::test]
async fn an_explanation_that_cannot_be_had_is_an_error() {
    let clock = ManualClock::new();
    let (cache, backend) = faulty(&clock, &store(&clock)).await;
    assert!(cache.set("k", 1_u32).await);
    backend.set_for(Operation::GetMany, Fault::Fail(ErrorKind::Timeout));
    assert_eq!(cache.explain("k").await.unwrap_err().kind(), ErrorKind::Timeout);
}

/// A region whose reads wait for less than a command may take, on a store that does not answer.
async fn brief(clock: &ManualClock) -> (Cache, Region<str, u32>, Arc<FaultyBackend>) {
    let (cache, backend) = faulty(clock, &store(clock)).await;
    let brief = larder::Strategy::default().remote_deadline(Duration::from_millis(10));
    let region = cache.region("brief").strategy(brief).build().unwrap();
    clock.settle().await;
    backend.reset_calls();
    backend.hang();
    (cache, region, backend)
}

#[tokio::test]
async fn a_read_that_has_used_up_its_time_is_one_fault_and_claims_nothing() {
    let clock = ManualClock::new();
    let (cache, region, backend) = brief(&clock).await;
    let loading = tokio::spawn(async move { region.get_or_load("k", || async { Ok::<_, ()>(7) }).await });
    clock.settle().await;
    clock.advance_and_settle(Duration::from_millis(10)).await;
    assert_eq!(*loading.await.unwrap().unwrap(), 7);
    assert_eq!(cache.stats().remote_faults, 1);
    assert_eq!(backend.calls_of(Operation::GetOrSet), 0, "nothing is known of what stands there");
}

#[tokio::test]
async fn a_time_out_of_the_region_is_a_fault_for_all_who_wait_and_one_of_the_call_alone_is_not() {
    let clock = ManualClock::new();
    let (cache, region, backend) = brief(&clock).await;
    let read = |deadline: Option<u64>| {
        let region = region.clone();
        tokio::spawn(async move {
            let get = region.get("k");
            match deadline {
                Some(millis) => get.deadline(Duration::from_millis(millis)).await,
                None => get.await,
            }
        })
    };
    let (first, second) = (read(None), read(None));
    clock.settle().await;
    clock.advance_and_settle(Duration::from_millis(10)).await;
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (None, None));
    assert_eq!((backend.calls_of(Operation::GetMany), cache.stats().remote_faults), (1, 1));
    let hasty = read(Some(3));
    clock.settle().await;
    clock.advance_and_settle(Duration::from_millis(3)).await;
    assert_eq!(hasty.await.unwrap(), None);
    assert_eq!(cache.stats().remote_faults, 1, "its haste says nothing about the store");
}
