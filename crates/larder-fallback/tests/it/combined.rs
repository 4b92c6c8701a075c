//! Reads of single keys that are made at once.

use std::{sync::Arc, task::Poll};

use async_trait::async_trait;
use futures_util::poll;
use larder_core::{
    Backend, Bytes, Each, Error, ErrorKind, Expiry, Found, GetOptions, Guard, Key, Lineage, Remaining, Result, SetItem,
    SetOutcome, UnixMillis,
};
use larder_fallback::{BreakerState, FallbackBackend};
use larder_testing::{Fault, Operation};
use tokio::task::JoinHandle;

use crate::world::{MILLISECOND, World, key, memory};

fn read(fallback: &Arc<FallbackBackend>, name: &str) -> JoinHandle<Result<Option<Bytes>>> {
    let (fallback, key) = (Arc::clone(fallback), key(name));
    tokio::spawn(async move { Ok(fallback.get_combined(&key).await?.map(|found| found.value)) })
}

/// A read that the primary holds, and then these, which are gathered while it does.
async fn read_beside_one<const N: usize>(
    world: &World,
    names: [&str; N],
) -> (JoinHandle<Result<Option<Bytes>>>, [JoinHandle<Result<Option<Bytes>>>; N]) {
    world.primary.set(Fault::Hold);
    let first = read(&world.fallback, "first");
    world.primary.until_stuck(1).await;
    let others = names.map(|name| read(&world.fallback, name));
    world.clock.settle().await;
    (first, others)
}

#[tokio::test]
async fn reads_that_come_while_one_is_on_its_way_are_one_call_and_each_gets_its_own_answer() {
    let world = World::new();
    for (name, value) in [("first", "0"), ("a", "1"), ("b", "2")] {
        world.put_behind(name, value).await;
    }
    let (first, [a, b, again, absent]) = read_beside_one(&world, ["a", "b", "a", "absent"]).await;
    assert_eq!(world.primary.calls_of(Operation::GetMany), 2);
    world.primary.heal();
    for (read, value) in [(first, Some("0")), (a, Some("1")), (b, Some("2")), (again, Some("1")), (absent, None)] {
        assert_eq!(read.await.unwrap().unwrap(), value.map(Bytes::from));
    }
    let stats = world.fallback.stats();
    assert_eq!((stats.calls, stats.failures), (5, 0), "each caller counts");
}

#[tokio::test]
async fn a_call_that_fails_counts_as_often_as_there_are_callers_who_wait_for_it() {
    let world = World::new();
    let (first, others) = read_beside_one(&world, ["a", "b", "c"]).await;
    assert_eq!(world.fallback.state(), BreakerState::Closed);
    world.primary.fail(ErrorKind::Unavailable);
    for read in others.into_iter().chain([first]) {
        // The error, or what the secondary has, if the breaker is open by then.
        let answer = read.await.unwrap();
        assert!(matches!(&answer, Ok(None)) || answer.is_err_and(|error| error.kind() == ErrorKind::Unavailable));
    }
    assert_eq!(world.fallback.stats().failures, 4);
    assert_eq!(world.fallback.state(), BreakerState::Open, "two calls failed, and four callers");
}

#[tokio::test]
async fn callers_who_wait_for_one_call_are_told_at_its_deadline() {
    let world = World::new();
    world.primary.hang();
    let first = read(&world.fallback, "first");
    world.primary.until_stuck(1).await;
    world.clock.advance(MILLISECOND * 30);
    let second = read(&world.fallback, "second");
    world.primary.until_stuck(2).await;
    world.clock.advance_and_settle(MILLISECOND * 20).await;
    assert_eq!(first.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    assert!(!second.is_finished(), "its call began later");
    world.clock.advance_and_settle(MILLISECOND * 30).await;
    let error = second.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Timeout, Some(&key("second"))));
}

#[tokio::test]
async fn who_goes_away_before_the_call_is_not_asked_for_and_leaves_the_others_alone() {
    let world = World::new();
    world.put_behind("b", "2").await;
    let (first, []) = read_beside_one(&world, []).await;
    let (a, b) = (key("a"), key("b"));
    let mut gone = Box::pin(world.fallback.get_combined(&a));
    let mut stays = Box::pin(world.fallback.get_combined(&b));
    // No task of this runtime gets a turn in between.
    assert!(poll!(&mut gone).is_pending() && poll!(&mut stays).is_pending());
    drop(gone);
    world.primary.heal();
    assert_eq!(stays.await.unwrap().map(|found| found.value), Some(Bytes::from("2")));
    assert_eq!(first.await.unwrap().unwrap(), None);
    assert_eq!(world.fallback.stats().calls, 2);
    assert_eq!(world.primary.calls_of(Operation::GetMany), 2);
}

#[tokio::test]
async fn of_those_who_come_at_once_only_so_many_are_let_through_as_there_is_room_for() {
    let world = World::with(|builder| builder.max_calls(3));
    let (first, others) = read_beside_one(&world, ["a", "b", "c", "d"]).await;
    world.primary.heal();
    assert_eq!(first.await.unwrap().unwrap(), None);
    let mut refused = Vec::new();
    for read in others {
        if let Err(error) = read.await.unwrap() {
            assert_eq!(error.kind(), ErrorKind::Overloaded);
            refused.push(error.key().unwrap().as_str().to_owned());
        }
    }
    assert_eq!(refused, ["c", "d"]);
    let stats = world.fallback.stats();
    assert_eq!((stats.calls, stats.overloaded, stats.failures), (3, 2, 0));
    // Nobody's place is left over.
    for _ in 0..4 {
        assert_eq!(world.get("a").await, None);
    }
}

#[tokio::test]
async fn while_the_primary_is_away_each_reads_the_secondary() {
    let world = World::new();
    world.fallback.force_open();
    world.set("a", "1").await;
    let reads = ["a", "a", "b"].map(|name| read(&world.fallback, name));
    let mut values = Vec::new();
    for read in reads {
        values.push(read.await.unwrap().unwrap());
    }
    assert_eq!(values, [Some(Bytes::from("1")), Some(Bytes::from("1")), None]);
    assert_eq!(world.primary.calls(), 0);
}

#[test]
fn callers_of_a_runtime_that_ends_are_told_and_those_of_another_go_by_themselves() {
    let world = World::new();
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (ending, lasting) = (runtime(), runtime());
    let (a, b) = (key("a"), key("b"));
    world.primary.set(Fault::Hold);
    let (fallback, first) = (&world.fallback, key("first"));
    let mut first = Box::pin(fallback.get_combined(&first));
    ending.block_on(async { assert!(poll!(&mut first).is_pending()) });
    let mut gathered = Box::pin(fallback.get_combined(&a));
    ending.block_on(async { assert!(poll!(&mut gathered).is_pending()) });
    let calls = || world.primary.calls_of(Operation::GetMany);
    let before = calls();
    let mut other = Box::pin(fallback.get_combined(&b));
    lasting.block_on(async { assert!(poll!(&mut other).is_pending()) });
    assert_eq!(calls(), before + 1, "nobody drives the runtime that would carry it");
    drop(ending);
    lasting.block_on(async {
        let error = gathered.await.unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Unavailable, Some(&a)));
        world.primary.heal();
        assert_eq!(other.await.unwrap(), None);
        assert_eq!(first.await.unwrap(), None);
    });
}

/// Two servers: the keys of one begin with `dead`, and that never answers.
#[derive(Debug)]
struct Two(Arc<dyn Backend>);

fn is_dead(key: &Key) -> bool {
    key.as_str().starts_with("dead")
}

impl Lineage for Two {
    fn guard(&self, _guard: Guard) {}

    fn server_time(&self, _key: &Key) -> Option<UnixMillis> {
        None
    }

    fn server_of(&self, key: &Key) -> usize {
        usize::from(is_dead(key))
    }
}

#[async_trait]
impl Backend for Two {
    fn name(&self) -> &str {
        "two"
    }

    async fn get_many(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
        if keys.iter().any(is_dead) {
            std::future::pending::<()>().await;
        }
        self.0.get_many(keys, options).await
    }

    async fn set_many(&self, items: &[SetItem]) -> Each<SetOutcome> {
        self.0.set_many(items).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Each<bool> {
        self.0.delete_many(keys).await
    }

    async fn ttl_many(&self, keys: &[Key]) -> Each<Option<Remaining>> {
        self.0.ttl_many(keys).await
    }

    async fn expire_many(&self, keys: &[Key], expiry: Expiry) -> Each<bool> {
        self.0.expire_many(keys, expiry).await
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }

    fn as_lineage(&self) -> Option<&dyn Lineage> {
        Some(self)
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_does_not_keep_the_keys_of_another_waiting() {
    let world = World::new();
    let fallback = FallbackBackend::builder(Arc::new(Two(memory(&world.clock))), memory(&world.clock))
        .timer(Arc::new(world.clock.clone()))
        .build()
        .unwrap();
    let fallback = Arc::new(fallback);
    let first = read(&fallback, "dead:first");
    world.clock.settle().await;
    let [dead, alive, also] = ["dead:a", "alive:a", "alive:b"].map(|name| read(&fallback, name));
    world.clock.settle().await;
    assert!(alive.is_finished() && also.is_finished() && !dead.is_finished());
    world.clock.advance_and_settle(MILLISECOND * 50).await;
    for read in [first, dead] {
        assert_eq!(read.await.unwrap().map_err(|error: Error| error.kind()), Err(ErrorKind::Timeout));
    }
    assert_eq!(alive.await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn a_caller_that_is_alone_needs_no_other_task() {
    let world = World::new();
    // A memory backend answers in the first poll.
    assert!(matches!(poll!(Box::pin(world.fallback.get_combined(&key("a")))), Poll::Ready(Ok(None))));
}
