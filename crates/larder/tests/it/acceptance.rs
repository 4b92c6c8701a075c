//! What a read must hold to, in the order of the list of behaviours. Those that are not here stand beside the tests of the
//! same subject: time-outs, leases, loads, stale values, tiers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use larder::{
    Cache, ErrorKind, LoadError, Loaded, ManualClock, Source as From, Strategy, cached,
    strategy::{EarlyRefresh, FailSafe, Tiers},
};
use larder_core::BackendExt;
use larder_testing::{Fault, FaultyBackend, Operation};

use crate::{
    source::{Source, near, processes, processes_on, read, reading},
    store,
};

const SECOND: Duration = Duration::from_secs(1);

fn early() -> Strategy {
    Strategy::new("r", SECOND * 10).early_refresh(EarlyRefresh::Share(0.5))
}

#[tokio::test]
async fn who_comes_after_an_entry_has_expired_joins_the_early_refresh_that_is_running() {
    let clock = ManualClock::new();
    let cache = near(&clock, early()).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    source.close();
    clock.advance(SECOND * 6);
    assert_eq!(*read(&cache, &source).await.unwrap().value, 0);
    clock.settle().await;
    clock.advance(SECOND * 5);
    let caller = reading(&cache, &source);
    clock.settle().await;
    assert!(!caller.is_finished());
    source.admit(1);
    assert_eq!(*caller.await.unwrap().unwrap().value, 1);
    assert_eq!(source.runs(), 2);
}

#[tokio::test]
async fn an_early_refresh_is_completed_and_stored_although_its_caller_went_away() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let [cache, other] = processes_on(&clock, &shared, early()).await;
    let source = Source::open();
    let region = |cache: &Cache| cache.region::<str, u32>("r").build().unwrap();
    let (own, run) = (region(&cache), source.clone());
    own.get_or_load("k", move || run.run()).await.unwrap();
    clock.settle().await;
    source.close();
    // The near copy has gone with the blind TTL; the next read promotes the entry, when it is due.
    clock.advance(SECOND * 6);
    assert_eq!(own.get("k").await, Some(Arc::new(0)));
    let (caller, run) = (own.clone(), source.clone());
    let reader = tokio::spawn(async move { caller.get_or_load("k", move || run.run()).await.map(|value| *value) });
    clock.settle().await;
    assert_eq!(reader.await.unwrap().unwrap(), 0);
    assert_eq!(source.runs(), 2);
    source.admit(1);
    clock.settle().await;
    assert_eq!(region(&other).get("k").await, Some(Arc::new(1)));
}

#[tokio::test]
async fn an_early_refresh_may_bring_other_tags_and_only_those_count() {
    let clock = ManualClock::new();
    let cache = near(&clock, early()).await;
    let load = |value: u32, tag: &'static str| {
        let loader = move || async move { Ok::<_, ()>(Loaded::new(value).tag(tag)) };
        cache.get_or_load_with("k", loader)
    };
    load(1, "old").await.unwrap();
    clock.advance(SECOND * 6);
    load(2, "new").await.unwrap();
    clock.settle().await;
    cache.invalidate().tag("old").await.unwrap();
    assert_eq!(cache.get("k").await, Some(Arc::new(2_u32)));
    cache.invalidate().tag("new").await.unwrap();
    assert_eq!(cache.get::<_, u32>("k").await, None);
}

#[tokio::test]
async fn a_refresh_that_fails_or_panics_leaves_the_stale_value_for_as_long_as_it_lives() {
    let clock = ManualClock::new();
    let cache = near(&clock, Strategy::new("r", SECOND * 10).stale_window(SECOND * 20)).await;
    let runs = Arc::new(AtomicU32::new(0));
    let load = |panics: bool| {
        let runs = Arc::clone(&runs);
        cache.get_or_load("k", move || async move {
            match (runs.fetch_add(1, Ordering::SeqCst), panics) {
                (0, _) => Ok(1_u32),
                (_, true) => panic!("boom"),
                _ => Err("down"),
            }
        })
    };
    load(false).await.unwrap();
    clock.advance(SECOND * 11);
    for panics in [false, true] {
        assert!(load(panics).outcome().await.unwrap().stale);
        clock.settle().await;
        // Without fail-safe too the source is left alone for a moment.
        assert!(load(panics).outcome().await.unwrap().stale);
        clock.settle().await;
        clock.advance(SECOND);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    clock.advance(SECOND * 20);
    assert!(matches!(load(false).await, Err(LoadError::Loader(_))));
}

#[tokio::test]
async fn what_the_loader_says_about_storing_counts_for_refreshes_too() {
    let clock = ManualClock::new();
    let cache = near(&clock, Strategy::new("r", SECOND * 10).stale_window(SECOND * 100)).await;
    let load = |loaded: Loaded<u32>| cache.get_or_load_with("k", || async { Ok::<_, ()>(loaded) }).tag("call");
    load(Loaded::new(1)).await.unwrap();
    clock.advance(SECOND * 11);
    load(Loaded::new(2).ttl(SECOND * 3).tag("late")).await.unwrap();
    clock.settle().await;
    let fresh = load(Loaded::new(3)).outcome().await.unwrap();
    assert_eq!((*fresh.value, fresh.stale), (2, false));
    clock.advance(SECOND * 4);
    let stale = load(Loaded::new(4).do_not_store()).outcome().await.unwrap();
    assert_eq!((*stale.value, stale.stale), (2, true));
    clock.settle().await;
    assert_eq!(cache.get("k").await, Some(Arc::new(2_u32)));
    cache.invalidate().tag("late").await.unwrap();
    assert_eq!(cache.get::<_, u32>("k").await, None);
    // The call's own options are as they were.
    load(Loaded::new(5)).await.unwrap();
    clock.advance(SECOND * 9);
    assert!(!load(Loaded::new(6)).outcome().await.unwrap().stale);
    cache.invalidate().tag("call").await.unwrap();
    assert_eq!(cache.get::<_, u32>("k").await, None);
}

#[tokio::test]
async fn durations_at_their_limits_mean_what_they_say() {
    let clock = ManualClock::new();
    let endless = Strategy::new("r", Duration::MAX).stale_window(Duration::MAX).early_refresh(EarlyRefresh::Share(0.5));
    let cache = near(&clock, endless.soft_timeout(None).hard_timeout(Duration::MAX).max_load(Duration::MAX)).await;
    let load = |key: &'static str, ttl: Duration| cache.get_or_load(key, || async { Ok::<_, ()>(1_u32) }).ttl(ttl);
    for (key, ttl) in [("zero", Duration::ZERO), ("tiny", Duration::from_nanos(1)), ("endless", Duration::MAX)] {
        load(key, ttl).await.unwrap();
    }
    assert_eq!(cache.get::<_, u32>("zero").await, None);
    clock.advance(SECOND * 1_000_000_000);
    assert_eq!(load("endless", SECOND).outcome().await.unwrap().source, From::Near);
    let short = Strategy::new("r", Duration::from_nanos(1)).early_refresh(EarlyRefresh::XFetch { beta: 1e300 });
    let cache = near(&clock, short.hard_timeout(Duration::from_nanos(1))).await;
    cache.get_or_load("k", || async { Ok::<_, ()>(1_u32) }).deadline(Duration::ZERO).await.unwrap_err();
}

#[tokio::test]
async fn callers_during_a_refresh_get_the_stale_value_at_once_in_the_remote_tier_alone_too() {
    let clock = ManualClock::new();
    let strategy = Strategy::new("r", SECOND * 10).stale_window(SECOND * 60).tiers(Tiers::Remote);
    let [cache] = processes(&clock, strategy).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    clock.settle().await;
    source.close();
    clock.advance(SECOND * 11);
    for _ in 0..3 {
        let outcome = reading(&cache, &source).await.unwrap().unwrap();
        assert_eq!((*outcome.value, outcome.stale), (0, true));
        clock.settle().await;
    }
    assert_eq!(source.runs(), 2);
    // An invalidation ends it: who comes now waits for a load that begins after it.
    cache.delete("k").await;
    let caller = reading(&cache, &source);
    clock.settle().await;
    assert!(!caller.is_finished());
    source.admit(2);
    assert_eq!(*caller.await.unwrap().unwrap().value, 2);
    assert_eq!(*read(&cache, &source).await.unwrap().value, 2);
}

#[tokio::test]
async fn a_value_that_is_written_again_as_it_was_still_fences_older_loads() {
    let clock = ManualClock::new();
    let [one, two] = processes(&clock, Strategy::new("r", SECOND * 10)).await;
    one.set("k", 5_u32).await;
    for writer in [&one, &two] {
        let source = Source::gated();
        let (own, run) = (one.clone(), source.clone());
        let load = tokio::spawn(async move { own.get_or_load("k", move || run.run()).force_refresh().await });
        clock.settle().await;
        writer.delete("k").await;
        writer.set("k", 5_u32).await;
        source.admit(1);
        assert_eq!(*load.await.unwrap().unwrap(), 0);
        clock.settle().await;
        assert_eq!(two.get("k").await, Some(Arc::new(5_u32)));
        clock.advance(SECOND);
    }
}

#[tokio::test]
async fn options_within_values_survive_both_tiers_and_absence_is_cached_only_if_asked() {
    let clock = ManualClock::new();
    let [one, two] = processes(&clock, Strategy::new("r", SECOND * 10)).await;
    let loads = Arc::new(AtomicU32::new(0));
    for cache in [&one, &one, &two, &two] {
        let runs = Arc::clone(&loads);
        let load = cache.get_or_load_optional("some none", || async move {
            runs.fetch_add(1, Ordering::SeqCst);
            Ok::<_, ()>(Some(None::<u32>))
        });
        assert_eq!(load.await.unwrap(), Some(Arc::new(None)));
        let unit = cache.get_or_load_optional("unit", || async { Ok::<_, ()>(Some(())) });
        assert_eq!(unit.await.unwrap(), Some(Arc::new(())));
        clock.settle().await;
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert_eq!(two.get("some none").await, Some(Arc::new(None::<u32>)));
    assert_eq!((two.stats().near_hits, two.stats().remote_hits), (3, 2));
    for _ in 0..2 {
        let none = one.get_or_load_optional("none", || async { Ok::<Option<u32>, ()>(None) }).await;
        assert_eq!(none.unwrap(), None);
    }
    assert_eq!(one.stats().loads, 4);
}

#[tokio::test]
async fn followers_of_a_load_that_times_out_or_panics_are_told_and_the_next_call_loads() {
    let clock = ManualClock::new();
    let cache = near(&clock, Strategy::new("r", SECOND * 10).hard_timeout(SECOND * 5).max_load(SECOND * 6)).await;
    let source = Source::gated();
    let callers: Vec<_> = (0..3).map(|_| reading(&cache, &source)).collect();
    clock.advance_and_settle(SECOND * 5).await;
    for caller in callers {
        assert!(matches!(caller.await.unwrap(), Err(LoadError::TimedOut)));
    }
    // The load itself is ended by its own bound.
    clock.advance_and_settle(SECOND).await;
    assert_eq!(cache.stats().load_errors, 1);
    source.admit(1);
    assert_eq!(*read(&cache, &source).await.unwrap().value, 1);
}

#[tokio::test]
async fn two_loads_that_wait_for_each_other_end_by_the_hard_time_out() {
    let clock = ManualClock::new();
    let cache = near(&clock, Strategy::new("r", SECOND * 10)).await;
    let needs = |own: &'static str, other: &'static str| {
        let outer = cache.clone();
        let inner = cache.clone();
        tokio::spawn(async move {
            let loader = move || async move {
                tokio::task::yield_now().await;
                let other = inner.get_or_load(other, || async { Ok::<u32, String>(1) }).await;
                other.map(|value| *value).map_err(|error| error.to_string())
            };
            outer.get_or_load(own, loader).await
        })
    };
    let (one, two) = (needs("a", "b"), needs("b", "a"));
    clock.advance_and_settle(SECOND * 31).await;
    assert!(one.await.unwrap().is_err());
    assert!(two.await.unwrap().is_err());
}

#[tokio::test]
async fn an_expired_near_entry_is_not_revived_from_an_older_copy() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let ailing = Arc::new(FaultyBackend::new(shared.clone()));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(ailing.clone());
    let cache = builder.strategy(Strategy::new("r", SECOND * 10).jitter(0.0)).build().await.unwrap();
    cache.set("k", 1_u32).ttl(SECOND * 600).await;
    // The newer value reaches the near tier alone, since the remote one does not take it.
    ailing.set_for(Operation::CompareAndSet, Fault::Fail(ErrorKind::OutOfMemory));
    let refresh = cache.get_or_load("k", || async { Ok::<_, ()>(2_u32) }).force_refresh();
    assert_eq!(*refresh.await.unwrap(), 2);
    clock.settle().await;
    clock.advance(SECOND * 11);
    assert_eq!(shared.get(&cache.key("k")).await.unwrap(), None, "what could not be replaced is removed");
    let loaded = cache.get_or_load("k", || async { Ok::<_, ()>(3_u32) }).outcome().await.unwrap();
    assert_eq!((*loaded.value, loaded.source), (3, From::Loaded));
}

#[tokio::test]
async fn a_remote_tier_that_dies_during_a_load_costs_nobody_the_value() {
    let clock = ManualClock::new();
    let ailing = Arc::new(FaultyBackend::new(store(&clock)));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(ailing.clone());
    let cache = builder.build().await.unwrap();
    let source = Source::gated();
    let caller = reading(&cache, &source);
    clock.settle().await;
    ailing.fail(ErrorKind::Unavailable);
    source.admit(1);
    assert_eq!(*caller.await.unwrap().unwrap().value, 0);
    clock.settle().await;
    assert_eq!(read(&cache, &source).await.unwrap().source, From::Near);
}

#[tokio::test]
async fn a_call_that_skips_a_tier_or_stores_nothing_leaves_it_alone() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let counted = Arc::new(FaultyBackend::new(shared.clone()));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(counted.clone());
    let cache = builder.build().await.unwrap();
    clock.settle().await;
    counted.reset_calls();
    cache.get_or_load("near", || async { Ok::<_, ()>(1_u32) }).skip_remote().await.unwrap();
    assert_eq!(cache.get::<_, u32>("near").skip_remote().await, Some(Arc::new(1)));
    clock.settle().await;
    assert_eq!(counted.calls(), 0);
    cache.get_or_load("remote", || async { Ok::<_, ()>(1_u32) }).skip_near().await.unwrap();
    clock.settle().await;
    assert!(shared.get(&cache.key("remote")).await.unwrap().is_some());
    assert_eq!(cache.get::<_, u32>("remote").skip_remote().await, None);
    for expected in 0..2 {
        let nothing = cache.get_or_load("no store", move || async move { Ok::<_, ()>(expected) }).no_store();
        assert_eq!(*nothing.await.unwrap(), expected);
        clock.settle().await;
        assert_eq!(shared.get(&cache.key("no store")).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_load_can_ask_its_source_whether_the_value_has_changed() {
    let clock = ManualClock::new();
    let [cache, other] = processes(&clock, Strategy::new("r", SECOND * 10).stale_window(SECOND * 60)).await;
    let load = |cache: &Cache| {
        let loader = |previous: Option<larder::Previous<u32>>| async move {
            Ok::<_, ()>(match previous {
                None => Loaded::new(1).tag("late"),
                Some(previous) => {
                    assert_eq!((*previous.value, previous.age), (1, SECOND * 11));
                    previous.not_modified()
                }
            })
        };
        let cache = cache.clone();
        async move { cache.get_or_revalidate("k", loader).tag("call").outcome().await.unwrap() }
    };
    load(&cache).await;
    clock.settle().await;
    clock.advance(SECOND * 11);
    assert!(load(&cache).await.stale);
    clock.settle().await;
    let again = load(&cache).await;
    assert_eq!((*again.value, again.stale), (1, false));
    assert_eq!(other.get("k").await, Some(Arc::new(1_u32)));
    // It has kept the tags that an earlier load named.
    cache.invalidate().tag("late").await.unwrap();
    clock.advance(SECOND);
    assert_eq!(cache.get::<_, u32>("k").await, None);
    assert_eq!(other.get::<_, u32>("k").await, None);
}

#[tokio::test]
async fn many_reads_of_one_key_share_a_round_trip() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let counted = Arc::new(FaultyBackend::new(shared.clone()));
    let [writer] = processes_on(&clock, &shared, Strategy::new("r", SECOND * 10)).await;
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(counted.clone());
    let cache = builder.build().await.unwrap();
    writer.set("k", 5_u32).await;
    clock.settle().await;
    counted.reset_calls();
    counted.set_for(Operation::GetMany, Fault::Hold);
    let read = |key: &'static str| {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get::<_, u32>(key).await })
    };
    let readers: Vec<_> = (0..100).flat_map(|_| [read("k"), read("absent")]).collect();
    clock.settle().await;
    counted.heal();
    let mut found = 0;
    for reader in readers {
        found += reader.await.unwrap().map_or(0, |value| *value);
    }
    assert_eq!((found, counted.calls_of(Operation::GetMany)), (500, 2));
    assert_eq!((cache.stats().remote_hits, cache.stats().misses), (100, 100));
}

static OPTIONAL: AtomicU32 = AtomicU32::new(0);

#[cached(key = "shared:{id}", cache_none = "10s")]
async fn maybe(id: u32) -> Option<u32> {
    OPTIONAL.fetch_add(1, Ordering::SeqCst);
    (id > 10).then_some(id)
}

#[cached(key = "shared:{id}")]
async fn always(id: u32) -> u32 {
    id * 100
}

#[cached(near, key = "plain:{id}", cache_none = "10s")]
fn maybe_plain(id: u32) -> Option<u32> {
    (id > 10).then_some(id)
}

#[cached(near, key = "plain:{id}")]
fn always_plain(id: u32) -> u32 {
    id * 100
}

#[larder::test]
async fn a_function_that_always_has_a_value_is_not_answered_with_anothers_absence() {
    assert_eq!(maybe(1).await, None);
    assert_eq!(always(1).await, 100);
    assert_eq!(maybe(1).await, Some(100));
    assert_eq!(OPTIONAL.load(Ordering::SeqCst), 1);
    assert_eq!(maybe_plain(1), None);
    assert_eq!(always_plain(1), 100);
}

static FAILING: AtomicU32 = AtomicU32::new(0);

/// An error that one caller only can have.
#[derive(Debug)]
struct Alone;

#[cached]
async fn fails_slowly() -> Result<u8, Alone> {
    FAILING.fetch_add(1, Ordering::SeqCst);
    larder::current().get_or_load("pause", std::future::pending::<Result<u8, ()>>).deadline(SECOND).await.ok();
    Err(Alone)
}

#[larder::test]
async fn callers_of_a_function_that_goes_on_failing_wait_for_few_loads_in_a_row(cache: Cache, clock: ManualClock) {
    let callers: Vec<_> = (0..20)
        .map(|_| tokio::spawn(larder::with_cache(cache.clone(), async { fails_slowly().await.unwrap_err() })))
        .collect();
    clock.advance_and_settle(SECOND * 3).await;
    for caller in callers {
        assert!(caller.is_finished());
        caller.await.unwrap();
    }
    assert_eq!(FAILING.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn fail_safe_serves_a_plain_functions_stale_value() {
    #[cached(ttl = "10s", stale = "20s", jitter = 0.0, key = "safe")]
    fn safe() -> Result<u32, String> {
        match FIRST.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(1),
            _ => Err("down".to_owned()),
        }
    }
    static FIRST: AtomicU32 = AtomicU32::new(0);
    let clock = ManualClock::new();
    let strategy = Strategy::new("r", SECOND * 10).fail_safe(Some(FailSafe::new(SECOND))).stale_window(SECOND);
    let cache = near(&clock, strategy).await;
    let own = clock.clone();
    larder::with_cache(cache, async move {
        assert_eq!(safe(), Ok(1));
        own.advance(SECOND * 11);
        assert_eq!((safe(), safe()), (Ok(1), Ok(1)));
        assert_eq!(FIRST.load(Ordering::SeqCst), 2);
        own.advance(SECOND * 20);
        assert_eq!(safe(), Err("down".to_owned()));
    })
    .await;
}
