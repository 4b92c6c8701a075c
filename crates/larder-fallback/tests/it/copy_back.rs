//! What an outage leaves to a primary that is back, where that was asked for.

use std::sync::Arc;

use larder_core::{Atomic, Backend, BackendExt, Bytes, ErrorKind, Expected, SetOptions, SetOutcome};
use larder_fallback::{BreakerState, FallbackBackend, FallbackBuilder};
use larder_testing::{Fault, Operation};

use crate::world::{MILLISECOND, SECOND, World, key};

fn copying() -> World {
    World::with(|builder| builder.copy_back(100, 1 << 20))
}

async fn set_for(world: &World, name: &str, value: &'static str, life: std::time::Duration) {
    let options = SetOptions::new().ttl(life);
    world.fallback.set(&key(name), Bytes::from(value), options).await.expect("writes fall back");
}

fn atomic(world: &World) -> &dyn Atomic {
    world.fallback.as_atomic().expect("memory compares")
}

#[tokio::test]
async fn values_of_the_outage_are_copied_with_what_is_left_of_their_lives() {
    let world = copying();
    world.put_behind("a", "old").await;
    world.lose_primary().await;
    set_for(&world, "a", "new", SECOND * 20).await;
    world.clock.advance_and_settle(SECOND * 12).await;
    world.primary.heal();
    world.clock.advance_and_settle(SECOND).await;
    assert_eq!(world.fallback.state(), BreakerState::Closed);
    assert_eq!(world.behind("a").await.as_deref(), Some(&b"new"[..]));
    assert_eq!(world.fallback.stats().copied, 1);
    world.clock.advance_and_settle(SECOND * 8).await;
    assert_eq!(world.behind("a").await, None, "it had less than eight seconds left");
}

#[tokio::test]
async fn what_was_filled_in_by_comparison_is_copied_and_a_token_is_not() {
    let world = copying();
    world.lose_primary().await;
    for name in ["filled", "begun"] {
        assert_eq!(atomic(&world).get_or_set(&key(name), "token".into(), SECOND * 30).await.unwrap(), None);
    }
    let token = Expected::exactly("token");
    let stored = atomic(&world).compare_and_set(&key("filled"), &token, "value".into(), SetOptions::new()).await;
    assert_eq!(stored.unwrap(), SetOutcome::Stored);
    // One whose value ended, so that a token took its place.
    set_for(&world, "ended", "value", SECOND).await;
    world.clock.advance_and_settle(SECOND).await;
    assert_eq!(atomic(&world).get_or_set(&key("ended"), "token".into(), SECOND * 30).await.unwrap(), None);
    world.primary.heal();
    world.clock.advance_and_settle(SECOND).await;
    assert_eq!(world.behind("filled").await.as_deref(), Some(&b"value"[..]));
    assert_eq!((world.behind("begun").await, world.behind("ended").await), (None, None));
}

#[tokio::test]
async fn what_was_removed_since_is_not_copied() {
    let world = copying();
    world.lose_primary().await;
    for name in ["removed", "dropped", "kept"] {
        world.set(name, "of the outage").await;
    }
    world.delete("removed").await.expect_err("it is deferred");
    assert!(atomic(&world).compare_and_delete(&key("dropped"), &Expected::exactly("of the outage")).await.unwrap());
    world.return_primary().await;
    assert_eq!((world.behind("removed").await, world.behind("dropped").await), (None, None));
    assert_eq!(world.behind("kept").await.as_deref(), Some(&b"of the outage"[..]));
}

/// Another process does not do that here, as is promised; a server that comes back with more than was known may.
#[tokio::test]
async fn what_the_primary_holds_is_not_overwritten() {
    let world = copying();
    world.lose_primary().await;
    assert_eq!(atomic(&world).get_or_set(&key("a"), "token".into(), SECOND * 30).await.unwrap(), None);
    let token = Expected::exactly("token");
    atomic(&world).compare_and_set(&key("a"), &token, "of the outage".into(), SetOptions::new()).await.unwrap();
    world.put_behind("a", "newer").await;
    world.return_primary().await;
    assert_eq!(world.behind("a").await.as_deref(), Some(&b"newer"[..]));
    assert_eq!(world.fallback.stats().copied, 0);
}

#[tokio::test]
async fn a_removal_that_falls_together_with_the_copy_comes_behind_it() {
    let world = copying();
    world.lose_primary().await;
    world.set("a", "of the outage").await;
    world.set("b", "of the outage").await;
    world.primary.heal();
    world.primary.set_for(Operation::SetMany, Fault::Hold);
    world.clock.advance_and_settle(MILLISECOND * 250).await;
    assert_eq!((world.primary.stuck(), world.fallback.state()), (1, BreakerState::HalfOpen));
    world.delete("a").await.expect_err("it is deferred");
    world.primary.heal();
    world.clock.settle().await;
    assert_eq!(world.fallback.state(), BreakerState::Closed);
    assert_eq!(world.behind("a").await, None);
    assert_eq!(world.behind("b").await.as_deref(), Some(&b"of the outage"[..]));
}

#[tokio::test]
async fn a_primary_that_takes_no_copies_is_used_all_the_same_and_what_they_did_is_undone() {
    let world = copying();
    world.lose_primary().await;
    world.set("a", "of the outage").await;
    world.primary.heal();
    world.primary.set_for(Operation::SetMany, Fault::Hang);
    world.clock.advance_and_settle(MILLISECOND * 250).await;
    world.clock.advance_and_settle(MILLISECOND * 50).await;
    assert_eq!(world.fallback.state(), BreakerState::Closed);
    assert_eq!((world.behind("a").await, world.fallback.stats().replayed), (None, 2));
    assert_eq!(world.fallback.stats().journal, 0);
}

#[tokio::test]
async fn what_is_copied_is_bounded() {
    let world = World::with(|builder| builder.copy_back(3, 1 << 20));
    world.lose_primary().await;
    for name in ["a", "b", "c", "d", "e"] {
        world.set(name, "of the outage").await;
    }
    world.return_primary().await;
    assert_eq!(world.fallback.stats().copied, 3);
}

#[test]
fn where_others_may_have_changed_what_is_copied_it_is_refused() {
    let world = World::new();
    let build = |settings: fn(FallbackBuilder) -> FallbackBuilder| {
        let (primary, secondary) = (Arc::clone(&world.primary), Arc::clone(&world.secondary));
        let error = settings(FallbackBackend::builder(primary, secondary)).build().expect_err("it is unsafe");
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    for (setting, message) in [
        ("announce", build(|builder| builder.copy_back(1, 1024).announce("c".into(), Arc::new(|_| Bytes::new())))),
        ("generation", build(|builder| builder.copy_back(1, 1024).generation(key("generation")))),
        ("local_counters", build(|builder| builder.copy_back(1, 1024).local_counters(true))),
        ("at least 1", build(|builder| builder.copy_back(0, 1024))),
    ] {
        assert!(message.contains("`copy_back`") && message.contains(setting), "{message}");
    }
}
