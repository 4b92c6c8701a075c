//! The journal's bounds, and who is told of what it makes up for.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use larder_core::{
    Announcement, Backend, BackendExt, Bus, BusSource, Bytes, Each, Error, ErrorKind, Expiry, Found, GetOptions, Key,
    Remaining, Result, SetItem, SetOutcome,
};
use larder_fallback::{BreakerState, Deferred, FallbackBackend};
use larder_testing::{Fault, FaultyBackend, ManualClock, Operation};

use crate::world::{MILLISECOND, SECOND, World, key, memory};

#[tokio::test]
async fn an_overflow_makes_the_generation_go_and_nothing_is_read_before() {
    let world = World::with(|builder| builder.journal_keys(2).generation(key("generation")));
    for name in ["a", "b", "c", "untouched", "generation"] {
        world.put_behind(name, "old").await;
    }
    world.lose_primary().await;
    for name in ["a", "b", "c"] {
        let deferred = world.delete(name).await.unwrap_err();
        assert!(!Deferred::of(&deferred).expect("it is deferred").lost, "the generation covers it");
    }
    let stats = world.fallback.stats();
    assert_eq!((stats.journal, stats.lost, stats.overflown), (2, 1, true));

    // Even if everything is let through, no key is asked for while the generation stands.
    world.primary.heal();
    world.primary.set_for(Operation::DeleteMany, Fault::Fail(ErrorKind::Unavailable));
    world.fallback.force_closed();
    world.clock.advance_and_settle(SECOND * 5).await;
    world.primary.reset_calls();
    assert_eq!(world.get("untouched").await, None);
    assert_eq!(world.primary.calls_of(Operation::GetMany), 0);
    world.fallback.auto();
    world.primary.heal();
    world.clock.advance_and_settle(SECOND * 10).await;
    assert_eq!((world.behind("generation").await, world.behind("a").await), (None, None));
    let stats = world.fallback.stats();
    assert_eq!((stats.state, stats.overflown, stats.generations_removed), (BreakerState::Closed, false, 1));
    assert_eq!((stats.journal, stats.replayed), (0, 2));
    assert_eq!(world.get("untouched").await.as_deref(), Some(&b"old"[..]));
}

#[tokio::test]
async fn what_overflows_while_the_generation_goes_makes_it_go_again() {
    let world = World::with(|builder| builder.journal_keys(1).generation(key("generation")));
    world.lose_primary().await;
    for name in ["a", "b"] {
        world.delete(name).await.expect_err("it is deferred");
    }
    world.primary.heal();
    world.primary.set_for(Operation::DeleteMany, Fault::Hold);
    world.clock.advance_and_settle(MILLISECOND * 250).await;
    assert_eq!(world.primary.stuck(), 1);
    world.delete("c").await.expect_err("it is deferred");
    world.primary.heal();
    world.clock.advance_and_settle(SECOND * 10).await;
    let stats = world.fallback.stats();
    assert_eq!((stats.state, stats.overflown, stats.generations_removed), (BreakerState::Closed, false, 2));
}

#[tokio::test]
async fn the_journal_is_bounded_in_bytes() {
    let world = World::with(|builder| builder.journal_bytes(2048));
    world.lose_primary().await;
    let mut lost = 0;
    for number in 0..100 {
        let deferred = world.delete(&format!("{number}:{}", "x".repeat(300))).await.unwrap_err();
        lost += u64::from(Deferred::of(&deferred).expect("it is deferred").lost);
    }
    let stats = world.fallback.stats();
    assert!(stats.journal_bytes <= 2048 && stats.journal >= 2, "{stats:?}");
    assert_eq!((stats.lost, lost), (lost, 100 - stats.journal as u64));
}

#[tokio::test]
async fn a_long_journal_is_replayed_in_batches() {
    let world = World::new();
    world.lose_primary().await;
    for number in 0..1000 {
        world.put_behind(&number.to_string(), "old").await;
        world.delete(&number.to_string()).await.expect_err("it is deferred");
    }
    world.primary.reset_calls();
    world.return_primary().await;
    assert_eq!(world.primary.calls_of(Operation::DeleteMany), 4);
    assert_eq!(world.fallback.stats().replayed, 1000);
    assert_eq!((world.behind("0").await, world.behind("999").await), (None, None));
}

/// Has a bus that notes what was removed with which message, and refuses one key.
#[derive(Debug)]
struct Announcing {
    inner: Arc<FaultyBackend>,
    heard: Mutex<Vec<(String, Bytes, usize)>>,
    refused: Mutex<Option<Key>>,
}

#[async_trait]
impl BusSource for Announcing {
    async fn open_bus(&self, _channel: &str) -> Result<Box<dyn Bus>> {
        Err(Error::unsupported("open_bus", "announcing"))
    }

    async fn remove_and_publish(&self, keys: &[Key], channel: &str, message: &Announcement) -> Each<bool> {
        let refused = self.refused.lock().expect("nobody panics with it").clone();
        let mut answers = self.inner.delete_many(keys).await;
        for (key, answer) in keys.iter().zip(&mut answers) {
            if refused.as_ref() == Some(key) {
                *answer = Err(Error::new(ErrorKind::Other, "remove_and_publish", "the test refuses it").with_key(key));
            }
        }
        if answers.iter().any(Result::is_ok) {
            self.heard.lock().expect("nobody panics with it").push((channel.to_owned(), message(keys), keys.len()));
        }
        answers
    }
}

#[async_trait]
impl Backend for Announcing {
    fn name(&self) -> &str {
        "announcing"
    }

    async fn get_many(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
        self.inner.get_many(keys, options).await
    }

    async fn set_many(&self, items: &[SetItem]) -> Each<SetOutcome> {
        self.inner.set_many(items).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Each<bool> {
        self.inner.delete_many(keys).await
    }

    async fn ttl_many(&self, keys: &[Key]) -> Each<Option<Remaining>> {
        self.inner.ttl_many(keys).await
    }

    async fn expire_many(&self, keys: &[Key], expiry: Expiry) -> Each<bool> {
        self.inner.expire_many(keys, expiry).await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    fn as_bus(&self) -> Option<&dyn BusSource> {
        Some(self)
    }
}

fn announcing(clock: &ManualClock) -> (Arc<Announcing>, FallbackBackend) {
    let inner = Arc::new(FaultyBackend::new(memory(clock)));
    let primary = Arc::new(Announcing { inner, heard: Mutex::default(), refused: Mutex::default() });
    let message = |keys: &[Key]| Bytes::from(keys.iter().map(Key::as_str).collect::<Vec<_>>().join(","));
    let fallback = FallbackBackend::builder(Arc::<Announcing>::clone(&primary), memory(clock))
        .timer(Arc::new(clock.clone()))
        .seed(7)
        .generation(key("generation"))
        .journal_keys(3)
        .announce("channel".to_owned(), Arc::new(message));
    (primary, fallback.build().expect("settings that are allowed"))
}

#[tokio::test]
async fn other_processes_hear_of_what_is_made_up_for() {
    let clock = ManualClock::new();
    let (primary, fallback) = announcing(&clock);
    fallback.force_open();
    for name in ["a", "b"] {
        fallback.delete(&key(name)).await.expect_err("it is deferred");
    }
    fallback.auto();
    clock.advance_and_settle(SECOND).await;
    assert_eq!(*primary.heard.lock().unwrap(), [("channel".to_owned(), Bytes::from("a,b"), 2)]);
    assert_eq!(fallback.state(), BreakerState::Closed);

    fallback.force_open();
    for name in ["a", "b", "c", "d"] {
        fallback.delete(&key(name)).await.expect_err("it is deferred");
    }
    fallback.auto();
    clock.advance_and_settle(SECOND).await;
    let heard: Vec<Bytes> = primary.heard.lock().unwrap().iter().map(|(_, message, _)| message.clone()).collect();
    assert_eq!(heard, ["a,b", "generation", "a,b,c"]);
}

#[tokio::test]
async fn an_item_that_is_refused_is_kept_and_holds_up_nobody_else() {
    let clock = ManualClock::new();
    let (primary, fallback) = announcing(&clock);
    *primary.refused.lock().unwrap() = Some(key("bad"));
    primary.inner.inner().set_many(&[SetItem::new(key("good"), "v", larder_core::SetOptions::new())]).await;
    fallback.force_open();
    for name in ["good", "bad"] {
        fallback.delete(&key(name)).await.expect_err("it is deferred");
    }
    fallback.auto();
    clock.advance_and_settle(SECOND).await;
    assert_eq!((fallback.state(), fallback.stats().journal), (BreakerState::Closed, 1));
    // It stays away, and nothing else does.
    primary.inner.reset_calls();
    assert_eq!(fallback.get(&key("bad")).await.unwrap(), None);
    assert_eq!(primary.inner.calls_of(Operation::GetMany), 0);
    assert_eq!(fallback.get(&key("good")).await.unwrap(), None);
    assert_eq!(primary.inner.calls_of(Operation::GetMany), 1);
    *primary.refused.lock().unwrap() = None;
    clock.advance_and_settle(SECOND * 10).await;
    assert_eq!(fallback.stats().journal, 0);
}
