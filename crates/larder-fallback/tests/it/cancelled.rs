//! Callers that go away.

use std::sync::Arc;

use larder_core::{BackendExt, Bytes, SetOptions};
use larder_fallback::BreakerState;
use larder_testing::{Fault, Operation};

use crate::world::{MILLISECOND, SECOND, World, key};

#[tokio::test]
async fn a_removal_or_write_whose_caller_went_away_is_remembered() {
    let world = World::new();
    world.put_behind("a", "old").await;
    world.primary.hang();
    let fallback = Arc::clone(&world.fallback);
    let delete = tokio::spawn(async move { fallback.delete(&key("a")).await });
    let fallback = Arc::clone(&world.fallback);
    let set = tokio::spawn(async move { fallback.set(&key("b"), Bytes::from("v"), SetOptions::new()).await });
    world.primary.until_stuck(2).await;
    world.clock.advance(MILLISECOND * 5);
    delete.abort();
    set.abort();
    world.clock.settle().await;
    let stats = world.fallback.stats();
    assert_eq!((stats.journal, stats.failures), (2, 0));
    world.primary.heal();
    world.clock.advance_and_settle(SECOND * 10).await;
    assert_eq!(world.behind("a").await, None);
}

#[tokio::test]
async fn a_caller_that_gives_up_near_the_deadline_counts_as_a_time_out() {
    let world = World::new();
    world.primary.hang();
    for waited in [10, 45] {
        let fallback = Arc::clone(&world.fallback);
        let read = tokio::spawn(async move { fallback.get(&key("a")).await });
        world.clock.advance_and_settle(MILLISECOND * waited).await;
        read.abort();
        world.clock.settle().await;
    }
    assert_eq!(world.fallback.stats().failures, 1);
}

#[tokio::test]
async fn callers_that_go_away_while_the_breaker_is_half_open_leave_the_probe_alone() {
    let world = World::new();
    world.lose_primary().await;
    world.primary.heal();
    world.primary.set_for(Operation::Ping, Fault::Hold);
    world.clock.advance_and_settle(MILLISECOND * 250).await;
    assert_eq!(world.fallback.state(), BreakerState::HalfOpen);
    for _ in 0..10 {
        let fallback = Arc::clone(&world.fallback);
        let read = tokio::spawn(async move { fallback.get(&key("a")).await });
        read.abort();
        world.clock.settle().await;
    }
    world.primary.heal();
    world.clock.settle().await;
    assert_eq!(world.fallback.state(), BreakerState::Closed);
}

#[tokio::test]
async fn callers_that_give_up_early_count_only_if_nobody_gets_an_answer() {
    let world = World::new();
    let give_up = async |after: u32| {
        world.primary.hang();
        let fallback = Arc::clone(&world.fallback);
        let read = tokio::spawn(async move { fallback.get(&key("a")).await });
        world.clock.advance_and_settle(MILLISECOND * after).await;
        read.abort();
        world.clock.settle().await;
        world.primary.heal();
    };
    for round in 0..100 {
        give_up(10).await;
        if round % 10 == 9 {
            assert_eq!(world.get("a").await, None);
        }
    }
    for _ in 0..100 {
        give_up(1).await;
    }
    assert_eq!((world.fallback.state(), world.fallback.stats().failures), (BreakerState::Closed, 0));
    for _ in 0..22 {
        give_up(10).await;
    }
    assert_eq!(world.fallback.stats().opened, 1);
}
