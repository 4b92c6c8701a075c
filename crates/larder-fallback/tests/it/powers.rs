use std::{sync::Arc, time::Duration};

use futures_util::TryStreamExt;
use larder_core::{Backend, BackendExt, Bytes, ErrorKind, Expected, Pattern, SetOptions, SetOutcome};
use larder_fallback::{BreakerState, Deferred, FallbackBackend};
use larder_testing::{Fault, FaultyBackend, ManualClock, Operation, conformance::Power};

use crate::world::{SECOND, World, key, memory};

const LIFE: Duration = SECOND;

#[tokio::test]
async fn counters_and_locks_are_unavailable_in_an_outage() {
    let world = World::new();
    world.lose_primary().await;
    let (counter, lock) = (world.fallback.as_counter().unwrap(), world.fallback.as_lock().unwrap());
    for kind in [
        counter.increment(&key("n"), 1, None).await.unwrap_err().kind(),
        counter.count(&key("n")).await.unwrap_err().kind(),
        lock.acquire(&key("l"), "t", LIFE).await.unwrap_err().kind(),
        lock.extend(&key("l"), "t", LIFE).await.unwrap_err().kind(),
        lock.release(&key("l"), "t").await.unwrap_err().kind(),
    ] {
        assert_eq!(kind, ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn settings_and_samples_are_the_primarys_and_none_in_an_outage() {
    let world = World::new();
    let inspect = world.fallback.as_inspect().unwrap();
    let kinds = async || {
        let sampled = inspect.sample(1).try_collect::<Vec<_>>().await;
        [inspect.settings().await.unwrap_err().kind(), sampled.unwrap_err().kind()]
    };
    // A backend in memory offers neither.
    assert_eq!(kinds().await, [ErrorKind::Unsupported; 2]);
    world.lose_primary().await;
    assert_eq!(kinds().await, [ErrorKind::Unavailable; 2]);
}

#[tokio::test]
async fn local_counters_count_here_and_end_with_the_outage() {
    let world = World::with(|builder| builder.local_counters(true));
    world.lose_primary().await;
    let (counter, lock) = (world.fallback.as_counter().unwrap(), world.fallback.as_lock().unwrap());
    assert_eq!(counter.increment(&key("n"), 2, None).await.unwrap(), 2);
    assert_eq!(counter.increment(&key("n"), 3, None).await.unwrap(), 5);
    assert!(lock.acquire(&key("l"), "mine", LIFE).await.unwrap());
    assert!(!lock.acquire(&key("l"), "other", LIFE).await.unwrap());
    assert!(lock.release(&key("l"), "mine").await.unwrap());
    world.return_primary().await;
    assert_eq!(counter.count(&key("n")).await.unwrap(), None);
}

#[tokio::test]
async fn an_increment_of_unknown_outcome_is_not_done_a_second_time() {
    let world = World::with(|builder| builder.local_counters(true));
    world.primary.fail(ErrorKind::Timeout);
    let counter = world.fallback.as_counter().unwrap();
    assert_eq!(counter.increment(&key("n"), 1, None).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(world.secondary.entries(), 0);
}

#[tokio::test]
async fn fills_go_on_in_the_secondary_and_a_token_is_worth_nothing_on_the_other_side() {
    let world = World::new();
    let atomic = world.fallback.as_atomic().unwrap();
    let token = |text: &'static str| Bytes::from(text);
    assert_eq!(atomic.get_or_set(&key("a"), token("before"), LIFE * 60).await.unwrap(), None);
    world.lose_primary().await;
    let before = Expected::prefix("before");
    let late = atomic.compare_and_set(&key("a"), &before, token("v"), SetOptions::new()).await.unwrap();
    assert_eq!(late, SetOutcome::Rejected);

    assert_eq!(atomic.get_or_set(&key("b"), token("meanwhile"), LIFE * 60).await.unwrap(), None);
    let meanwhile = Expected::prefix("meanwhile");
    let filled = atomic.compare_and_set(&key("b"), &meanwhile, token("v"), SetOptions::new()).await.unwrap();
    assert_eq!(filled, SetOutcome::Stored);
    assert_eq!(world.get("b").await.as_deref(), Some(&b"v"[..]));
    assert_eq!(world.fallback.stats().journal, 0);

    assert_eq!(atomic.get_or_set(&key("c"), token("meanwhile"), LIFE * 60).await.unwrap(), None);
    world.return_primary().await;
    let late = atomic.compare_and_set(&key("c"), &meanwhile, token("v"), SetOptions::new()).await.unwrap();
    assert_eq!(late, SetOutcome::Rejected);
}

#[tokio::test]
async fn a_conditional_removal_in_an_outage_is_remembered_unless_it_was_about_the_secondary() {
    let world = World::new();
    world.lose_primary().await;
    let atomic = world.fallback.as_atomic().unwrap();
    atomic.get_or_set(&key("a"), Bytes::from("token"), LIFE).await.unwrap();
    assert!(atomic.compare_and_delete(&key("a"), &Expected::prefix("token")).await.unwrap());
    assert_eq!(world.fallback.stats().journal, 0);
    let deferred = atomic.compare_and_delete(&key("b"), &Expected::prefix("token")).await.unwrap_err();
    assert!(Deferred::of(&deferred).is_some());
    assert_eq!(world.fallback.stats().journal, 1);
}

#[tokio::test]
async fn a_listing_is_an_error_in_an_outage_and_hides_what_is_to_be_removed_after_it() {
    let world = World::new();
    world.put_behind("a", "v").await;
    world.put_behind("b", "v").await;
    let all = Pattern::prefix("");
    world.lose_primary().await;
    let scan = world.fallback.as_scan().unwrap();
    let error = scan.scan(&all, 10).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(world.fallback.delete_pattern(&all).await.unwrap_err().kind(), ErrorKind::Unavailable);
    world.delete("a").await.expect_err("it is deferred");
    world.fallback.force_closed();
    world.primary.set(Fault::None);
    let pages = scan.scan(&all, 10).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(pages.concat(), [key("b")]);
}

#[test]
fn the_powers_are_those_of_the_primary() {
    let clock = ManualClock::new();
    let poor = FaultyBackend::new(memory(&clock)).without(Power::Counter).without(Power::Scan);
    let fallback = FallbackBackend::builder(Arc::new(poor), memory(&clock)).timer(Arc::new(clock)).build().unwrap();
    assert!(fallback.as_counter().is_none() && fallback.as_scan().is_none() && fallback.as_bus().is_none());
    assert!(fallback.as_atomic().is_some() && fallback.as_lock().is_some() && fallback.as_inspect().is_some());
}

#[tokio::test]
async fn a_server_that_is_read_only_costs_no_counter_and_no_lock() {
    let world = World::new();
    world.put_behind("n", "7").await;
    world.put_behind("l", "of another process").await;
    let (counter, lock) = (world.fallback.as_counter().unwrap(), world.fallback.as_lock().unwrap());
    for operation in [Operation::Increment, Operation::Acquire, Operation::Extend, Operation::Release] {
        world.primary.set_for(operation, Fault::Fail(ErrorKind::ReadOnly));
        world.primary.set_for(Operation::DeleteMany, Fault::Fail(ErrorKind::ReadOnly));
        let refused = match operation {
            Operation::Increment => counter.increment(&key("n"), 1, None).await.map(drop),
            Operation::Acquire => lock.acquire(&key("l"), "t", LIFE).await.map(drop),
            Operation::Extend => lock.extend(&key("l"), "t", LIFE).await.map(drop),
            _ => lock.release(&key("l"), "t").await.map(drop),
        };
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ReadOnly);
        // It answers PING, and is used again when it takes a removal.
        world.clock.advance_and_settle(SECOND * 10).await;
        assert_ne!(world.fallback.state(), BreakerState::Closed);
        world.return_primary().await;
    }
    assert_eq!(world.behind("n").await.as_deref(), Some(&b"7"[..]));
    assert_eq!(world.behind("l").await.as_deref(), Some(&b"of another process"[..]));
}

#[tokio::test]
async fn a_listing_that_an_outage_falls_into_is_an_error_and_not_shorter() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        world.put_behind(name, "v").await;
    }
    let all = Pattern::prefix("");
    let mut pages = world.fallback.as_scan().unwrap().scan(&all, 1);
    assert_eq!(pages.try_next().await.unwrap().unwrap().len(), 1);
    world.fallback.force_open();
    assert_eq!(pages.try_next().await.unwrap_err().kind(), ErrorKind::Unavailable);
}
