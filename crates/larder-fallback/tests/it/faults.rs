//! What the kind of a fault, its share and its slowness change.

use std::time::Duration;

use std::sync::Arc;

use larder_core::{Backend, BackendExt, Bytes, ErrorKind, SetItem, SetOptions};
use larder_fallback::{BreakerSettings, BreakerState, Deferred};
use larder_testing::{Fault, Operation};

use crate::world::{MILLISECOND, SECOND, World, key};

#[tokio::test]
async fn each_kind_of_fault_is_counted_apart_and_the_last_one_is_told() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Loading, ErrorKind::Auth, ErrorKind::Protocol] {
        let world = World::new();
        world.primary.fail(kind);
        for _ in 0..3 {
            world.get("a").await;
        }
        let stats = world.fallback.stats();
        assert_eq!((stats.faults.of(kind), stats.faults.total(), stats.failures), (3, 3, 3), "{kind}");
        assert_eq!(stats.hidden, 3);
        assert_eq!(world.fallback.state(), BreakerState::Open, "{kind}");
        assert_eq!(world.fallback.last_fault().expect("there was one").1.kind(), kind);
        assert!(world.fallback.away_since().is_some());
        world.return_primary().await;
        assert_eq!(world.fallback.away_since(), None);
    }
}

#[tokio::test]
async fn a_fault_that_a_caller_is_told_of_is_not_hidden() {
    let world = World::new();
    world.primary.fail(ErrorKind::Unavailable);
    let told = world.fallback.get_many_or_fault(&[key("a")], larder_core::GetOptions::new(), Duration::MAX).await;
    assert!(told[0].is_err());
    assert_eq!(world.fallback.stats().hidden, 0);
}

#[tokio::test]
async fn a_primary_that_fails_every_other_call_is_found_out() {
    let world = World::new();
    world.put_behind("a", "v").await;
    for round in 0..30 {
        world.primary.fail_next(1, ErrorKind::Unavailable);
        world.get("a").await;
        if world.fallback.state() == BreakerState::Open {
            assert!(round >= 9, "that was too early: {round}");
            return;
        }
        world.get("a").await;
    }
    panic!("it was not found out");
}

#[tokio::test]
async fn a_server_without_memory_is_still_read_and_its_old_value_is_removed() {
    let world = World::new();
    for name in ["kept", "overwritten", "removed"] {
        world.put_behind(name, "old").await;
    }
    for operation in [Operation::SetMany, Operation::GetOrSet, Operation::CompareAndSet] {
        world.primary.set_for(operation, Fault::Fail(ErrorKind::OutOfMemory));
    }
    let atomic = world.fallback.as_atomic().unwrap();
    for _ in 0..30 {
        let refused = atomic.get_or_set(&key("absent"), Bytes::from("token"), SECOND).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::OutOfMemory);
    }
    assert_eq!(world.fallback.state(), BreakerState::Closed);
    assert_eq!(world.fallback.stats().journal, 0, "nothing was written, so nothing has to be removed");
    assert!(world.fallback.writes_refused_since().is_some());
    assert_eq!(world.get("kept").await.as_deref(), Some(&b"old"[..]));
    assert!(world.delete("removed").await.expect("removals need no memory"));

    // The caller's value did not get in. The one that it was to replace must not be read again.
    world.set("overwritten", "new").await;
    assert_eq!(world.get("overwritten").await.as_deref(), Some(&b"new"[..]));
    world.clock.settle().await;
    assert_eq!(world.behind("overwritten").await, None);
    assert_eq!(world.fallback.stats().journal, 0);

    world.primary.heal();
    world.clock.advance(SECOND);
    world.set("b", "v").await;
    assert_eq!(world.fallback.writes_refused_since(), None);
}

#[tokio::test]
async fn a_server_that_is_read_only_is_not_read_and_must_take_a_removal_before_it_is() {
    let world = World::new();
    world.put_behind("a", "of a replica").await;
    world.primary.set_for(Operation::GetOrSet, Fault::Fail(ErrorKind::ReadOnly));
    world.primary.set_for(Operation::DeleteMany, Fault::Fail(ErrorKind::ReadOnly));
    assert!(world.get("a").await.is_some());
    let atomic = world.fallback.as_atomic().unwrap();
    let token = Bytes::from("token");
    assert_eq!(atomic.get_or_set(&key("b"), token.clone(), SECOND).await.unwrap(), None, "the secondary takes it");
    assert_eq!(world.fallback.state(), BreakerState::Open);
    assert_eq!(world.get("a").await, None);
    // It answers PING all the time.
    world.clock.advance_and_settle(SECOND * 10).await;
    assert_ne!(world.fallback.state(), BreakerState::Closed);
    assert_eq!(world.fallback.last_fault().unwrap().1.kind(), ErrorKind::ReadOnly);
    world.return_primary().await;
    assert!(world.get("a").await.is_some());
}

#[tokio::test]
async fn slow_answers_open_the_breaker_and_a_slow_pong_keeps_it_open() {
    let world = World::with(|builder| {
        let mut breaker = BreakerSettings::default();
        breaker.minimum_calls = 5;
        builder.breaker(breaker).slow_call(MILLISECOND * 30)
    });
    let slowly = async |milliseconds: u32| {
        world.primary.set(Fault::Hold);
        let fallback = Arc::clone(&world.fallback);
        let read = tokio::spawn(async move { fallback.get(&key("a")).await });
        world.primary.until_stuck(1).await;
        world.clock.advance_and_settle(MILLISECOND * milliseconds).await;
        world.primary.set(Fault::None);
        read.await.expect("it does not panic").expect("a miss");
    };
    for _ in 0..5 {
        slowly(29).await;
    }
    assert_eq!((world.fallback.state(), world.fallback.stats().slow), (BreakerState::Closed, 0));
    for _ in 0..20 {
        if world.fallback.state() == BreakerState::Closed {
            slowly(30).await;
        }
    }
    let stats = world.fallback.stats();
    assert_eq!((stats.state, stats.opened, stats.failures), (BreakerState::Open, 1, 0));
    assert_eq!(stats.slow, 20);
    assert!(world.fallback.last_fault().unwrap().1.to_string().contains("slow_call"));

    world.primary.set_for(Operation::Ping, Fault::Hold);
    world.clock.advance_and_settle(MILLISECOND * 250).await;
    world.clock.advance_and_settle(MILLISECOND * 30).await;
    world.primary.set(Fault::None);
    world.clock.settle().await;
    assert_eq!(world.fallback.state(), BreakerState::Open, "the answer came too late");
    world.return_primary().await;
}

#[tokio::test]
async fn several_probes_must_be_answered_if_that_is_asked_for() {
    let world = World::with(|builder| {
        let mut breaker = BreakerSettings::default();
        breaker.successes = 3;
        builder.breaker(breaker)
    });
    world.lose_primary().await;
    world.primary.heal();
    world.clock.advance_and_settle(MILLISECOND * 250).await;
    assert_eq!((world.fallback.state(), world.fallback.stats().probes), (BreakerState::HalfOpen, 1));
    world.clock.advance_and_settle(MILLISECOND * 50).await;
    world.primary.fail(ErrorKind::Loading);
    world.clock.advance_and_settle(MILLISECOND * 50).await;
    assert_eq!((world.fallback.state(), world.fallback.stats().probes), (BreakerState::Open, 3));
    world.primary.heal();
    for _ in 0..20 {
        world.clock.advance_and_settle(MILLISECOND * 50).await;
    }
    assert_eq!((world.fallback.state(), world.fallback.stats().probes), (BreakerState::Closed, 6));
}

#[tokio::test]
async fn the_word_that_the_primary_is_back_ends_the_pause() {
    let world = World::new();
    world.lose_primary().await;
    world.primary.heal();
    world.clock.settle().await;
    assert_eq!(world.fallback.state(), BreakerState::Open);
    world.fallback.nudge();
    world.clock.settle().await;
    assert_eq!(world.fallback.state(), BreakerState::Closed);
}

#[tokio::test]
async fn calls_beyond_the_bound_are_not_sent_and_do_not_open_the_breaker() {
    let world = World::with(|builder| builder.max_calls(2));
    world.put_behind("a", "v").await;
    world.put_behind("c", "old").await;
    world.primary.set(Fault::Hold);
    let reads: Vec<_> = (0..2)
        .map(|_| {
            let fallback = Arc::clone(&world.fallback);
            tokio::spawn(async move { fallback.get(&key("a")).await })
        })
        .collect();
    world.primary.until_stuck(2).await;
    for _ in 0..100 {
        assert_eq!(world.get("a").await, None);
    }
    let told =
        world.fallback.get_many_or_fault(&[key("a")], larder_core::GetOptions::new(), Duration::MAX).await.remove(0);
    assert_eq!(told.unwrap_err().kind(), ErrorKind::Overloaded);
    assert!(Deferred::of(&world.delete("c").await.unwrap_err()).is_some());
    let options = SetOptions::new();
    assert!(world.fallback.set(&key("b"), Bytes::from("v"), options).await.is_ok(), "the journal holds its key");
    assert_eq!(world.primary.stuck(), 2);
    world.primary.heal();
    for read in reads {
        assert!(read.await.expect("it does not panic").expect("it was answered").is_some());
    }
    world.clock.settle().await;
    let stats = world.fallback.stats();
    assert_eq!((stats.state, stats.failures, stats.opened), (BreakerState::Closed, 0, 0));
    assert!(stats.overloaded >= 102, "{}", stats.overloaded);
    assert_eq!(world.behind("c").await, None, "the removal was made up for");
    assert_eq!(stats.journal, 0);
}

#[tokio::test]
async fn callers_that_go_away_give_their_place_back() {
    let world = World::with(|builder| builder.max_calls(1));
    world.put_behind("a", "v").await;
    world.primary.set(Fault::Hold);
    let fallback = Arc::clone(&world.fallback);
    let read = tokio::spawn(async move { fallback.get(&key("a")).await });
    world.primary.until_stuck(1).await;
    read.abort();
    world.clock.settle().await;
    world.primary.heal();
    assert!(world.get("a").await.is_some());
}

#[tokio::test]
async fn a_large_batch_of_writes_may_take_longer_than_one_of_them() {
    let world = World::new();
    world.primary.set_for(Operation::SetMany, Fault::Hold);
    let items: Vec<_> =
        (0..1000).map(|number| SetItem::new(key(&number.to_string()), Bytes::from("v"), SetOptions::new())).collect();
    let fallback = Arc::clone(&world.fallback);
    let writes = tokio::spawn(async move { fallback.set_many(&items).await });
    world.primary.until_stuck(1).await;
    world.clock.advance_and_settle(MILLISECOND * 200).await;
    world.primary.heal();
    assert!(writes.await.unwrap().iter().all(Result::is_ok));
    let stats = world.fallback.stats();
    assert_eq!((stats.journal, stats.replayed, stats.failures), (0, 0, 0));
    assert!(world.behind("999").await.is_some());
}
