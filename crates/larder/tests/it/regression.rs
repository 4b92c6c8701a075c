//! One test for each defect that was found after the fact.

use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use larder::{
    __private::{KeyStyle, Lookup, Miss, Site, SiteSpec, lookup},
    Cache, LoadError, Loaded, ManualClock, Source, Strategy,
    strategy::{FailSafe, Tiers},
};
use larder_core::{BackendExt, Tag};
use larder_testing::{Fault, FaultyBackend, ModelBackend, Operation};
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::{process, store};

const SECOND: Duration = Duration::from_secs(1);

type Gate = Arc<Semaphore>;

fn gate() -> Gate {
    Arc::new(Semaphore::new(0))
}

/// Loads `value` under the key `k` once the gate opens; the loader names `late` as a tag.
fn gated(
    cache: &Cache,
    gate: &Gate,
    value: u32,
    early: Option<&'static str>,
    late: Option<&'static str>,
) -> JoinHandle<u32> {
    let (cache, gate) = (cache.clone(), Arc::clone(gate));
    tokio::spawn(async move {
        let loader = move || async move {
            gate.acquire().await.unwrap().forget();
            let loaded = Loaded::new(value);
            Ok::<_, ()>(match late {
                Some(late) => loaded.tag(late),
                None => loaded,
            })
        };
        *cache.get_or_load_with("k", loader).tags(early).await.unwrap()
    })
}

#[larder::test]
async fn who_comes_after_a_tag_was_invalidated_does_not_get_the_older_load(cache: Cache, clock: ManualClock) {
    for (early, late) in [(Some("t"), None), (None, Some("t"))] {
        let (first, second) = (gate(), gate());
        let old = gated(&cache, &first, 1, early, late);
        clock.settle().await;
        cache.invalidate().tag("t").await.unwrap();
        let new = gated(&cache, &second, 2, early, late);
        clock.settle().await;
        first.add_permits(1);
        clock.settle().await;
        second.add_permits(1);
        assert_eq!(old.await.unwrap(), 1);
        assert_eq!(new.await.unwrap(), 2);
        assert_eq!(cache.get("k").await, Some(Arc::new(2_u32)));
        cache.delete("k").await;
    }
}

#[larder::test]
async fn another_tag_does_not_break_up_a_flight(cache: Cache, clock: ManualClock) {
    let first = gate();
    let old = gated(&cache, &first, 1, Some("t"), None);
    clock.settle().await;
    cache.invalidate().tag("other").await.unwrap();
    let new = gated(&cache, &gate(), 2, Some("t"), None);
    clock.settle().await;
    first.add_permits(1);
    assert_eq!((old.await.unwrap(), new.await.unwrap()), (1, 1));
    assert_eq!(cache.stats().coalesced, 1);
}

async fn remembering_absence(clock: &ManualClock, shared: &Arc<larder_memory::MemoryBackend>) -> Cache {
    let strategy = Strategy::new("r", SECOND * 10).cache_none(Some(SECOND * 10)).jitter(0.0);
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(shared.clone());
    builder.strategy(strategy).build().await.unwrap()
}

#[tokio::test]
async fn a_remembered_absence_is_no_answer_to_a_load_that_always_has_a_value() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (one, two) = (remembering_absence(&clock, &shared).await, remembering_absence(&clock, &shared).await);
    for key in ["near", "remote", "inline"] {
        assert_eq!(one.get_or_load_optional(key, || async { Ok::<Option<u32>, ()>(None) }).await.unwrap(), None);
        clock.settle().await;
        assert_eq!(one.get::<_, u32>(key).await, None);
    }
    assert_eq!(*one.get_or_load("near", || async { Ok::<_, ()>(1_u32) }).await.unwrap(), 1);
    assert_eq!(one.get("near").await, Some(Arc::new(1_u32)));
    assert_eq!(*two.get_or_load("remote", || async { Ok::<_, ()>(2_u32) }).await.unwrap(), 2);
    assert_eq!(*one.get_or_load_inline("inline", || async { Ok::<_, ()>(3_u32) }).await.unwrap(), 3);
    clock.settle().await;
    assert_eq!(two.get("near").await, Some(Arc::new(1_u32)));
    assert_eq!(two.get("inline").await, Some(Arc::new(3_u32)));
}

#[larder::test]
async fn a_load_of_another_type_leaves_the_entry_alone(cache: Cache) {
    cache.set("k", 1_u32).await;
    let text = cache.get_or_load("k", || async { Ok::<_, ()>(String::from("text")) }).await.unwrap();
    assert_eq!(*text, "text");
    assert_eq!(cache.get("k").await, Some(Arc::new(1_u32)));
    let failed = cache.get_or_load("k", || async { Err::<String, _>("down") }).await;
    assert!(matches!(failed, Err(LoadError::Loader(_))));
    assert_eq!(cache.get("k").await, Some(Arc::new(1_u32)));
}

#[larder::test]
async fn fail_safe_serves_neither_another_type_nor_a_remembered_error(cache: Cache) {
    let strategy = Strategy::new("r", SECOND * 10)
        .stale_window(SECOND * 10)
        .fail_safe(Some(FailSafe::new(SECOND * 5)))
        .negative_ttl(Some(SECOND * 5));
    let numbers = cache.region::<str, u32>("r").strategy(strategy).build().unwrap();
    let texts = cache.region::<str, String>("r").build().unwrap();
    numbers.set("k", 1).await;
    let failed = texts.get_or_load("k", || async { Err::<String, _>("down") }).await;
    assert!(matches!(failed, Err(LoadError::Loader(_))), "{failed:?}");

    for _ in 0..2 {
        let failed = numbers.get_or_load("failed", || async { Err::<u32, _>("down") }).force_refresh().await;
        assert!(matches!(failed, Err(LoadError::Loader(_))), "{failed:?}");
    }
    let other = numbers.get_or_load("failed", || async { Ok::<_, u8>(2) }).await;
    assert!(matches!(other.as_deref(), Ok(2)), "{other:?}");
}

#[tokio::test]
async fn a_load_that_may_not_be_stored_gives_its_token_back() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (one, two) = (process(&clock, &shared).await, process(&clock, &shared).await);
    let open = gate();
    let caller = gated(&one, &open, 1, None, Some("late"));
    clock.settle().await;
    two.invalidate().tag("late").await.unwrap();
    open.add_permits(1);
    assert_eq!(caller.await.unwrap(), 1);
    clock.settle().await;
    assert_eq!(shared.get(&one.key("k")).await.unwrap(), None);
}

#[tokio::test]
async fn a_token_is_given_back_when_the_versions_of_tags_cannot_be_read() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let cache = process(&clock, &shared).await;
    let marker = Tag::from("t").marker("t:");
    shared.set(&marker, "not a version".into(), larder_core::SetOptions::new()).await.unwrap();
    let open = gate();
    open.add_permits(1);
    assert_eq!(gated(&cache, &open, 1, Some("t"), None).await.unwrap(), 1);
    clock.settle().await;
    assert_eq!(shared.get(&cache.key("k")).await.unwrap(), None);
}

#[larder::test]
async fn a_caller_is_coalesced_only_if_another_load_answered_it(cache: Cache, clock: ManualClock) {
    let closed = gate();
    let (first_cache, inside) = (cache.clone(), Arc::clone(&closed));
    let first = tokio::spawn(async move {
        let loader = || async move {
            inside.acquire().await.unwrap().forget();
            Ok::<_, ()>(1_u32)
        };
        first_cache.get_or_load_inline("k", loader).await
    });
    clock.settle().await;
    let open = gate();
    open.add_permits(1);
    let second = gated(&cache, &open, 2, None, None);
    clock.settle().await;
    first.abort();
    assert_eq!(second.await.unwrap(), 2);
    let stats = cache.stats();
    assert_eq!((stats.requests(), stats.misses, stats.loads, stats.coalesced), (1, 1, 1, 0));
}

#[tokio::test]
async fn fail_safe_counts_from_the_end_of_freshness_for_remote_entries_too() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let cache = process(&clock, &shared).await;
    let strategy = Strategy::new("r", SECOND * 10)
        .jitter(0.0)
        .tiers(Tiers::Remote)
        .stale_window(SECOND * 30)
        .fail_safe(Some(FailSafe::new(SECOND * 5)));
    let region = cache.region::<str, u32>("r").strategy(strategy).build().unwrap();
    region.get_or_load("k", || async { Ok::<_, ()>(1) }).await.unwrap();
    clock.settle().await;
    clock.advance(SECOND * 12);
    let open = gate();
    let read = |open: Gate| {
        let region = region.clone();
        tokio::spawn(async move {
            let loader = move || async move {
                open.acquire().await.unwrap().forget();
                Err::<u32, _>(())
            };
            region.get_or_load("k", loader).outcome().await
        })
    };
    let first = read(Arc::clone(&open)).await.unwrap().unwrap();
    assert_eq!((*first.value, first.stale, first.source), (1, true, Source::Remote));
    let second = read(Arc::clone(&open));
    clock.settle().await;
    open.add_permits(1);
    let second = second.await.unwrap().unwrap();
    assert_eq!((*second.value, second.stale), (1, true));
}

static PLAIN: Site = Site::new(|| SiteSpec {
    module: "regression",
    function: "plain",
    region: None,
    strategy: Strategy::new("plain", SECOND),
    key: KeyStyle::Function,
    near_only: true,
});

fn missed(cache: &Cache, key: &str) -> Miss {
    match lookup::<u32>(&PLAIN, Some(cache), false, |buffer| buffer.push_raw(key)) {
        Lookup::Miss(miss) => miss,
        other => panic!("{other:?}"),
    }
}

#[larder::test]
async fn a_plain_function_is_not_run_again_by_a_thread_that_looked_too_early(cache: Cache) {
    let runs = AtomicU32::new(0);
    let (one, two) = (missed(&cache, "k"), missed(&cache, "k"));
    for miss in [one, two] {
        let load = || Ok::<_, ()>(Loaded::new(runs.fetch_add(1, Ordering::SeqCst)));
        assert_eq!(miss.load_sync(Vec::new(), load).unwrap().value, Some(Arc::new(0)));
    }
    let stats = cache.stats();
    assert_eq!((stats.near_hits, stats.misses, stats.loads), (1, 1, 1));
}

#[larder::test]
async fn a_plain_function_does_not_wait_for_a_load_that_needs_its_thread(cache: Cache, clock: ManualClock) {
    let (slow, plain) = (missed(&cache, "k"), missed(&cache, "k"));
    let open = gate();
    let inside = Arc::clone(&open);
    let loading = tokio::spawn(slow.load(Vec::new(), move || async move {
        inside.acquire().await.unwrap().forget();
        Ok::<_, ()>(Loaded::new(1_u32))
    }));
    clock.settle().await;
    assert_eq!(plain.load_sync(Vec::new(), || Ok::<_, ()>(Loaded::new(2_u32))).unwrap().value, Some(Arc::new(2)));
    open.add_permits(1);
    assert_eq!(loading.await.unwrap().unwrap().value, Some(Arc::new(1)));
}

#[tokio::test]
async fn a_removal_whose_outcome_is_unknown_is_told_to_the_other_processes() {
    let clock = ManualClock::new();
    let shared = Arc::new(ModelBackend::new(Arc::new(clock.clone())));
    let ailing = Arc::new(FaultyBackend::new(shared.clone()));
    let builder = || Cache::builder().namespace("t").timer(Arc::new(clock.clone()));
    let one = builder().backend(ailing.clone()).remote_command_deadline(SECOND).build().await.unwrap();
    let two = builder().backend(shared).build().await.unwrap();
    clock.settle().await;
    two.set("k", 1_u32).await;
    clock.settle().await;
    two.get::<_, u32>("k").await;
    assert_eq!(two.stats().near_hits, 1);
    ailing.set_for(Operation::RemoveAndPublish, Fault::Hang);
    let remover = one.clone();
    let removal = tokio::spawn(async move { remover.try_delete("k").await });
    clock.settle().await;
    clock.advance_and_settle(SECOND * 10).await;
    assert!(removal.await.unwrap().is_err());
    two.get::<_, u32>("k").await;
    assert_eq!(two.stats().near_hits, 1);
}

#[tokio::test]
async fn what_is_being_loaded_or_was_invalidated_by_tag_is_absent_for_add() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (one, two) = (process(&clock, &shared).await, process(&clock, &shared).await);
    let open = gate();
    let loading = gated(&one, &open, 1, None, None);
    clock.settle().await;
    assert!(two.add("k", 2_u32).await);
    assert!(!two.add("k", 3_u32).await);
    open.add_permits(1);
    assert_eq!(loading.await.unwrap(), 1);
    clock.settle().await;
    assert_eq!(two.get("k").await, Some(Arc::new(2_u32)));
    clock.advance(SECOND * 2);
    assert_eq!(one.get("k").await, Some(Arc::new(2_u32)));

    one.set("tagged", 1_u32).tag("t").await;
    one.invalidate().tag("t").await.unwrap();
    assert!(two.add("tagged", 2_u32).await);
    assert_eq!(one.get("tagged").await, Some(Arc::new(2_u32)));
}

#[tokio::test]
async fn keeping_the_ttl_does_not_take_that_of_a_load() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (one, two) = (process(&clock, &shared).await, process(&clock, &shared).await);
    let loading = gated(&one, &gate(), 1, None, None);
    clock.settle().await;
    assert!(two.set("k", 2_u32).keep_ttl().await);
    loading.abort();
    clock.advance_and_settle(SECOND * 60).await;
    assert_eq!(two.get("k").await, Some(Arc::new(2_u32)));
}

/// Can neither be cloned nor shared.
#[derive(Debug, PartialEq)]
struct Alone(u32);

static FAILS: AtomicU32 = AtomicU32::new(0);

#[larder::cached(negative_ttl = "5s", jitter = 0.0)]
async fn fails() -> Result<u8, Alone> {
    Err(Alone(FAILS.fetch_add(1, Ordering::SeqCst)))
}

#[larder::test]
async fn a_remembered_error_that_one_caller_took_does_not_keep_the_next_one_going_round() {
    assert_eq!(fails().await, Err(Alone(0)));
    assert_eq!(fails().await, Err(Alone(1)));
}

#[larder::test]
async fn a_batch_counts_what_a_single_read_counts(cache: Cache) {
    cache.set("k", 1_u32).await;
    assert_eq!(cache.get_many::<_, String>(&["k"]).await, [None]);
    let stats = cache.stats();
    assert_eq!((stats.wrong_type, stats.misses, stats.near_hits), (1, 1, 0));
}

#[tokio::test]
async fn a_token_whose_answer_was_lost_is_taken_back() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let ailing = Arc::new(FaultyBackend::new(shared.clone()));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(ailing.clone());
    let cache = builder.build().await.unwrap();
    cache.get_or_load("other", || async { Ok::<_, ()>(0_u32) }).await.unwrap();
    clock.settle().await;
    ailing.set_for(Operation::GetOrSet, Fault::LoseAnswer(larder::ErrorKind::Timeout));
    cache.get_or_load("k", || async { Ok::<_, ()>(1_u32) }).await.unwrap();
    clock.settle().await;
    assert_eq!(shared.get(&cache.key("k")).await.unwrap(), None);
}

#[tokio::test]
async fn a_write_that_is_abandoned_leaves_nothing_older_near() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let ailing = Arc::new(FaultyBackend::new(shared.clone()));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(ailing.clone());
    let cache = builder.build().await.unwrap();
    cache.set("k", 1_u32).await;
    ailing.set_for(Operation::SetMany, Fault::Hang);
    let writer = cache.clone();
    let write = tokio::spawn(async move { writer.set("k", 2_u32).await });
    clock.settle().await;
    assert_eq!(cache.get("k").await, Some(Arc::new(1_u32)));
    write.abort();
    clock.settle().await;
    cache.get::<_, u32>("k").await;
    assert_eq!(cache.stats().near_hits, 0);
}

/// A cache on a store whose removals hang, with a value in both tiers.
async fn removing_slowly(clock: &ManualClock) -> Cache {
    let ailing = Arc::new(FaultyBackend::new(store(clock)));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(ailing.clone());
    let cache = builder.build().await.unwrap();
    cache.set("k", 1_u32).tag("t").await;
    ailing.set_for(Operation::DeleteMany, Fault::Hang);
    cache
}

#[tokio::test]
async fn a_removal_that_is_abandoned_leaves_nothing_older_near() {
    for kind in 0..3 {
        let clock = ManualClock::new();
        let cache = removing_slowly(&clock).await;
        let remover = cache.clone();
        let removal = tokio::spawn(async move {
            match kind {
                0 => drop(remover.delete("k").await),
                1 => drop(remover.invalidate().key("k").await),
                _ => drop(remover.invalidate().tag("t").await),
            }
        });
        clock.settle().await;
        assert_eq!(cache.get("k").await, Some(Arc::new(1_u32)));
        removal.abort();
        clock.settle().await;
        let hits = cache.stats().near_hits;
        cache.get::<_, u32>("k").await;
        assert_eq!(cache.stats().near_hits, hits, "kind {kind}");
    }
}

#[tokio::test]
async fn what_stands_near_alone_exists_and_has_a_ttl() {
    let clock = ManualClock::new();
    let cache = process(&clock, &store(&clock)).await;
    cache.near().set("k", 1_u32).await;
    assert!(cache.exists("k").await);
    assert!(cache.ttl("k").await.is_some());
    let absent = Strategy::new("r", SECOND).cache_none(Some(SECOND));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(store(&clock));
    let cache = builder.strategy(absent).build().await.unwrap();
    cache.get_or_load_optional("none", || async { Ok::<Option<u32>, ()>(None) }).await.unwrap();
    clock.settle().await;
    assert!(!cache.exists("none").await);
}

/// Uses the cache when it is dropped.
struct Chatty(Cache, Arc<AtomicU32>);

impl Drop for Chatty {
    fn drop(&mut self) {
        let near = self.0.near();
        near.get::<_, u32>("k").into_future().now_or_never().unwrap();
        near.set("k", 7_u32).into_future().now_or_never().unwrap();
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[larder::test]
async fn a_value_may_use_the_cache_when_it_is_dropped(cache: Cache, clock: ManualClock) {
    let dropped = Arc::new(AtomicU32::new(0));
    let chatty = || Chatty(cache.clone(), Arc::clone(&dropped));
    let near = cache.near();
    let load = || {
        let value = chatty();
        near.get_or_load("k", || async { Ok::<_, ()>(value) }).force_refresh()
    };
    near.set("k", chatty()).ttl(SECOND).await;
    near.set("k", chatty()).ttl(SECOND).await;
    near.set("k", chatty()).only_if_absent().await;
    drop(load().await.unwrap());
    drop(load().await.unwrap());
    assert!(near.set("k", chatty()).ttl(SECOND).await);
    assert!(cache.expire("k", SECOND * 2).await.unwrap());
    cache.delete("k").await;
    near.set("k", chatty()).ttl(SECOND).await;
    cache.clear().await.unwrap();
    near.set("k", chatty()).ttl(SECOND).await;
    clock.advance_and_settle(SECOND * 20).await;
    assert!(dropped.load(Ordering::SeqCst) >= 5);
}

#[larder::test]
async fn a_weigher_may_use_the_cache(cache: Cache) {
    let inner = cache.clone();
    let weigher = move |value: &u64| {
        inner.near().set("r:k", 1_u64).into_future().now_or_never().unwrap();
        *value
    };
    let region = cache.region::<str, u64>("r").weigher(weigher).build().unwrap();
    region.set("k", 5).await;
    region.get_or_load("k", || async { Ok::<_, ()>(6) }).force_refresh().await.unwrap();
    assert!(region.expire("k", SECOND).await.unwrap());
    assert!(region.get("k").await.is_some());
}

#[tokio::test]
async fn those_who_ask_for_faults_are_told_the_first_one_already() {
    let clock = ManualClock::new();
    let ailing = Arc::new(FaultyBackend::new(store(&clock)));
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(ailing.clone());
    let cache = builder.build().await.unwrap();
    assert_eq!(cache.try_get::<_, u32>("k").await.unwrap(), None);
    ailing.fail(larder::ErrorKind::Unavailable);
    assert_eq!(cache.try_get::<_, u32>("k").await.unwrap_err().kind(), larder::ErrorKind::Unavailable);
    assert_eq!(cache.try_get_many::<_, u32>(&["k"]).await.unwrap_err().kind(), larder::ErrorKind::Unavailable);
    for _ in 0..5 {
        cache.get::<_, u32>("k").await;
    }
    // The breaker is open.
    assert_eq!(cache.try_get_many::<_, u32>(&["k"]).await.unwrap_err().kind(), larder::ErrorKind::Unavailable);
    assert_eq!(cache.get_many::<_, u32>(&["k"]).await, [None]);
}
