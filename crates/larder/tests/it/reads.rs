//! One test for each defect of reads and writes that was found after the fact by going through them step by step.

use std::{
    collections::HashMap,
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use larder::{
    __private::{KeyStyle, Lookup, Site, SiteSpec, lookup},
    Cache, LoadError, Loaded, ManualClock, Previous, Source as From, Strategy,
    strategy::{FailSafe, Lease, Tiers},
};
use larder_core::{BackendExt, Clock, SetOptions, SystemClock};
use larder_memory::MemoryBackend;
use larder_testing::{Fault, FaultyBackend, ModelBackend, Operation};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::{
    process,
    source::{Answer, Source, near, processes, processes_on, read, reading},
    store,
};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

fn stale() -> Strategy {
    Strategy::new("r", SECOND * 10).stale_window(SECOND * 60)
}

/// A cache on a store that the test lets fail.
async fn ailing(clock: &ManualClock, shared: &Arc<MemoryBackend>, strategy: Strategy) -> (Cache, Arc<FaultyBackend>) {
    let backend = Arc::new(FaultyBackend::new(shared.clone()));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(backend.clone());
    let builder = builder.strategy(strategy.jitter(0.0)).remote_command_deadline(SECOND * 60);
    (builder.build().await.unwrap(), backend)
}

/// Reads the key `k` past the near tier.
fn reading_past(cache: &Cache, source: &Source) -> JoinHandle<Answer> {
    let (cache, source) = (cache.clone(), source.clone());
    tokio::spawn(async move { cache.get_or_load("k", move || source.run()).skip_near().outcome().await })
}

// Stale values where nothing is kept near.

#[tokio::test]
async fn a_value_that_is_served_beside_a_load_is_not_served_past_its_end() {
    let clock = ManualClock::new();
    let strategy = Strategy::new("r", SECOND * 10).stale_window(SECOND * 5).tiers(Tiers::Remote);
    let (cache, _) = ailing(&clock, &store(&clock), strategy).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    clock.settle().await;
    source.close();
    clock.advance(SECOND * 14);
    assert!(read(&cache, &source).await.unwrap().stale);
    clock.settle().await;
    // It ended one second after that.
    clock.advance_and_settle(SECOND * 2).await;
    let caller = reading(&cache, &source);
    clock.settle().await;
    assert!(!caller.is_finished());
    source.admit(1);
    assert_eq!(*caller.await.unwrap().unwrap().value, 1);
}

#[tokio::test]
async fn a_value_that_is_served_beside_a_load_ends_with_the_blind_ttl_where_nobody_hears_of_invalidations() {
    let clock = ManualClock::new();
    let [one, two] = processes(&clock, stale().tiers(Tiers::Remote)).await;
    let source = Source::open();
    read(&one, &source).await.unwrap();
    clock.settle().await;
    source.close();
    clock.advance(SECOND * 11);
    assert!(read(&one, &source).await.unwrap().stale);
    clock.settle().await;
    assert!(two.set("k", 7_u32).await);
    clock.advance_and_settle(SECOND * 2).await;
    let caller = reading(&one, &source);
    clock.settle().await;
    assert!(!caller.is_finished(), "{caller:?}");
    source.admit(1);
    caller.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_soft_time_out_holds_for_who_comes_later_where_nothing_is_kept_near() {
    let clock = ManualClock::new();
    let [cache] = processes(&clock, stale().tiers(Tiers::Remote).soft_timeout(Some(SECOND / 4))).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    clock.settle().await;
    source.close();
    clock.advance(SECOND * 11);
    let first = reading(&cache, &source);
    clock.advance_and_settle(SECOND / 4).await;
    assert!(first.await.unwrap().unwrap().stale);
    let second = reading(&cache, &source);
    clock.settle().await;
    assert!(!second.is_finished());
    clock.advance_and_settle(SECOND / 4).await;
    assert!(second.is_finished());
    let outcome = second.await.unwrap().unwrap();
    assert_eq!((*outcome.value, outcome.stale), (0, true));
}

#[tokio::test]
async fn what_was_written_is_read_although_an_older_value_is_served_beside_a_load() {
    let clock = ManualClock::new();
    let (cache, backend) = ailing(&clock, &store(&clock), stale()).await;
    let source = Source::open();
    reading_past(&cache, &source).await.unwrap().unwrap();
    clock.settle().await;
    source.close();
    clock.advance(SECOND * 11);
    backend.set_for(Operation::SetMany, Fault::Hold);
    let writer = cache.clone();
    let write = tokio::spawn(async move { writer.set("k", 7_u32).await });
    backend.until_stuck(1).await;
    // It began after the write, and finds what that has not replaced yet.
    assert!(reading_past(&cache, &source).await.unwrap().unwrap().stale);
    clock.settle().await;
    backend.heal();
    assert!(write.await.unwrap());
    let after = reading_past(&cache, &source);
    clock.settle().await;
    assert_eq!(*after.await.unwrap().unwrap().value, 7);
}

// What is at hand.

#[tokio::test]
async fn a_soft_time_out_serves_nothing_that_has_died_meanwhile() {
    let clock = ManualClock::new();
    let strategy = Strategy::new("r", SECOND * 10).stale_window(SECOND * 5).soft_timeout(Some(SECOND * 3));
    let cache = near(&clock, strategy).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    source.close();
    clock.advance(SECOND * 14);
    let caller = reading(&cache, &source);
    clock.advance_and_settle(SECOND * 3).await;
    assert!(!caller.is_finished());
    source.admit(1);
    assert_eq!(*caller.await.unwrap().unwrap().value, 1);
}

#[tokio::test]
async fn a_value_that_has_died_meanwhile_stands_in_for_no_error() {
    let clock = ManualClock::new();
    let cache = near(&clock, Strategy::new("r", SECOND * 10).stale_window(SECOND * 5)).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    source.close();
    source.set_broken(true);
    clock.advance(SECOND * 9);
    let (own, run) = (cache.clone(), source.clone());
    let caller =
        tokio::spawn(
            async move { own.get_or_load("k", move || run.run()).force_refresh().allow_stale().outcome().await },
        );
    clock.advance_and_settle(SECOND * 10).await;
    source.admit(1);
    assert!(matches!(caller.await.unwrap(), Err(LoadError::Loader(_))));
}

#[tokio::test]
async fn fail_safe_counts_from_the_entry_and_not_from_the_end_of_its_near_copy() {
    let clock = ManualClock::new();
    let strategy = stale().fail_safe(Some(FailSafe::new(SECOND * 60)));
    let [cache] = processes(&clock, strategy).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    clock.settle().await;
    source.close();
    let (own, run) = (cache.clone(), source.clone());
    let forced = tokio::spawn(async move { own.get_or_load("k", move || run.run()).force_refresh().outcome().await });
    // Without a bus the near copy lives for a second.
    clock.advance_and_settle(SECOND * 30).await;
    let outcome = forced.await.unwrap().unwrap();
    assert_eq!((*outcome.value, outcome.stale), (0, true));
}

#[tokio::test]
async fn a_refresh_that_failed_is_put_off_and_never_brought_forward() {
    let clock = ManualClock::new();
    let cache = near(&clock, Strategy::new("r", SECOND * 60)).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    source.set_broken(true);
    let run = source.clone();
    cache.get_or_load("k", move || run.run()).force_refresh().await.unwrap_err();
    clock.advance(SECOND * 2);
    let outcome = read(&cache, &source).await.unwrap();
    assert_eq!((*outcome.value, outcome.stale), (0, false));
    clock.settle().await;
    assert_eq!(source.runs(), 2);
}

#[tokio::test]
async fn a_forced_refresh_that_fails_hides_nothing_that_the_remote_tier_has() {
    let clock = ManualClock::new();
    let [one, two] = processes(&clock, stale().negative_ttl(Some(SECOND * 5))).await;
    let source = Source::open();
    read(&one, &source).await.unwrap();
    clock.settle().await;
    source.set_broken(true);
    let run = source.clone();
    two.get_or_load("k", move || run.run()).force_refresh().await.unwrap_err();
    assert_eq!(two.get("k").await, Some(Arc::new(0_u32)));
}

// Reads without a loader.

#[tokio::test]
async fn a_plain_read_during_a_refresh_gets_what_stands_in_the_remote_tier() {
    let clock = ManualClock::new();
    let [one, two] = processes(&clock, stale()).await;
    let source = Source::open();
    read(&one, &source).await.unwrap();
    clock.settle().await;
    source.close();
    let (own, run) = (two.clone(), source.clone());
    let forced = tokio::spawn(async move { own.get_or_load("k", move || run.run()).force_refresh().await });
    clock.settle().await;
    let reader = two.clone();
    let found = tokio::spawn(async move { reader.get::<_, u32>("k").await });
    clock.advance_and_settle(stale().remote_deadline).await;
    assert_eq!(found.await.unwrap(), Some(Arc::new(0)));
    source.admit(1);
    assert_eq!(*forced.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_batch_keeps_its_near_hits_when_the_remote_tier_does_not_answer() {
    let clock = ManualClock::new();
    let (cache, backend) = ailing(&clock, &store(&clock), Strategy::new("r", SECOND * 100)).await;
    cache.set("near", 1_u32).await;
    backend.set_for(Operation::GetMany, Fault::Hang);
    let reader = cache.clone();
    let found = tokio::spawn(async move { reader.get_many::<_, u32>(&["near", "far"]).await });
    clock.advance_and_settle(MILLI * 100).await;
    assert_eq!(found.await.unwrap(), [Some(Arc::new(1)), None]);
}

#[tokio::test]
async fn a_callers_haste_is_no_fault_of_the_remote_tier() {
    let clock = ManualClock::new();
    let (cache, backend) = ailing(&clock, &store(&clock), Strategy::new("r", SECOND * 100)).await;
    backend.set_for(Operation::GetMany, Fault::Hold);
    assert_eq!(cache.get::<_, u32>("k").deadline(Duration::ZERO).await, None);
    assert_eq!(cache.stats().remote_faults, 0);
}

// The end of a cache.

#[tokio::test]
async fn nobody_loads_anew_what_a_shutdown_has_aborted() {
    let clock = ManualClock::new();
    let [cache] = processes(&clock, stale()).await;
    let source = Source::gated();
    let callers = [reading(&cache, &source), reading(&cache, &source)];
    clock.settle().await;
    let keys = [1_u32];
    let batch = || {
        let (own, run) = (cache.clone(), source.clone());
        tokio::spawn(async move { own.get_or_load_many(keys, move |missing| run.many(missing)).await })
    };
    let batches = [batch(), batch()];
    clock.settle().await;
    assert_eq!(source.runs(), 2);
    let ending = cache.clone();
    let shutdown = tokio::spawn(async move { ending.shutdown_within(SECOND).await });
    clock.advance_and_settle(SECOND * 2).await;
    assert_eq!(shutdown.await.unwrap(), 2);
    assert_eq!(source.runs(), 2);
    for caller in callers {
        assert!(matches!(caller.await.unwrap(), Err(LoadError::TimedOut)));
    }
    for batch in batches {
        assert!(matches!(batch.await.unwrap()[..], [Err(LoadError::TimedOut)]));
    }
}

#[test]
fn what_was_to_be_told_when_a_runtime_ended_keeps_nobody_from_telling_more_on_another() {
    let clock = ManualClock::new();
    let shared = Arc::new(ModelBackend::new(Arc::new(clock.clone())));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let cache = first.block_on(async {
        let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(shared);
        let cache = builder.build().await.unwrap();
        clock.settle().await;
        // What tells of it is a task that has not run yet when the runtime ends.
        let mut write = cache.set("k", 1_u32).into_future();
        assert!(futures_util::poll!(write.as_mut()).is_pending());
        cache.clone()
    });
    drop(first);
    let second = runtime();
    second.block_on(async {
        let write = tokio::spawn(async move { cache.set("k", 2_u32).await });
        clock.advance_and_settle(SECOND * 10).await;
        assert!(write.is_finished());
    });
}

#[tokio::test]
async fn a_commit_that_takes_long_is_no_load_that_goes_on() {
    let clock = ManualClock::new();
    let backend = Arc::new(FaultyBackend::new(store(&clock)));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(backend.clone());
    let cache = builder.max_background_loads(1).remote_command_deadline(SECOND * 60).build().await.unwrap();
    backend.set_for(Operation::CompareAndSet, Fault::Hold);
    assert_eq!(*cache.get_or_load(1_u32, || async { Ok::<_, ()>(1_u32) }).await.unwrap(), 1);
    assert_eq!(*cache.get_or_load(2_u32, || async { Ok::<_, ()>(2_u32) }).await.unwrap(), 2);
    let batch = |key: u32| {
        cache.get_or_load_many([key], |keys: Vec<u32>| async {
            Ok::<_, ()>(keys.into_iter().map(|key| (key, key)).collect::<HashMap<_, _>>())
        })
    };
    assert!(batch(3).await[0].is_ok());
    assert!(batch(4).await[0].is_ok());
}

// Loads that their caller runs.

#[tokio::test]
async fn who_ran_the_loader_itself_gets_what_it_loaded() {
    let clock = ManualClock::new();
    let [cache] = processes(&clock, stale().tiers(Tiers::Remote)).await;
    cache.get_or_load_inline("k", || async { Ok::<_, ()>(0_u32) }).await.unwrap();
    clock.settle().await;
    clock.advance(SECOND * 11);
    assert_eq!(*cache.get_or_load_inline("k", || async { Ok::<_, ()>(1_u32) }).await.unwrap(), 1);
}

#[tokio::test]
async fn a_loader_that_borrows_runs_once_its_value_is_stale() {
    let clock = ManualClock::new();
    let cache = near(&clock, stale()).await;
    for (number, after) in [(0_u32, 0), (1, 11), (2, 11)] {
        clock.advance(SECOND * after);
        let loaded = cache.get_or_load_inline("k", || async { Ok::<_, ()>(number) }).await.unwrap();
        assert_eq!(*loaded, number);
    }
}

#[tokio::test]
async fn who_waits_for_a_loader_that_borrows_is_served_what_fail_safe_allows() {
    let clock = ManualClock::new();
    let cache = near(&clock, stale().fail_safe(Some(FailSafe::new(SECOND * 60)))).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    source.close();
    clock.advance(SECOND * 11);
    let inline = || {
        let (own, run) = (cache.clone(), source.clone());
        tokio::spawn(async move { own.get_or_load_inline("k", || run.run()).await })
    };
    let (_leads, follows) = (inline(), inline());
    clock.advance_and_settle(SECOND * 30).await;
    assert_eq!(*follows.await.unwrap().unwrap(), 0);
}

// Writes and what they find.

#[larder::test]
async fn a_ttl_is_not_kept_from_what_has_expired(cache: Cache, clock: ManualClock) {
    cache.set("k", 1_u32).ttl(SECOND).await;
    clock.advance(SECOND * 2);
    assert!(cache.set("k", 2_u32).keep_ttl().await);
    assert_eq!(cache.get("k").await, Some(Arc::new(2_u32)));
}

#[tokio::test]
async fn the_memory_that_there_is_no_value_is_none_for_writes() {
    let clock = ManualClock::new();
    let strategy = Strategy::new("r", SECOND * 10).cache_none(Some(SECOND * 5)).negative_ttl(Some(SECOND * 5));
    let remote = {
        let (cache, _) = ailing(&clock, &store(&clock), strategy.clone()).await;
        cache
    };
    for (name, cache) in [("near", near(&clock, strategy).await), ("remote", remote)] {
        cache.get_or_load_optional("absent", || async { Ok::<Option<u32>, ()>(None) }).await.unwrap();
        clock.settle().await;
        assert!(!cache.set("absent", 1_u32).only_if_present().await, "{name}");
        cache.get_or_load_optional("absent", || async { Ok::<Option<u32>, ()>(None) }).await.unwrap();
        clock.settle().await;
        assert!(cache.add("absent", 1_u32).await, "{name}");
        assert_eq!(cache.get("absent").await, Some(Arc::new(1_u32)), "{name}");
        cache.get_or_load("failed", || async { Err::<u32, _>(()) }).await.unwrap_err();
        clock.settle().await;
        assert!(!cache.set("failed", 1_u32).only_if_present().await, "{name}");
        cache.get_or_load("failed", || async { Err::<u32, _>(()) }).await.unwrap_err();
        assert!(cache.add("failed", 1_u32).await, "{name}");
    }
}

#[tokio::test]
async fn the_life_of_what_is_not_there_cannot_be_changed() {
    let clock = ManualClock::new();
    let strategy = Strategy::new("r", SECOND * 10).cache_none(Some(SECOND * 5)).negative_ttl(Some(SECOND * 5));
    let remote = {
        let (cache, _) = ailing(&clock, &store(&clock), strategy.clone()).await;
        cache
    };
    for (name, cache) in [("near", near(&clock, strategy).await), ("remote", remote)] {
        cache.get_or_load_optional("absent", || async { Ok::<Option<u32>, ()>(None) }).await.unwrap();
        clock.settle().await;
        assert!(!cache.expire("absent", SECOND * 60).await.unwrap(), "{name}");
        cache.get_or_load("failed", || async { Err::<u32, _>("down") }).await.unwrap_err();
        clock.settle().await;
        assert!(!cache.persist("failed").await.unwrap(), "{name}");
        clock.advance(SECOND * 6);
        let found = cache.get_or_load("failed", || async { Ok::<_, &str>(1_u32) }).await;
        assert!(found.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn what_is_being_loaded_or_was_invalidated_by_tag_is_not_present() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (one, two) = (process(&clock, &shared).await, process(&clock, &shared).await);
    let source = Source::gated();
    let loading = reading(&one, &source);
    clock.settle().await;
    assert!(!two.set("k", 2_u32).only_if_present().await);
    source.admit(1);
    loading.await.unwrap().unwrap();
    clock.settle().await;
    assert_eq!(two.get("k").await, Some(Arc::new(0_u32)));
    assert!(two.set("k", 2_u32).only_if_present().await);
    clock.advance(SECOND * 2);
    assert_eq!(one.get("k").await, Some(Arc::new(2_u32)));

    one.set("tagged", 1_u32).tag("t").await;
    one.invalidate().tag("t").await.unwrap();
    assert!(!two.set("tagged", 2_u32).only_if_present().await);
    assert_eq!(one.get::<_, u32>("tagged").await, None);
}

#[larder::test]
async fn what_has_expired_or_failed_is_not_there_to_be_deleted(cache: Cache, clock: ManualClock) {
    cache.set("expired", 1_u32).ttl(SECOND).await;
    cache.set("tagged", 1_u32).tag("t").await;
    clock.advance(SECOND * 2);
    cache.invalidate().tag("t").await.unwrap();
    assert!(!cache.delete("expired").await);
    assert!(!cache.delete("tagged").await);
    cache.set("k", 1_u32).await;
    assert_eq!(cache.delete_many(["k", "k", "other"]).await.unwrap(), 1);
}

#[larder::test]
async fn what_has_expired_is_not_listed(cache: Cache, clock: ManualClock) {
    cache.set("user:1", 1_u32).ttl(SECOND).await;
    cache.set("user:2", 1_u32).ttl(SECOND * 5).await;
    clock.advance(SECOND * 2);
    assert_eq!(cache.keys("user:*", 10).await.unwrap(), [cache.key("user:2")]);
}

#[tokio::test]
async fn the_caches_own_keys_are_neither_listed_nor_removed_by_patterns() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let [one, two] = processes_on(&clock, &shared, stale()).await;
    let source = Source::open();
    read(&one, &source).await.unwrap();
    one.set("ak", 1_u32).tag("k").await;
    clock.settle().await;
    let record = larder_core::Key::from_canonical("t:%run");
    shared.set(&record, "run".into(), SetOptions::new()).await.unwrap();
    // A lease.
    source.close();
    clock.advance(SECOND * 11);
    assert!(read(&two, &source).await.unwrap().stale);
    clock.settle().await;
    assert_eq!(one.keys("*k", 10).await.unwrap(), [one.key("ak"), one.key("k")]);
    one.delete_pattern("*n").await.unwrap();
    assert!(shared.get(&record).await.unwrap().is_some());
}

#[larder::test]
async fn clearing_a_cache_without_a_remote_tier_leaves_counters(cache: Cache) {
    cache.increment("c", 1).await.unwrap();
    cache.prefix("p").increment("c", 1).await.unwrap();
    cache.prefix("p").clear().await.unwrap();
    cache.clear().await.unwrap();
    cache.invalidate().everything().await.unwrap();
    assert_eq!(cache.counter("c").await.unwrap(), Some(1));
    assert_eq!(cache.prefix("p").counter("c").await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_region_that_keeps_nothing_near_stores_nothing_where_there_is_no_remote_tier() {
    let cache = Cache::in_memory();
    let strategy = Strategy::new("r", SECOND * 10).tiers(Tiers::Remote);
    let region = cache.region::<str, u32>("r").strategy(strategy).build().unwrap();
    assert!(!region.set("k", 1).await);
    assert_eq!(region.get("k").await, None);
    assert_eq!(region.ttl("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_disabled_cache_holds_nothing() {
    let cache = Cache::in_memory();
    cache.set("k", 1_u32).await;
    cache.set_enabled(false);
    assert!(!cache.exists("k").await);
    assert_eq!(cache.ttl("k").await, None);
}

// Tiers.

#[tokio::test]
async fn a_load_that_could_not_ask_the_remote_tier_once_is_kept_for_the_blind_ttl() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (one, backend) = ailing(&clock, &shared, stale()).await;
    let two = process(&clock, &shared).await;
    one.get_or_load("other", || async { Ok::<_, ()>(0_u32) }).await.unwrap();
    clock.settle().await;
    backend.set_for(Operation::GetOrSet, Fault::Fail(larder::ErrorKind::Timeout));
    one.get_or_load("k", || async { Ok::<_, ()>(1_u32) }).await.unwrap();
    clock.settle().await;
    backend.heal();
    assert!(two.set("k", 2_u32).await);
    clock.advance_and_settle(SECOND * 2).await;
    assert_eq!(one.get("k").await, Some(Arc::new(2_u32)));
}

#[tokio::test]
async fn calls_through_handles_that_use_other_tiers_share_no_load() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let cache = process(&clock, &shared).await;
    let strategy = Strategy::new("r", SECOND * 10).tiers(Tiers::Near);
    let region = cache.region::<str, u32>("r").strategy(strategy).build().unwrap();
    let (first, second) = (Source::gated(), Source::gated());
    let run = first.clone();
    let by_region = tokio::spawn(async move { region.get_or_load("k", move || run.run()).await });
    clock.settle().await;
    let (own, run) = (cache.clone(), second.clone());
    let by_text = tokio::spawn(async move { own.get_or_load("r:k", move || run.run()).await });
    clock.settle().await;
    second.admit(1);
    clock.settle().await;
    first.admit(1);
    by_text.await.unwrap().unwrap();
    by_region.await.unwrap().unwrap();
    clock.settle().await;
    assert!(shared.get(&cache.key("r:k")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_batch_that_waits_for_some_keys_does_not_lose_the_others() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let [one, two] = processes_on(&clock, &shared, stale().lease(Lease::Wait { bound: SECOND * 10 })).await;
    let (released, held, own) = (Source::gated(), Source::gated(), Source::open());
    released.set_broken(true);
    let single = |key: u32, source: &Source| {
        let (cache, run) = (one.clone(), source.clone());
        tokio::spawn(async move { cache.get_or_load(key, move || run.run()).await })
    };
    let (first, second) = (single(1, &released), single(2, &held));
    clock.settle().await;
    let run = own.clone();
    let batch = tokio::spawn(async move { two.get_or_load_many([1_u32, 2], move |missing| run.many(missing)).await });
    clock.advance_and_settle(SECOND).await;
    // The other process gives the first key up, and goes on with the second.
    released.admit(1);
    first.await.unwrap().unwrap_err();
    clock.advance_and_settle(SECOND * 5).await;
    assert_eq!(own.asked(), [[1]]);
    held.admit(1);
    second.await.unwrap().unwrap();
    clock.advance_and_settle(SECOND).await;
    let answers = batch.await.unwrap();
    assert_eq!(answers[0].as_ref().unwrap().as_deref(), Some(&10));
    assert_eq!(answers[1].as_ref().unwrap().as_deref(), Some(&0));
    clock.settle().await;
    assert_eq!(one.get(1_u32).await, Some(Arc::new(10_u32)));
}

#[tokio::test]
async fn an_entry_is_as_old_as_it_is_although_this_process_is_younger() {
    let clock = ManualClock::new();
    let wall = SystemClock::new().wall();
    clock.set_wall(larder_core::UnixMillis(wall.0 - 3_600_000));
    let shared = store(&clock);
    let one = process(&clock, &shared).await;
    let load = |cache: &Cache| {
        let cache = cache.clone();
        async move { cache.get_or_load("k", || async { Ok::<_, ()>(1_u32) }).ttl(SECOND * 7200).outcome().await.unwrap() }
    };
    load(&one).await;
    clock.settle().await;
    let young = Cache::builder().namespace("t").backend(shared).blind_ttl(SECOND * 60).build().await.unwrap();
    for source in [From::Remote, From::Near] {
        let outcome = load(&young).await;
        assert_eq!(outcome.source, source);
        assert!(outcome.age >= SECOND * 3500, "{outcome:?}");
    }
}

// Values.

/// Cannot be written down.
#[derive(Debug, serde::Deserialize)]
struct Unwritable;

impl serde::Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("no way to write this")
    }
}

#[tokio::test]
async fn a_value_whose_encoding_panics_is_returned_all_the_same() {
    let clock = ManualClock::new();
    let cache = process(&clock, &store(&clock)).await;
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let load = cache.get_or_load("k", move || async move {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok::<_, ()>(Unwritable)
    });
    load.await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refresh_that_finds_that_there_is_no_value_any_more_ends_the_old_one() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let [remote] = processes_on(&clock, &shared, stale()).await;
    for (name, cache) in [("near", near(&clock, stale()).await), ("remote", remote)] {
        let load = |value: Option<u32>| cache.get_or_load_optional("k", move || async move { Ok::<_, ()>(value) });
        load(Some(1)).await.unwrap();
        clock.settle().await;
        clock.advance(SECOND * 11);
        load(None).await.unwrap();
        clock.settle().await;
        assert_eq!(load(None).await.unwrap(), None, "{name}");
    }
}

#[tokio::test]
async fn a_ttl_of_zero_stores_no_absence_and_no_error_either() {
    let clock = ManualClock::new();
    let strategy = Strategy::new("r", SECOND * 10).cache_none(Some(SECOND * 5)).negative_ttl(Some(SECOND * 5));
    let cache = near(&clock, strategy).await;
    let source = Source::open();
    for expected in 1..=2 {
        let run = source.clone();
        let answers = cache.get_or_load_many([200_u32], move |missing| run.many(missing)).ttl(Duration::ZERO).await;
        assert_eq!(answers[0].as_ref().unwrap(), &None);
        assert_eq!(source.runs(), expected);
    }
    source.set_broken(true);
    let run = source.clone();
    cache.get_or_load("k", move || run.run()).ttl(Duration::ZERO).await.unwrap_err();
    source.set_broken(false);
    assert!(read(&cache, &source).await.is_ok());
}

#[tokio::test]
async fn a_load_does_not_lose_its_token_by_a_renewal_that_was_not_answered() {
    for fault in [Fault::Hold, Fault::Fail(larder::ErrorKind::Timeout)] {
        let clock = ManualClock::new();
        let shared = store(&clock);
        let (cache, backend) = ailing(&clock, &shared, Strategy::new("r", SECOND * 100)).await;
        let source = Source::gated();
        let caller = reading(&cache, &source);
        clock.settle().await;
        backend.set_for(Operation::CompareAndSet, fault);
        // It is renewed every second.
        clock.advance_and_settle(SECOND).await;
        assert_eq!(backend.calls_of(Operation::CompareAndSet), 1);
        if fault != Fault::Hold {
            backend.heal();
        }
        source.admit(1);
        caller.await.unwrap().unwrap();
        backend.heal();
        clock.settle().await;
        let stored = shared.get(&cache.key("k")).await.unwrap().expect("what was loaded");
        let (header, _) = larder_core::envelope::Header::decode(&stored).unwrap();
        assert_eq!(header.kind, larder_core::envelope::Kind::Value, "{fault:?}");
    }
}

static SOFT: Site = Site::new(|| SiteSpec {
    module: "reads",
    function: "soft",
    region: None,
    strategy: Strategy::new("soft", SECOND * 10).jitter(0.0).stale_window(SECOND * 60).soft_timeout(Some(SECOND)),
    key: KeyStyle::Function,
    near_only: true,
});

#[larder::test]
async fn a_soft_time_out_holds_for_functions_that_could_not_tell_a_hard_one(cache: Cache, clock: ManualClock) {
    let source = Source::open();
    let call = || {
        let (cache, run) = (cache.clone(), source.clone());
        tokio::spawn(async move {
            let Lookup::Miss(miss) = lookup::<u32>(&SOFT, Some(&cache), false, |key| key.push_raw("k")) else {
                panic!("nothing fresh stands there");
            };
            let load =
                miss.patient(true).load_near(Vec::new(), move || async move { run.run().await.map(Loaded::new) });
            load.await.unwrap().value.unwrap()
        })
    };
    assert_eq!(*call().await.unwrap(), 0);
    source.close();
    clock.advance(SECOND * 11);
    let caller = call();
    clock.advance_and_settle(SECOND).await;
    assert!(caller.is_finished());
    assert_eq!(*caller.await.unwrap(), 0);
}

#[tokio::test]
async fn an_update_that_ends_while_its_hold_is_renewed_is_done() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (cache, backend) = ailing(&clock, &shared, Strategy::new("r", SECOND * 100)).await;
    let source = Source::gated();
    let (own, run) = (cache.clone(), source.clone());
    let update = tokio::spawn(async move { own.update().key("k").run(|| run.run()).await.unwrap().invalidated });
    clock.settle().await;
    backend.set_for(Operation::CompareAndSet, Fault::Hold);
    clock.advance_and_settle(SECOND * 10 / 3).await;
    assert_eq!(backend.stuck(), 1);
    source.admit(1);
    clock.settle().await;
    backend.heal();
    assert_eq!(update.await.unwrap().unwrap().status, larder::Status::Done);
    assert_eq!(shared.get(&cache.key("k")).await.unwrap(), None);
}

#[tokio::test]
async fn writes_that_are_given_up_leave_nothing_older_near() {
    let clock = ManualClock::new();
    let (cache, backend) = ailing(&clock, &store(&clock), Strategy::new("r", SECOND * 100)).await;
    cache.set("k", 1_u32).await;
    // The versions of their markers cannot be read.
    backend.set_for(Operation::GetMany, Fault::Fail(larder::ErrorKind::Timeout));
    backend.set_for(Operation::GetOrSet, Fault::Fail(larder::ErrorKind::Timeout));
    cache.try_set_many([("k", 2_u32)], None).await.unwrap_err();
    backend.heal();
    assert_eq!(cache.get::<_, u32>("k").await, None);
}

#[tokio::test]
async fn a_forced_refresh_knows_what_it_replaces_where_nothing_is_kept_near() {
    let clock = ManualClock::new();
    let strategy = stale().tiers(Tiers::Remote).fail_safe(Some(FailSafe::new(SECOND * 60)));
    let [cache] = processes(&clock, strategy).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    clock.settle().await;
    let before = Arc::new(Mutex::new(Vec::new()));
    for fails in [false, true] {
        clock.advance(SECOND * 5);
        let noted = Arc::clone(&before);
        let load = cache.get_or_revalidate("k", move |previous: Option<Previous<u32>>| async move {
            noted.lock().push(previous.as_ref().map(|previous| *previous.value));
            if fails { Err("down") } else { Ok(previous.unwrap().not_modified()) }
        });
        let outcome = load.force_refresh().outcome().await.unwrap();
        assert_eq!((*outcome.value, outcome.stale), (0, fails));
        clock.settle().await;
    }
    assert_eq!(*before.lock(), [Some(0), Some(0)]);
    // It failed for who forced it: the others are served what is fresh.
    let outcome = read(&cache, &source).await.unwrap();
    assert_eq!((*outcome.value, outcome.stale, outcome.source), (0, false, From::Remote));
    let batch = cache.get_or_load_many(["k"], |_: Vec<&str>| async { Err::<HashMap<&str, u32>, _>("down") });
    assert_eq!(batch.force_refresh().await[0].as_ref().unwrap().as_deref(), Some(&0));
}

#[tokio::test]
async fn a_forced_refresh_waits_for_no_load_that_began_before_it() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let [one, two] = processes_on(&clock, &shared, stale()).await;
    for (key, other) in [("here", &two), ("elsewhere", &one)] {
        let (older, newer) = (Source::gated(), Source::open());
        let (own, run) = (other.clone(), older.clone());
        let waiting = tokio::spawn(async move { own.get_or_load(key, move || run.run()).await });
        clock.settle().await;
        let (own, run) = (two.clone(), newer.clone());
        let load = move || async move { run.run().await.map(|number| number + 100) };
        let forced = tokio::spawn(async move { own.get_or_load(key, load).force_refresh().await });
        clock.settle().await;
        assert!(forced.is_finished(), "{key}");
        assert_eq!(*forced.await.unwrap().unwrap(), 100, "{key}");
        clock.settle().await;
        older.admit(1);
        assert_eq!(*waiting.await.unwrap().unwrap(), 0, "{key}");
        clock.settle().await;
        clock.advance(SECOND * 2);
        for cache in [&one, &two] {
            assert_eq!(cache.get(key).await, Some(Arc::new(100_u32)), "{key}");
        }
    }
}

#[tokio::test]
async fn nobody_waits_for_a_load_that_is_not_to_be_stored() {
    let clock = ManualClock::new();
    let [one, two] = processes(&clock, stale()).await;
    let (unstored, source) = (Source::gated(), Source::open());
    let (own, run) = (one.clone(), unstored.clone());
    let call = tokio::spawn(async move { own.get_or_load("k", move || run.run()).no_store().await });
    clock.settle().await;
    let reader = reading(&two, &source);
    clock.settle().await;
    assert!(reader.is_finished());
    reader.await.unwrap().unwrap();
    let run = unstored.clone();
    let batch = tokio::spawn(async move { one.get_or_load_many([7_u32], move |keys| run.many(keys)).no_store().await });
    clock.settle().await;
    let run = source.clone();
    let reader = tokio::spawn(async move { two.get_or_load_many([7_u32], move |keys| run.many(keys)).await });
    clock.settle().await;
    assert!(reader.is_finished());
    unstored.admit(2);
    call.await.unwrap().unwrap();
    assert!(batch.await.unwrap()[0].is_ok());
}

#[tokio::test]
async fn a_call_that_takes_a_stale_value_does_not_wait_for_who_leads_where_nothing_is_kept_near() {
    let clock = ManualClock::new();
    let [cache] = processes(&clock, stale().tiers(Tiers::Remote).soft_timeout(Some(SECOND / 2))).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    clock.settle().await;
    source.close();
    clock.advance(SECOND * 11);
    let first = reading(&cache, &source);
    clock.settle().await;
    assert!(!first.is_finished());
    let (own, run) = (cache.clone(), source.clone());
    let second = tokio::spawn(async move { own.get_or_load("k", move || run.run()).allow_stale().outcome().await });
    clock.settle().await;
    assert!(second.is_finished());
    assert!(second.await.unwrap().unwrap().stale);
    clock.advance_and_settle(SECOND / 2).await;
    assert!(first.await.unwrap().unwrap().stale);
}

#[tokio::test]
async fn a_remote_tier_may_take_for_ever() {
    let clock = ManualClock::new();
    let strategy = Strategy::new("r", SECOND).remote_deadline(Duration::MAX);
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(store(&clock));
    let cache = builder.strategy(strategy).build().await.unwrap();
    let source = Source::open();
    assert_eq!(*read(&cache, &source).await.unwrap().value, 0);
    clock.settle().await;
    assert_eq!(cache.get("k").await, Some(Arc::new(0_u32)));
}

#[tokio::test]
async fn what_is_served_in_the_end_is_as_old_as_it_is_then() {
    let clock = ManualClock::new();
    let [remote] = processes(&clock, stale().tiers(Tiers::Remote).soft_timeout(Some(SECOND))).await;
    for cache in [near(&clock, stale().soft_timeout(Some(SECOND))).await, remote] {
        let source = Source::open();
        read(&cache, &source).await.unwrap();
        clock.settle().await;
        source.close();
        clock.advance(SECOND * 11);
        let caller = reading(&cache, &source);
        clock.advance_and_settle(SECOND).await;
        let outcome = caller.await.unwrap().unwrap();
        assert_eq!((outcome.stale, outcome.age), (true, SECOND * 12));
    }
}

#[tokio::test]
async fn a_load_whose_token_was_removed_is_not_kept_near_either() {
    let clock = ManualClock::new();
    let shared = Arc::new(ModelBackend::new(Arc::new(clock.clone())));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(shared.clone());
    let cache = builder.build().await.unwrap();
    clock.settle().await;
    let source = Source::gated();
    let caller = reading(&cache, &source);
    clock.settle().await;
    // By somebody who tells nobody.
    assert!(shared.delete(&cache.key("k")).await.unwrap());
    source.admit(1);
    assert_eq!(*caller.await.unwrap().unwrap().value, 0);
    clock.settle().await;
    assert_eq!(cache.get::<_, u32>("k").await, None);
}

#[tokio::test]
async fn what_is_being_loaded_or_updated_is_not_listed() {
    let clock = ManualClock::new();
    let [one, two] = processes(&clock, stale()).await;
    two.set("kept", 1_u32).await;
    two.set("k-short", 1_u32).ttl(SECOND).await;
    let source = Source::gated();
    let _loading = reading(&one, &source);
    let (own, run) = (one.clone(), source.clone());
    let _updating = tokio::spawn(async move { own.update().key("k-held").run(|| run.run()).await.map(|_| ()) });
    clock.settle().await;
    assert_eq!(source.runs(), 2);
    assert_eq!(two.keys("k*", 10).await.unwrap(), [two.key("k-short"), two.key("kept")]);
}
