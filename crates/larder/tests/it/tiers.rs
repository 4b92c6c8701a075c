use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::TryStreamExt;
use larder::{Cache, ManualClock, Remaining, Source, Strategy};
use larder_core::{Backend, BackendExt, Pattern, SetOptions};

use crate::{process, store};

const SECOND: Duration = Duration::from_secs(1);

async fn load(cache: &Cache, value: u32) -> (u32, Source) {
    let outcome = cache.get_or_load("k", move || async move { Ok::<_, ()>(value) }).tag("t").outcome().await.unwrap();
    (*outcome.value, outcome.source)
}

#[tokio::test]
async fn what_one_process_loads_another_reads_from_the_remote_tier() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (one, two) = (process(&clock, &shared).await, process(&clock, &shared).await);
    assert_eq!(load(&one, 1).await, (1, Source::Loaded));
    clock.settle().await;
    assert_eq!(load(&two, 2).await, (1, Source::Remote));
    assert_eq!(load(&two, 2).await, (1, Source::Near));
    assert_eq!(two.get("k").await, Some(Arc::new(1_u32)));
}

#[tokio::test]
async fn without_a_bus_near_copies_live_for_the_blind_ttl() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (one, two) = (process(&clock, &shared).await, process(&clock, &shared).await);
    load(&one, 1).await;
    clock.settle().await;
    load(&two, 2).await;
    one.set("k", 5_u32).await;
    assert_eq!(load(&two, 2).await, (1, Source::Near));
    clock.advance(SECOND);
    assert_eq!(load(&two, 2).await, (5, Source::Remote));
}

#[tokio::test]
async fn a_removed_tag_makes_its_entries_misses_in_every_process() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (one, two) = (process(&clock, &shared).await, process(&clock, &shared).await);
    load(&one, 1).await;
    clock.settle().await;
    two.invalidate().tag("t").await.unwrap();
    clock.advance(SECOND);
    assert_eq!(load(&one, 2).await, (2, Source::Loaded));
    clock.settle().await;
    assert_eq!(load(&two, 3).await, (2, Source::Remote));
}

#[tokio::test]
async fn an_invalidation_in_another_process_voids_a_load_that_is_under_way() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (one, two) = (process(&clock, &shared).await, process(&clock, &shared).await);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (cache, inside) = (one.clone(), Arc::clone(&gate));
    let caller = tokio::spawn(async move {
        let load = cache.get_or_load("k", move || async move {
            inside.acquire().await.unwrap().forget();
            Ok::<_, ()>(1_u32)
        });
        *load.await.unwrap()
    });
    clock.settle().await;
    two.delete("k").await;
    gate.add_permits(1);
    assert_eq!(caller.await.unwrap(), 1);
    clock.settle().await;
    assert_eq!(two.get::<_, u32>("k").await, None);
}

#[tokio::test]
async fn a_process_waits_for_the_load_of_another() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (one, two) = (process(&clock, &shared).await, process(&clock, &shared).await);
    let loads = Arc::new(AtomicU32::new(0));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let start = |cache: Cache| {
        let (loads, gate) = (Arc::clone(&loads), Arc::clone(&gate));
        tokio::spawn(async move {
            let load = cache.get_or_load("k", move || async move {
                let run = loads.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                Ok::<_, ()>(run)
            });
            *load.await.unwrap()
        })
    };
    let first = start(one);
    clock.settle().await;
    let second = start(two);
    clock.advance_and_settle(SECOND).await;
    gate.add_permits(1);
    clock.advance_and_settle(SECOND).await;
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (0, 0));
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_process_that_dies_in_a_load_frees_its_key() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let two = process(&clock, &shared).await;
    // What a process that died leaves behind: a fill token that nobody renews.
    let token = larder_core::envelope::Header::new(
        larder_core::envelope::Kind::Placeholder,
        larder_core::envelope::CodecId::RAW,
    );
    let options = SetOptions::new().ttl(SECOND * 3);
    shared.set(&two.key("k"), token.encode(&[]).unwrap().into(), options).await.unwrap();
    assert!(!two.exists("k").await);
    let cache = two.clone();
    let caller = tokio::spawn(async move { load(&cache, 7).await });
    clock.advance_and_settle(SECOND * 4).await;
    assert_eq!(caller.await.unwrap(), (7, Source::Loaded));
    clock.settle().await;
    assert!(two.exists("k").await);
}

#[tokio::test]
async fn a_load_that_fails_leaves_no_token_behind() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let cache = process(&clock, &shared).await;
    assert!(cache.get_or_load("k", || async { Err::<u32, _>(()) }).await.is_err());
    clock.settle().await;
    assert_eq!(shared.get(&cache.key("k")).await.unwrap(), None);
}

#[tokio::test]
async fn a_promoted_entry_does_not_outlive_its_remote_one() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (one, two) = (process(&clock, &shared).await, process(&clock, &shared).await);
    one.set("k", 1_u32).ttl(SECOND).await;
    clock.advance(SECOND / 2);
    assert!(two.get::<_, u32>("k").await.is_some());
    clock.advance(SECOND / 2);
    assert_eq!(two.get::<_, u32>("k").await, None);
}

#[tokio::test]
async fn what_is_not_ours_is_a_miss_and_left_alone_and_what_is_broken_is_removed() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let cache = process(&clock, &shared).await;
    cache.increment("n", 5).await.unwrap();
    assert_eq!(cache.get::<_, u32>("n").await, None);
    assert_eq!(*cache.get_or_load("n", || async { Ok::<_, ()>(1_u32) }).await.unwrap(), 1);
    clock.settle().await;
    assert_eq!(cache.counter("n").await.unwrap(), Some(5));

    cache.set("broken", 1_u32).await;
    let key = cache.key("broken");
    let mut bytes = shared.get(&key).await.unwrap().unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    shared.set(&key, bytes.into(), SetOptions::new()).await.unwrap();
    clock.advance(SECOND * 2);
    assert_eq!(cache.get::<_, u32>("broken").await, None);
    assert_eq!(shared.get(&key).await.unwrap(), None);
    assert!(cache.stats().undecodable >= 3);
}

#[tokio::test]
async fn another_version_of_a_region_is_another_schema() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (old, new) = (process(&clock, &shared).await, process(&clock, &shared).await);
    let strategy = Strategy::new("users", SECOND * 60);
    let old = old.region::<u32, String>("users").strategy(strategy.clone()).build().unwrap();
    let new = new.region::<u32, u64>("users").strategy(strategy.version(2)).build().unwrap();
    old.set(&1, "Ann".to_owned()).await;
    assert_eq!(new.get(&1).await, None);
    clock.advance(SECOND * 2);
    assert!(old.get(&1).await.is_some());
}

#[tokio::test]
async fn deadlines_in_the_remote_tier_can_be_changed() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let cache = process(&clock, &shared).await;
    cache.set("k", 1_u32).ttl(SECOND * 100).await;
    assert!(cache.expire("k", SECOND * 5).await.unwrap());
    assert_eq!(cache.ttl("k").await, Some(Remaining::For(SECOND * 5)));
    clock.advance(SECOND * 4);
    assert!(cache.get::<_, u32>("k").await.is_some());
    clock.advance(SECOND * 2);
    assert_eq!(cache.get::<_, u32>("k").await, None);
    cache.set("k", 1_u32).ttl(SECOND).await;
    assert!(cache.persist("k").await.unwrap());
    clock.advance(SECOND * 1000);
    assert!(cache.get::<_, u32>("k").await.is_some());
    assert!(cache.expire("k", Duration::ZERO).await.unwrap());
    assert!(!cache.exists("k").await);
}

#[tokio::test]
async fn tags_that_the_loader_names_reach_other_processes() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (one, two) = (process(&clock, &shared).await, process(&clock, &shared).await);
    let load = |cache: &Cache, value: u32| {
        let loader = move || async move { Ok::<_, ()>(larder::Loaded::new(value).tag("late")) };
        let cache = cache.clone();
        async move { *cache.get_or_load_with("k", loader).await.unwrap() }
    };
    assert_eq!(load(&one, 1).await, 1);
    clock.settle().await;
    assert_eq!(load(&two, 2).await, 1);
    one.invalidate().tag("late").await.unwrap();
    clock.advance(SECOND * 2);
    assert_eq!(load(&two, 2).await, 2);
}

#[tokio::test]
async fn a_tag_removed_elsewhere_while_a_load_runs_keeps_late_tagged_values_out() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (one, two) = (process(&clock, &shared).await, process(&clock, &shared).await);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (cache, inside) = (one.clone(), Arc::clone(&gate));
    let caller = tokio::spawn(async move {
        let loader = move || async move {
            inside.acquire().await.unwrap().forget();
            Ok::<_, ()>(larder::Loaded::new(1_u32).tag("late"))
        };
        *cache.get_or_load_with("k", loader).await.unwrap()
    });
    clock.settle().await;
    two.invalidate().tag("late").await.unwrap();
    gate.add_permits(1);
    assert_eq!(caller.await.unwrap(), 1);
    clock.settle().await;
    assert_eq!(two.get::<_, u32>("k").await, None);
}

#[tokio::test]
async fn two_namespaces_never_see_each_others_values() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let one = process(&clock, &shared).await;
    let other = Cache::builder().namespace("other").timer(Arc::new(clock.clone())).backend(shared.clone());
    let other = other.build().await.unwrap();
    one.set("k", 1_u32).await;
    assert_eq!(other.get::<_, u32>("k").await, None);
    other.clear().await.unwrap();
    assert!(one.get::<_, u32>("k").await.is_some());
}

#[tokio::test]
async fn statistics_are_published_and_clearing_leaves_them() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let cache = process(&clock, &shared).await;
    cache.get::<_, u32>("k").await;
    clock.advance_and_settle(SECOND * 11).await;
    cache.clear().await.unwrap();
    let left = shared.as_scan().unwrap().scan(&Pattern::everything(), 10).try_concat().await.unwrap();
    assert_eq!(left.len(), 1);
    assert!(left[0].as_str().starts_with("t:%stats:"));
}

#[tokio::test]
async fn many_values_are_read_from_the_remote_tier_and_promoted() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let (one, two) = (process(&clock, &shared).await, process(&clock, &shared).await);
    assert_eq!(one.set_many((0..100).map(|n| (n, n * 2)), Some(SECOND * 60)).await, 100);
    let keys: Vec<i32> = (0..101).collect();
    let found = two.get_many::<_, i32>(&keys).await;
    assert_eq!(found.iter().flatten().count(), 100);
    let stats = two.stats();
    assert_eq!((stats.remote_hits, stats.misses, stats.near_entries), (100, 1, 100));
}
