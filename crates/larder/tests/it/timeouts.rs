//! How long callers wait, and what goes on when they do not.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::join_all};
use larder::{
    Cache, LoadError, ManualClock, Source as From, Strategy,
    strategy::{FailSafe, Tiers},
};

use crate::source::{Source, near, processes, read, reading};

const SECOND: Duration = Duration::from_secs(1);

fn soft() -> Strategy {
    Strategy::new("r", SECOND * 10).stale_window(SECOND * 60).soft_timeout(Some(SECOND))
}

#[tokio::test]
async fn a_soft_time_out_without_a_stale_value_does_not_fire_and_a_hard_one_leaves_the_load_to_be_kept() {
    let clock = ManualClock::new();
    let cache = near(&clock, soft()).await;
    let source = Source::gated();
    let caller = reading(&cache, &source);
    clock.advance_and_settle(SECOND * 29).await;
    assert!(!caller.is_finished());
    clock.advance_and_settle(SECOND).await;
    assert!(matches!(caller.await.unwrap(), Err(LoadError::TimedOut)));
    source.admit(1);
    clock.settle().await;
    assert_eq!(read(&cache, &source).await.unwrap().source, From::Near);
    assert_eq!(source.runs(), 1);
}

#[tokio::test]
async fn a_soft_time_out_waits_a_moment_for_a_fresh_value_and_then_serves_the_stale_one() {
    let clock = ManualClock::new();
    let cache = near(&clock, soft()).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    clock.advance(SECOND * 11);
    assert_eq!(*read(&cache, &source).await.unwrap().value, 1);
    source.close();
    clock.advance(SECOND * 11);
    let (first, second) = (reading(&cache, &source), reading(&cache, &source));
    clock.settle().await;
    assert!(!first.is_finished());
    clock.advance_and_settle(SECOND).await;
    for caller in [first, second] {
        let outcome = caller.await.unwrap().unwrap();
        assert_eq!((*outcome.value, outcome.stale), (1, true));
    }
    source.admit(1);
    clock.settle().await;
    assert_eq!(*read(&cache, &source).await.unwrap().value, 2);
}

#[tokio::test]
async fn a_stale_entry_of_the_remote_tier_waits_for_the_soft_time_out_too() {
    let clock = ManualClock::new();
    let [one, two] = processes(&clock, soft().tiers(Tiers::Remote)).await;
    let source = Source::open();
    read(&one, &source).await.unwrap();
    clock.settle().await;
    clock.advance(SECOND * 11);
    source.close();
    let caller = reading(&two, &source);
    clock.settle().await;
    assert!(!caller.is_finished());
    clock.advance_and_settle(SECOND).await;
    let outcome = caller.await.unwrap().unwrap();
    assert_eq!((*outcome.value, outcome.stale, outcome.source), (0, true, From::Remote));
}

#[tokio::test]
async fn a_call_that_takes_a_stale_value_does_not_wait() {
    let clock = ManualClock::new();
    let cache = near(&clock, soft()).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    clock.advance(SECOND * 11);
    source.close();
    let run = source.clone();
    let outcome = cache.get_or_load("k", move || run.run()).allow_stale().outcome().await.unwrap();
    assert_eq!((*outcome.value, outcome.stale), (0, true));
}

#[tokio::test]
async fn a_calls_deadline_ends_its_wait_and_not_the_load() {
    let clock = ManualClock::new();
    let cache = near(&clock, Strategy::new("r", SECOND * 10)).await;
    let source = Source::gated();
    let (own, run) = (cache.clone(), source.clone());
    let hasty = tokio::spawn(async move { own.get_or_load("k", move || run.run()).deadline(SECOND).await });
    let patient = reading(&cache, &source);
    clock.advance_and_settle(SECOND).await;
    assert!(matches!(hasty.await.unwrap(), Err(LoadError::TimedOut)));
    source.admit(1);
    assert_eq!(*patient.await.unwrap().unwrap().value, 0);
    assert_eq!(source.runs(), 1);
}

#[tokio::test]
async fn a_stale_value_stands_in_for_a_hard_time_out_where_fail_safe_says_so() {
    let clock = ManualClock::new();
    let strategy = Strategy::new("r", SECOND * 10).stale_window(SECOND * 60);
    let cache = near(&clock, strategy.fail_safe(Some(FailSafe::new(SECOND * 60)))).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    source.close();
    let (own, run) = (cache.clone(), source.clone());
    let forced = tokio::spawn(async move {
        own.get_or_load("k", move || run.run()).force_refresh().deadline(SECOND).outcome().await.unwrap()
    });
    clock.advance_and_settle(SECOND).await;
    let outcome = forced.await.unwrap();
    assert_eq!((*outcome.value, outcome.stale), (0, true));
}

async fn at_most(clock: &ManualClock, loads: usize) -> Cache {
    let strategy = Strategy::new("r", SECOND * 10).jitter(0.0).stale_window(SECOND * 60);
    let builder = Cache::builder().timer(Arc::new(clock.clone())).strategy(strategy).max_background_loads(loads);
    builder.build().await.unwrap()
}

fn abandoned(
    cache: &Cache,
    key: u32,
    source: &Source,
) -> tokio::task::JoinHandle<Result<u32, LoadError<&'static str>>> {
    let (cache, source) = (cache.clone(), source.clone());
    tokio::spawn(async move { cache.get_or_load(key, move || source.run()).await.map(|value| *value) })
}

#[tokio::test]
async fn when_too_many_loads_go_on_without_a_caller_no_more_begin() {
    let clock = ManualClock::new();
    let cache = at_most(&clock, 2).await;
    let source = Source::gated();
    let callers = [abandoned(&cache, 1, &source), abandoned(&cache, 2, &source)];
    clock.settle().await;
    // Loads that are waited for do not count.
    let third = abandoned(&cache, 3, &source);
    clock.settle().await;
    assert_eq!(source.runs(), 3);
    callers.iter().for_each(tokio::task::JoinHandle::abort);
    clock.settle().await;
    assert!(matches!(abandoned(&cache, 4, &source).await.unwrap(), Err(LoadError::Overloaded)));
    assert_eq!(source.runs(), 3);
    // Their places are free again when they have ended.
    source.admit(3);
    third.await.unwrap().unwrap();
    clock.settle().await;
    source.admit(1);
    abandoned(&cache, 4, &source).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_overload_serves_stale_values_and_puts_refreshes_off() {
    let clock = ManualClock::new();
    let cache = at_most(&clock, 1).await;
    let source = Source::open();
    read(&cache, &source).await.unwrap();
    source.close();
    let blocked = abandoned(&cache, 1, &source);
    clock.settle().await;
    blocked.abort();
    clock.settle().await;
    clock.advance(SECOND * 11);
    assert!(read(&cache, &source).await.unwrap().stale);
    clock.settle().await;
    assert_eq!(source.runs(), 2);
    source.admit(2);
    clock.settle().await;
    assert!(read(&cache, &source).await.unwrap().stale);
    clock.settle().await;
    assert!(!read(&cache, &source).await.unwrap().stale);
}

#[tokio::test]
async fn a_default_stands_in_for_a_load_that_fails_and_is_not_stored() {
    let clock = ManualClock::new();
    let cache = near(&clock, Strategy::new("r", SECOND * 10)).await;
    let source = Source::open();
    source.set_broken(true);
    let run = source.clone();
    assert_eq!(*cache.get_or_load("k", move || run.run()).or(77).await, 77);
    assert_eq!(cache.get::<_, u32>("k").await, None);
    source.set_broken(false);
    assert_eq!(*cache.get_or_load("k", move || source.run()).or(77).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_has_few_timers_and_each_of_it_times_out_when_its_own_time_has_come() {
    let clock = ManualClock::new();
    let cache = near(&clock, Strategy::new("r", SECOND * 10).hard_timeout(SECOND * 5)).await;
    let source = Source::gated();
    let crowd = |size: usize| {
        let mut crowd = Box::pin(join_all((0..size).map(|_| read(&cache, &source))));
        assert!(crowd.as_mut().now_or_never().is_none());
        crowd
    };
    let early = crowd(100);
    // The leader's own bound and the watch among them.
    clock.until_sleepers(18).await;
    assert!(clock.sleepers() < 30, "{} timers for 100 callers", clock.sleepers());
    clock.advance(SECOND * 3);
    let late = crowd(100);
    clock.advance(SECOND * 2);
    for answer in early.await {
        assert!(matches!(answer, Err(LoadError::TimedOut)));
    }
    let mut late = late;
    assert!(late.as_mut().now_or_never().is_none(), "their time has not come");
    clock.advance(SECOND * 3);
    for answer in late.await {
        assert!(matches!(answer, Err(LoadError::TimedOut)));
    }
    source.admit(1);
}
