//! Many keys with one loader.

use std::{collections::HashMap, sync::Arc, time::Duration};

use larder::{BatchOf, Cache, LoadError, Loaded, ManualClock, ManyAnswer, Strategy, strategy::Lease};
use larder_testing::{FaultyBackend, Operation};
use tokio::task::JoinHandle;

use crate::{
    source::{Source, near, processes},
    store,
};

const SECOND: Duration = Duration::from_secs(1);

type Answers = Vec<ManyAnswer<u32, &'static str>>;

async fn many(cache: &Cache, keys: &[u32], source: &Source) -> Answers {
    let source = source.clone();
    cache.get_or_load_many(keys.iter().copied(), move |missing| source.many(missing)).await
}

fn loading(cache: &Cache, keys: &[u32], source: &Source) -> JoinHandle<Answers> {
    let (cache, source, keys) = (cache.clone(), source.clone(), keys.to_vec());
    tokio::spawn(async move { many(&cache, &keys, &source).await })
}

/// The values; `None` for what is absent.
fn values(answers: Answers) -> Vec<Option<u32>> {
    answers.into_iter().map(|answer| answer.unwrap().map(|value| *value)).collect()
}

fn policy() -> Strategy {
    Strategy::new("r", SECOND * 10)
}

#[tokio::test]
async fn one_call_loads_what_is_missing_in_the_order_of_the_keys() {
    let clock = ManualClock::new();
    let cache = near(&clock, policy()).await;
    let source = Source::open();
    cache.set(2_u32, 99_u32).await;
    assert_eq!(values(many(&cache, &[3, 2, 1, 3, 200], &source).await), [Some(30), Some(99), Some(10), Some(30), None]);
    assert_eq!(source.asked(), [vec![1, 3, 200]]);
    // Absent values are not remembered unless the strategy says so.
    assert_eq!(values(many(&cache, &[1, 3, 200], &source).await), [Some(10), Some(30), None]);
    assert_eq!(source.asked()[1], [200]);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.requests(), stats.misses, stats.near_hits), (2, 8, 5, 3));
}

#[tokio::test]
async fn absent_keys_are_remembered_where_the_strategy_says_so() {
    let clock = ManualClock::new();
    let cache = near(&clock, policy().cache_none(Some(SECOND * 5))).await;
    let source = Source::open();
    for _ in 0..2 {
        assert_eq!(values(many(&cache, &[200], &source).await), [None]);
    }
    assert_eq!(source.asked().len(), 1);
}

#[tokio::test]
async fn batches_share_flights_with_one_another_and_with_single_loads() {
    let clock = ManualClock::new();
    let cache = near(&clock, policy()).await;
    let (first, second) = (Source::gated(), Source::gated());
    let one = loading(&cache, &[1, 2], &first);
    clock.settle().await;
    let two = loading(&cache, &[2, 3], &second);
    let own = cache.clone();
    let single = tokio::spawn(async move { own.get_or_load(1_u32, || async { Err::<u32, _>("not run") }).await });
    clock.settle().await;
    assert_eq!((first.asked(), second.asked()), (vec![vec![1, 2]], vec![vec![3]]));
    second.admit(1);
    clock.settle().await;
    assert!(!two.is_finished());
    first.admit(1);
    assert_eq!(values(one.await.unwrap()), [Some(10), Some(20)]);
    assert_eq!(values(two.await.unwrap()), [Some(20), Some(30)]);
    assert_eq!(*single.await.unwrap().unwrap(), 10);
}

#[tokio::test]
async fn a_single_load_does_not_take_a_batchs_absence_for_an_answer() {
    let clock = ManualClock::new();
    let cache = near(&clock, policy()).await;
    let source = Source::gated();
    let batch = loading(&cache, &[200], &source);
    clock.settle().await;
    let own = cache.clone();
    let single = tokio::spawn(async move { own.get_or_load(200_u32, || async { Ok::<_, &'static str>(7_u32) }).await });
    clock.settle().await;
    source.admit(1);
    assert_eq!(values(batch.await.unwrap()), [None]);
    assert_eq!(*single.await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn each_key_has_an_error_a_ttl_and_tags_of_its_own() {
    let clock = ManualClock::new();
    let cache = near(&clock, policy()).await;
    let load = || {
        cache.get_or_load_many_with([1_u32, 2, 3, 4], |missing: Vec<u32>| async move {
            let answer = |key| match key {
                1 => Err("no"),
                2 => Ok(Loaded::new(20_u32).ttl(SECOND)),
                3 => Ok(Loaded::new(30).tag("t")),
                _ => Ok(Loaded::new(40).do_not_store()),
            };
            Ok::<BatchOf<_, _, _>, &'static str>(missing.into_iter().map(|key| (key, answer(key))).collect())
        })
    };
    let answers = load().await;
    assert!(matches!(&answers[0], Err(LoadError::Loader(error)) if **error == "no"));
    assert_eq!(values(answers.into_iter().skip(1).collect()), [Some(20), Some(30), Some(40)]);
    assert_eq!(cache.get(2_u32).await, Some(Arc::new(20_u32)));
    assert_eq!(cache.get::<_, u32>(4_u32).await, None);
    clock.advance(SECOND * 2);
    assert_eq!(cache.get::<_, u32>(2_u32).await, None);
    assert_eq!(cache.get(3_u32).await, Some(Arc::new(30_u32)));
    cache.invalidate().tag("t").await.unwrap();
    assert_eq!(cache.get::<_, u32>(3_u32).await, None);
}

#[tokio::test]
async fn a_batch_that_fails_fails_for_what_it_loaded_only() {
    let clock = ManualClock::new();
    let cache = near(&clock, policy()).await;
    cache.set(1_u32, 10_u32).await;
    let source = Source::open();
    source.set_broken(true);
    let answers = many(&cache, &[1, 2], &source).await;
    assert_eq!(answers[0].as_ref().unwrap(), &Some(Arc::new(10)));
    assert!(matches!(&answers[1], Err(LoadError::Loader(_))));
    let panicked = cache.get_or_load_many([2_u32], |_| async { panic!("boom") as Result<HashMap<u32, u32>, &str> });
    assert!(matches!(&panicked.await[0], Err(LoadError::Panicked(message)) if &**message == "boom"));
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.load_errors), (2, 2));
}

#[tokio::test]
async fn an_invalidation_keeps_one_key_of_a_batch_out_and_leaves_the_others() {
    let clock = ManualClock::new();
    let [cache, other] = processes(&clock, policy()).await;
    let source = Source::gated();
    let batch = loading(&cache, &[1, 2], &source);
    clock.settle().await;
    cache.delete(1_u32).await;
    source.admit(1);
    assert_eq!(values(batch.await.unwrap()), [Some(10), Some(20)]);
    clock.settle().await;
    for cache in [&cache, &other] {
        assert_eq!(cache.get::<_, u32>(1_u32).await, None);
        assert_eq!(cache.get(2_u32).await, Some(Arc::new(20_u32)));
    }
}

#[tokio::test]
async fn stale_values_are_served_and_refreshed_in_one_call() {
    let clock = ManualClock::new();
    let cache = near(&clock, policy().stale_window(SECOND * 60)).await;
    let source = Source::open();
    many(&cache, &[1, 2], &source).await;
    clock.advance(SECOND * 11);
    for _ in 0..2 {
        assert_eq!(values(many(&cache, &[1, 2, 3], &source).await), [Some(10), Some(20), Some(30)]);
        clock.settle().await;
    }
    let mut asked = source.asked();
    asked[1..].sort();
    assert_eq!(asked, [vec![1, 2], vec![1, 2], vec![3]]);
    assert_eq!(cache.stats().stale_hits, 2);
}

#[tokio::test]
async fn what_another_process_loads_is_waited_for_while_the_rest_is_loaded() {
    let clock = ManualClock::new();
    let [one, two] = processes(&clock, policy().lease(Lease::Wait { bound: SECOND * 5 })).await;
    let (first, second) = (Source::gated(), Source::open());
    let held = loading(&one, &[1, 2], &first);
    clock.settle().await;
    let both = loading(&two, &[2, 3], &second);
    clock.advance_and_settle(SECOND).await;
    assert_eq!(second.asked(), [vec![3]]);
    assert!(!both.is_finished());
    first.admit(1);
    clock.advance_and_settle(SECOND).await;
    assert_eq!(values(held.await.unwrap()), [Some(10), Some(20)]);
    assert_eq!(values(both.await.unwrap()), [Some(20), Some(30)]);
    assert_eq!(second.asked().len(), 1);
}

#[tokio::test]
async fn what_another_process_does_not_bring_in_time_is_loaded_in_a_second_call() {
    let clock = ManualClock::new();
    let [one, two] = processes(&clock, policy().lease(Lease::Wait { bound: SECOND * 2 })).await;
    let (first, second) = (Source::gated(), Source::open());
    let held = loading(&one, &[1, 2], &first);
    clock.settle().await;
    let both = loading(&two, &[1, 2, 3], &second);
    clock.advance_and_settle(SECOND * 3).await;
    assert_eq!(values(both.await.unwrap()), [Some(10), Some(20), Some(30)]);
    assert_eq!(second.asked(), [vec![3], vec![1, 2]]);
    held.abort();
}

#[tokio::test]
async fn a_batch_asks_the_remote_tier_once_and_stores_every_value() {
    let clock = ManualClock::new();
    let shared = store(&clock);
    let counted = Arc::new(FaultyBackend::new(shared.clone()));
    let builder = || Cache::builder().namespace("t").timer(Arc::new(clock.clone())).strategy(policy());
    let cache = builder().backend(counted.clone()).build().await.unwrap();
    let other = builder().backend(shared).build().await.unwrap();
    let source = Source::open();
    let keys: Vec<u32> = (0..50).collect();
    many(&other, &keys[..10], &source).await;
    clock.settle().await;
    counted.reset_calls();
    let found = values(many(&cache, &keys, &source).await);
    assert_eq!(found.iter().flatten().count(), 50);
    clock.settle().await;
    // The values, and the tags' invalidation token; a token for each missing key, and a marker that had to be made.
    assert_eq!(counted.calls_of(Operation::GetMany), 2);
    assert_eq!(counted.calls_of(Operation::GetOrSet), 40);
    assert_eq!(counted.calls_of(Operation::CompareAndSet), 40);
    let stats = cache.stats();
    assert_eq!((stats.remote_hits, stats.misses, stats.loads), (10, 40, 1));
    assert_eq!(values(many(&other, &keys, &source).await), found);
    assert_eq!(source.asked().len(), 2);
}

#[tokio::test]
async fn a_batch_whose_caller_goes_away_is_kept() {
    let clock = ManualClock::new();
    let cache = near(&clock, policy()).await;
    let source = Source::gated();
    let caller = loading(&cache, &[1, 2], &source);
    clock.settle().await;
    caller.abort();
    source.admit(1);
    clock.settle().await;
    assert_eq!(values(many(&cache, &[1, 2], &source).await), [Some(10), Some(20)]);
    assert_eq!(source.asked().len(), 1);
}

#[tokio::test]
async fn a_batch_whose_loader_needs_one_of_its_keys_is_told_so() {
    let clock = ManualClock::new();
    let cache = near(&clock, policy()).await;
    let inner = cache.clone();
    let answers = cache.get_or_load_many([1_u32, 2], move |missing: Vec<u32>| async move {
        let again = inner.get_or_load(2_u32, || async { Ok::<u32, &'static str>(1) }).await;
        assert!(matches!(again, Err(LoadError::Recursive)));
        Ok::<_, &'static str>(missing.into_iter().map(|key| (key, key)).collect::<HashMap<u32, u32>>())
    });
    assert_eq!(values(answers.await), [Some(1), Some(2)]);
}

#[tokio::test]
async fn a_batch_ends_at_its_deadline_for_what_has_not_come() {
    let clock = ManualClock::new();
    let cache = near(&clock, policy()).await;
    cache.set(1_u32, 10_u32).await;
    let source = Source::gated();
    let (own, run) = (cache.clone(), source.clone());
    let caller = tokio::spawn(async move {
        own.get_or_load_many([1_u32, 2], move |missing| run.many(missing)).deadline(SECOND).await
    });
    clock.advance_and_settle(SECOND).await;
    let answers = caller.await.unwrap();
    assert_eq!(answers[0].as_ref().unwrap(), &Some(Arc::new(10)));
    assert!(matches!(answers[1], Err(LoadError::TimedOut)));
}
