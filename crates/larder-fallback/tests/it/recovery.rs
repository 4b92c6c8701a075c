//! How the primary comes back.

use std::sync::Arc;

use larder_core::{BackendExt, ErrorKind};
use larder_fallback::BreakerState;
use larder_testing::{Fault, Operation};

use crate::world::{MILLISECOND, SECOND, World, key};

#[tokio::test]
async fn the_breaker_closes_by_itself_once_the_primary_answers_a_ping() {
    let world = World::new();
    let mut states = world.fallback.subscribe();
    world.put_behind("a", "v").await;
    world.lose_primary().await;
    assert_eq!(*states.borrow_and_update(), BreakerState::Open);
    world.clock.advance_and_settle(SECOND * 2).await;
    assert!(!world.fallback.state().lets_calls_through());
    assert!(world.fallback.stats().probes >= 2);
    world.return_primary().await;
    assert_eq!(*states.borrow_and_update(), BreakerState::Closed);
    assert_eq!(world.get("a").await.as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn a_thousand_callers_cause_one_probe_and_none_of_them_reaches_the_primary() {
    let world = World::new();
    world.lose_primary().await;
    world.primary.reset_calls();
    world.primary.heal();
    world.primary.set_for(Operation::Ping, Fault::Hold);
    world.clock.advance_and_settle(MILLISECOND * 250).await;
    assert_eq!(world.fallback.state(), BreakerState::HalfOpen);
    let callers: Vec<_> = (0..1000)
        .map(|number| {
            let fallback = Arc::clone(&world.fallback);
            tokio::spawn(async move { fallback.get(&key(&format!("k{number}"))).await })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.expect("it does not panic").expect("a miss"), None);
    }
    assert_eq!((world.primary.calls(), world.primary.calls_of(Operation::Ping)), (1, 1));
    world.primary.heal();
    world.clock.settle().await;
    assert_eq!(world.fallback.state(), BreakerState::Closed);
}

#[tokio::test]
async fn what_was_removed_in_an_outage_is_gone_before_the_primary_is_read_again() {
    let world = World::new();
    for name in ["a", "b", "kept"] {
        world.put_behind(name, "old").await;
    }
    world.lose_primary().await;
    world.delete("a").await.expect_err("it is deferred");
    world.set("b", "newer").await;
    // The server is back, but the removals do not go through yet.
    world.primary.heal();
    world.primary.set_for(Operation::DeleteMany, Fault::Fail(ErrorKind::Unavailable));
    world.clock.advance_and_settle(SECOND * 31).await;
    assert_ne!(world.fallback.state(), BreakerState::Closed);
    assert_eq!(world.get("a").await, None);
    world.return_primary().await;
    assert_eq!((world.behind("a").await, world.behind("b").await), (None, None));
    assert_eq!((world.get("a").await, world.get("b").await), (None, None));
    assert_eq!(world.get("kept").await.as_deref(), Some(&b"old"[..]));
    let stats = world.fallback.stats();
    assert_eq!((stats.journal, stats.replayed), (0, 2));
}

#[tokio::test]
async fn a_removal_during_the_replay_is_replayed_too() {
    let world = World::new();
    world.put_behind("a", "old").await;
    world.put_behind("b", "old").await;
    world.lose_primary().await;
    world.delete("a").await.expect_err("it is deferred");
    world.primary.heal();
    world.primary.set_for(Operation::DeleteMany, Fault::Hold);
    world.clock.advance_and_settle(MILLISECOND * 250).await;
    assert_eq!(world.primary.stuck(), 1);
    world.delete("b").await.expect_err("it is deferred");
    world.primary.heal();
    world.clock.settle().await;
    assert_eq!(world.fallback.state(), BreakerState::Closed);
    assert_eq!((world.behind("a").await, world.behind("b").await), (None, None));
}

#[tokio::test]
async fn values_of_the_outage_are_dropped_and_not_copied() {
    let world = World::new();
    world.lose_primary().await;
    for name in ["a", "b", "c"] {
        world.set(name, "of the outage").await;
    }
    assert_eq!(world.secondary.entries(), 3);
    world.return_primary().await;
    assert_eq!(world.secondary.entries(), 0);
    assert_eq!((world.get("a").await, world.behind("a").await), (None, None));
    // Nor do they come back with the next outage.
    world.lose_primary().await;
    assert_eq!(world.get("a").await, None);
}

#[tokio::test]
async fn values_of_an_outage_do_not_outlive_it_even_if_the_secondary_cannot_list_them() {
    let world = World::new();
    world.lose_primary().await;
    world.set("a", "of the outage").await;
    world.fallback.force_closed();
    world.fallback.force_open();
    assert_eq!(world.get("a").await, None);
}

#[tokio::test]
async fn forced_open_asks_nothing_and_does_not_probe() {
    let world = World::new();
    world.put_behind("a", "v").await;
    world.fallback.force_open();
    assert_eq!(world.get("a").await, None);
    world.clock.advance_and_settle(SECOND * 120).await;
    assert_eq!(world.primary.calls(), 0);
    assert_eq!(world.fallback.state(), BreakerState::ForcedOpen);
    world.fallback.auto();
    world.clock.settle().await;
    assert_eq!(world.fallback.state(), BreakerState::Closed);
    assert_eq!(world.get("a").await.as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn forced_closed_goes_on_asking() {
    let world = World::new();
    world.fallback.force_closed();
    world.primary.fail(ErrorKind::Unavailable);
    for _ in 0..10 {
        assert_eq!(world.get("a").await, None);
    }
    assert_eq!(world.primary.calls_of(Operation::GetMany), 10);
    assert_eq!(world.fallback.state(), BreakerState::ForcedClosed);
}

#[tokio::test]
async fn removals_are_replayed_after_forcing_closed_too() {
    let world = World::new();
    world.put_behind("a", "old").await;
    world.lose_primary().await;
    world.delete("a").await.expect_err("it is deferred");
    world.fallback.force_closed();
    // The primary still fails: the key stays away from it.
    assert_eq!(world.get("a").await, None);
    world.primary.heal();
    world.clock.advance_and_settle(SECOND * 10).await;
    assert_eq!(world.behind("a").await, None);
    assert_eq!(world.fallback.stats().journal, 0);
}

#[test]
fn a_recovery_whose_runtime_is_gone_goes_on_in_the_next_one() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let world = World::new();
    let first = runtime();
    first.block_on(async {
        world.lose_primary().await;
        world.primary.set_for(Operation::Ping, Fault::Hang);
        world.clock.advance_and_settle(MILLISECOND * 250).await;
        assert_eq!(world.fallback.state(), BreakerState::HalfOpen);
    });
    drop(first);
    runtime().block_on(async {
        world.primary.heal();
        world.get("a").await;
        world.clock.settle().await;
        assert_eq!(world.fallback.state(), BreakerState::Closed);
    });
}

#[tokio::test]
async fn a_dropped_fallback_ends_its_recovery() {
    let world = World::new();
    world.lose_primary().await;
    world.clock.settle().await;
    assert_eq!(world.clock.sleepers(), 1);
    drop(world.fallback);
    world.clock.settle().await;
    assert_eq!(world.clock.sleepers(), 0);
}

#[tokio::test]
async fn the_last_entries_of_the_secondary_belong_to_this_fallback_alone() {
    let world = World::new();
    world.secondary.set(&key("of somebody else"), "v".into(), larder_core::SetOptions::new()).await.expect("memory");
    world.lose_primary().await;
    world.set("a", "v").await;
    world.return_primary().await;
    assert_eq!(world.secondary.entries(), 1);
}

#[tokio::test]
async fn forced_open_ends_a_replay_that_is_under_way() {
    let world = World::new();
    world.lose_primary().await;
    for number in 0..1000 {
        world.delete(&number.to_string()).await.expect_err("it is deferred");
    }
    world.primary.heal();
    world.primary.set_for(Operation::DeleteMany, Fault::Hold);
    world.clock.advance_and_settle(MILLISECOND * 250).await;
    world.primary.until_stuck(1).await;
    world.fallback.force_open();
    world.primary.reset_calls();
    world.primary.heal();
    world.clock.advance_and_settle(SECOND * 10).await;
    assert_eq!((world.primary.calls(), world.fallback.state()), (0, BreakerState::ForcedOpen));
    world.fallback.auto();
    world.clock.settle().await;
    let stats = world.fallback.stats();
    assert_eq!((stats.state, stats.journal), (BreakerState::Closed, 0));
}

#[test]
fn a_recovery_whose_runtime_stands_still_goes_on_in_another() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for stuck in [Fault::None, Fault::Hang] {
        let world = World::new();
        let first = runtime();
        first.block_on(async {
            world.lose_primary().await;
            world.primary.set_for(Operation::Ping, stuck);
            world.clock.advance_and_settle(MILLISECOND * 100).await;
            if stuck == Fault::Hang {
                world.clock.advance_and_settle(MILLISECOND * 150).await;
                assert_eq!(world.fallback.state(), BreakerState::HalfOpen);
            }
        });
        // It is there, and nobody drives it.
        runtime().block_on(async {
            world.primary.heal();
            world.clock.advance(SECOND * 5);
            world.get("a").await;
            world.clock.settle().await;
            assert_eq!(world.fallback.state(), BreakerState::Closed);
        });
        drop(first);
    }
}
