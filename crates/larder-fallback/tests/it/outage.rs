//! What callers see while the primary is away.

use std::sync::Arc;

use async_trait::async_trait;
use larder_core::{
    Backend, BackendExt, Bytes, Each, Error, ErrorKind, Expiry, Found, GetOptions, Key, Remaining, Result, SetItem,
    SetOptions, SetOutcome,
};
use larder_fallback::{BreakerState, Deferred, FallbackBackend};
use larder_testing::{Fault, ManualClock, Operation};

use crate::world::{MILLISECOND, SECOND, World, key, memory};

#[tokio::test]
async fn reads_and_writes_go_on_in_the_secondary() {
    let world = World::new();
    world.put_behind("a", "from the primary").await;
    world.lose_primary().await;
    assert_eq!(world.get("a").await, None);
    world.set("a", "meanwhile").await;
    assert_eq!(world.get("a").await.as_deref(), Some(&b"meanwhile"[..]));
    assert_eq!(world.behind("a").await.as_deref(), Some(&b"from the primary"[..]));
}

#[tokio::test]
async fn an_open_breaker_asks_the_primary_for_nothing() {
    let world = World::new();
    world.lose_primary().await;
    world.primary.reset_calls();
    for _ in 0..100 {
        world.get("a").await;
    }
    assert_eq!(world.primary.calls(), 0);
    assert_eq!(world.fallback.stats().short_circuited, 100);
    assert_eq!(world.fallback.ping().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_primary_that_hangs_costs_the_deadline_and_no_more() {
    let world = World::new();
    world.primary.hang();
    let fallback = Arc::clone(&world.fallback);
    let read = tokio::spawn(async move { fallback.get(&key("a")).await });
    world.clock.advance_and_settle(MILLISECOND * 49).await;
    assert!(!read.is_finished());
    world.clock.advance_and_settle(MILLISECOND).await;
    assert!(read.is_finished());
    assert_eq!(read.await.expect("it does not panic").expect("a miss"), None);
    assert_eq!(world.fallback.stats().failures, 1);
}

#[tokio::test]
async fn time_outs_open_the_breaker() {
    let world = World::new();
    world.primary.hang();
    for _ in 0..3 {
        let fallback = Arc::clone(&world.fallback);
        let read = tokio::spawn(async move { fallback.get(&key("a")).await });
        world.clock.advance_and_settle(MILLISECOND * 50).await;
        read.await.expect("it does not panic").expect("a miss");
    }
    assert!(!world.fallback.state().lets_calls_through());
    assert_eq!(world.fallback.stats().opened, 1);
}

#[tokio::test]
async fn misses_and_refusals_do_not_count() {
    let world = World::new();
    for _ in 0..10 {
        assert_eq!(world.get("absent").await, None);
    }
    for kind in [ErrorKind::KindMismatch, ErrorKind::InvalidArgument, ErrorKind::TooLarge, ErrorKind::Overloaded] {
        world.primary.fail(kind);
        for _ in 0..10 {
            let read = world.fallback.get(&key("a")).await;
            match kind {
                // A bound on concurrent work says nothing about the server, but there is no value either.
                ErrorKind::Overloaded => assert_eq!(read.expect("a miss"), None),
                _ => assert_eq!(read.unwrap_err().kind(), kind),
            }
        }
    }
    let stats = world.fallback.stats();
    assert_eq!((stats.state, stats.failures, stats.opened), (BreakerState::Closed, 0, 0));
}

#[tokio::test]
async fn what_is_stored_in_an_outage_lives_for_the_outage_ttl_at_most() {
    let world = World::new();
    world.lose_primary().await;
    world.set("for ever", "v").await;
    let options = SetOptions::new().ttl(SECOND * 5);
    world.fallback.set(&key("short"), Bytes::from("v"), options).await.expect("writes fall back");
    let options = SetOptions::new().keep_ttl();
    world.fallback.set(&key("short"), Bytes::from("w"), options).await.expect("writes fall back");
    assert_eq!(world.fallback.ttl(&key("short")).await.unwrap(), Some(Remaining::For(SECOND * 5)));
    assert_eq!(world.fallback.ttl(&key("for ever")).await.unwrap(), Some(Remaining::For(SECOND * 60)));
    let options = SetOptions::new().ttl(SECOND * 3600);
    world.fallback.set(&key("an hour"), Bytes::from("v"), options).await.expect("writes fall back");
    assert_eq!(world.fallback.ttl(&key("an hour")).await.unwrap(), Some(Remaining::For(SECOND * 60)));
    assert!(world.fallback.expire(&key("for ever"), Expiry::Never).await.unwrap());
    assert!(world.fallback.expire(&key("an hour"), Expiry::After(SECOND * 3600)).await.unwrap());
    assert_eq!(world.fallback.ttl(&key("an hour")).await.unwrap(), Some(Remaining::For(SECOND * 60)));
    world.clock.advance_and_settle(SECOND * 60).await;
    assert_eq!(world.get("for ever").await, None);
}

#[tokio::test]
async fn a_removal_says_that_it_is_deferred_and_what_becomes_of_it() {
    let world = World::with(|builder| builder.journal_keys(2));
    world.lose_primary().await;
    world.set("a", "v").await;
    let deferred = world.delete("a").await.unwrap_err();
    assert_eq!(deferred.kind(), ErrorKind::Unavailable);
    assert!(!Deferred::of(&deferred).expect("it is deferred").lost);
    assert_eq!(world.get("a").await, None);
    assert!(!Deferred::of(&world.delete("b").await.unwrap_err()).expect("it is deferred").lost);
    let lost = world.delete("c").await.unwrap_err();
    assert!(Deferred::of(&lost).expect("it says so").lost);
    assert!(lost.to_string().contains("journal_keys"), "{lost}");
    let stats = world.fallback.stats();
    assert_eq!((stats.journal, stats.lost), (2, 1));
    assert_eq!(Deferred::of(&Error::new(ErrorKind::Unavailable, "get", "")), None);
}

#[tokio::test]
async fn a_conditional_write_is_not_decided_locally_unless_asked() {
    let world = World::new();
    world.lose_primary().await;
    let add = SetOptions::new().only_if_absent();
    let refused = world.fallback.set(&key("a"), Bytes::from("v"), add).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);

    let world = World::with(|builder| builder.local_counters(true));
    world.lose_primary().await;
    let first = world.fallback.set(&key("a"), Bytes::from("v"), add).await.expect("it was asked for");
    let second = world.fallback.set(&key("a"), Bytes::from("w"), add).await.expect("it was asked for");
    assert_eq!((first, second), (SetOutcome::StoodIn, SetOutcome::Rejected));
}

/// Fails for one key of each batch.
#[derive(Debug)]
struct OneBadKey {
    inner: Arc<dyn Backend>,
    bad: Key,
}

impl OneBadKey {
    fn spoil<T>(&self, keys: &[Key], answers: Each<T>) -> Each<T> {
        let bad = || Err(Error::new(ErrorKind::Unavailable, "batch", "this shard is away"));
        keys.iter().zip(answers).map(|(key, answer)| if *key == self.bad { bad() } else { answer }).collect()
    }
}

#[async_trait]
impl Backend for OneBadKey {
    fn name(&self) -> &str {
        "one bad key"
    }

    async fn get_many(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
        self.spoil(keys, self.inner.get_many(keys, options).await)
    }

    async fn set_many(&self, items: &[SetItem]) -> Each<SetOutcome> {
        let keys: Vec<Key> = items.iter().map(|item| item.key.clone()).collect();
        self.spoil(&keys, self.inner.set_many(items).await)
    }

    async fn delete_many(&self, keys: &[Key]) -> Each<bool> {
        self.spoil(keys, self.inner.delete_many(keys).await)
    }

    async fn ttl_many(&self, keys: &[Key]) -> Each<Option<Remaining>> {
        self.spoil(keys, self.inner.ttl_many(keys).await)
    }

    async fn expire_many(&self, keys: &[Key], expiry: Expiry) -> Each<bool> {
        self.spoil(keys, self.inner.expire_many(keys, expiry).await)
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }
}

#[tokio::test]
async fn one_key_that_fails_falls_back_alone() {
    let clock = ManualClock::new();
    let primary = OneBadKey { inner: memory(&clock), bad: key("bad") };
    let fallback =
        FallbackBackend::builder(Arc::new(primary), memory(&clock)).timer(Arc::new(clock.clone())).build().unwrap();
    for round in ["1", "2", "3", "4"] {
        let items = ["good", "bad"].map(|name| SetItem::new(key(name), Bytes::from(round), SetOptions::new()));
        for outcome in fallback.set_many(&items).await {
            assert!(outcome.expect("both are stored somewhere").is_stored());
        }
        for found in
            fallback.get_many(&[key("bad"), key("good"), key("absent")], GetOptions::new()).await.into_iter().take(2)
        {
            assert_eq!(found.expect("both are read").expect("both are there").value, round);
        }
    }
    // The primary answered each time: that is no outage.
    assert_eq!(fallback.state(), BreakerState::Closed);
    assert_eq!(fallback.stats().journal, 1);
}

#[tokio::test]
async fn a_batch_in_which_one_key_failed_is_no_fault() {
    let clock = ManualClock::new();
    let primary = OneBadKey { inner: memory(&clock), bad: key("bad") };
    let fallback =
        FallbackBackend::builder(Arc::new(primary), memory(&clock)).timer(Arc::new(clock.clone())).build().unwrap();
    for _ in 0..10 {
        for found in fallback.get_many(&[key("bad"), key("good")], GetOptions::new()).await {
            assert_eq!(found.expect("a miss"), None);
        }
    }
    assert_eq!(fallback.stats().failures, 0);
    for _ in 0..3 {
        fallback.get(&key("bad")).await.expect("a miss");
    }
    assert_eq!(fallback.state(), BreakerState::Open);
}

#[tokio::test]
async fn a_write_of_unknown_outcome_keeps_its_key_from_the_primary_until_it_was_removed() {
    let world = World::new();
    world.primary.set_for(Operation::SetMany, Fault::LoseAnswer(ErrorKind::Timeout));
    world.primary.set_for(Operation::DeleteMany, Fault::Fail(ErrorKind::Unavailable));
    world.set("a", "v").await;
    assert_eq!(world.fallback.state(), BreakerState::Closed);
    assert_eq!(world.behind("a").await.as_deref(), Some(&b"v"[..]));
    // Another process writes; ours must not take either for the truth before its own removal went through.
    world.put_behind("a", "of another process").await;
    assert_eq!(world.get("a").await.as_deref(), Some(&b"v"[..]));
    world.primary.heal();
    world.clock.advance_and_settle(SECOND * 10).await;
    assert_eq!(world.fallback.stats().journal, 0);
    assert_eq!(world.get("a").await, None);
}

#[tokio::test]
async fn an_add_that_was_not_sent_leaves_what_stands_there() {
    let world = World::with(|builder| builder.max_calls(1));
    world.put_behind("a", "first").await;
    let add = SetOptions::new().only_if_absent();
    world.fallback.force_open();
    let refused = world.fallback.set(&key("a"), Bytes::from("second"), add).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    world.fallback.auto();
    world.clock.settle().await;
    assert_eq!(world.behind("a").await.as_deref(), Some(&b"first"[..]));

    world.primary.set(Fault::Hold);
    let fallback = Arc::clone(&world.fallback);
    let read = tokio::spawn(async move { fallback.get(&key("b")).await });
    world.primary.until_stuck(1).await;
    let refused = world.fallback.set(&key("a"), Bytes::from("second"), add).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    world.primary.heal();
    read.await.expect("it does not panic").expect("a miss");
    world.clock.settle().await;
    assert_eq!(world.behind("a").await.as_deref(), Some(&b"first"[..]));
}

#[tokio::test]
async fn a_value_that_the_secondary_does_not_take_leaves_no_older_one_there() {
    let world = World::new();
    world.fallback.force_open();
    world.set("a", "older").await;
    let large = Bytes::from(vec![0; 9 << 20]);
    let refused = world.fallback.set(&key("a"), large, SetOptions::new()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    assert_eq!(world.get("a").await, None);
}
