//! Reads of single keys that are made at once.

use std::{
    sync::{Arc, mpsc},
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::poll;
use larder_core::{
    Backend, Bytes, Each, Error, ErrorKind, Expiry, Found, GetOptions, Guard, Key, Lineage, Remaining, Result, SetItem,
    SetOutcome, UnixMillis,
};
use larder_fallback::{BreakerState, FallbackBackend, FallbackBuilder};
use larder_testing::{Fault, FaultyBackend, Operation};
use tokio::task::JoinHandle;

use crate::world::{MILLISECOND, World, key};

/// A store that says whether it is one server, and whose keys fail that begin with `bad`.
#[derive(Debug)]
struct Served {
    store: Arc<FaultyBackend>,
    is_one: bool,
}

impl Lineage for Served {
    fn guard(&self, _guard: Guard) {}

    fn server_time(&self, _key: &Key) -> Option<UnixMillis> {
        None
    }

    fn has_one_server(&self) -> bool {
        self.is_one
    }
}

#[async_trait]
impl Backend for Served {
    fn name(&self) -> &str {
        "served"
    }

    async fn get_many(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
        let mut answers = self.store.get_many(keys, options).await;
        for (key, answer) in keys.iter().zip(&mut answers).filter(|(key, _)| key.as_str().starts_with("bad")) {
            *answer = Err(Error::new(ErrorKind::Unavailable, "get_many", "this key is never read").with_key(key));
        }
        answers
    }

    async fn set_many(&self, items: &[SetItem]) -> Each<SetOutcome> {
        self.store.set_many(items).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Each<bool> {
        self.store.delete_many(keys).await
    }

    async fn ttl_many(&self, keys: &[Key]) -> Each<Option<Remaining>> {
        self.store.ttl_many(keys).await
    }

    async fn expire_many(&self, keys: &[Key], expiry: Expiry) -> Each<bool> {
        self.store.expire_many(keys, expiry).await
    }

    async fn ping(&self) -> Result<()> {
        self.store.ping().await
    }

    fn as_lineage(&self) -> Option<&dyn Lineage> {
        Some(self)
    }
}

fn world(is_one: bool, settings: impl FnOnce(FallbackBuilder) -> FallbackBuilder) -> World {
    let world = World::new();
    let primary = Served { store: Arc::clone(&world.primary), is_one };
    let builder =
        FallbackBackend::builder(Arc::new(primary), Arc::<larder_memory::MemoryBackend>::clone(&world.secondary));
    let fallback = settings(builder.timer(Arc::new(world.clock.clone()))).build().expect("settings that are allowed");
    World { fallback: Arc::new(fallback), ..world }
}

/// A store of one server.
fn one_server() -> World {
    world(true, |builder| builder)
}

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
    let world = one_server();
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
    let world = one_server();
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
    let world = one_server();
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
    let world = one_server();
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
    let world = world(true, |builder| builder.max_calls(3));
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
    let world = one_server();
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
    let world = one_server();
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

#[tokio::test]
async fn the_keys_of_several_servers_are_asked_for_one_by_one() {
    let world = world(false, |builder| builder);
    let (first, others) = read_beside_one(&world, ["a", "b", "c"]).await;
    assert_eq!(world.primary.calls_of(Operation::GetMany), 4, "none waits for what another one's server does");
    world.primary.heal();
    for read in others.into_iter().chain([first]) {
        assert_eq!(read.await.unwrap().unwrap(), None);
    }
}

#[tokio::test]
async fn of_a_call_that_fails_in_part_each_caller_that_met_the_fault_counts() {
    let world = one_server();
    let (first, others) = read_beside_one(&world, ["bad:a", "good", "bad:b"]).await;
    world.primary.heal();
    let mut failed = 0;
    for read in others.into_iter().chain([first]) {
        failed += u64::from(read.await.unwrap().is_err());
    }
    let stats = world.fallback.stats();
    assert_eq!((failed, stats.failures, stats.calls), (2, 2, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_come_at_once_exactly_so_many_are_let_through_as_there_is_room_for() {
    let world = world(true, |builder| builder.max_calls(100));
    world.primary.set(Fault::Hold);
    let reads: Vec<_> = (0..300).map(|index| read(&world.fallback, &format!("k{index}"))).collect();
    let judged = || world.fallback.stats().calls + world.fallback.stats().overloaded;
    while judged() < 300 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.fallback.stats().calls, 100);
    world.primary.heal();
    let mut refused = 0;
    for read in reads {
        refused += u64::from(read.await.unwrap().is_err_and(|error| error.kind() == ErrorKind::Overloaded));
    }
    assert_eq!(refused, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_caller_that_keeps_its_thread_busy_does_not_keep_the_others_from_their_answers() {
    let world = one_server();
    world.primary.set_for(Operation::GetMany, Fault::Hold);
    let first = read(&world.fallback, "first");
    world.primary.until_stuck(1).await;
    let (began, has_begun) = mpsc::channel();
    let (end, may_end) = mpsc::channel();
    let fallback = Arc::clone(&world.fallback);
    let busy = tokio::spawn(async move {
        let read = async { fallback.get_combined(&key("busy")).await };
        let work = async move {
            began.send(()).unwrap();
            may_end.recv_timeout(Duration::from_secs(30)).is_ok()
        };
        tokio::join!(read, work)
    });
    // Its read is gathered, and its thread busy.
    has_begun.recv_timeout(Duration::from_secs(30)).unwrap();
    world.primary.until_stuck(2).await;
    let other = read(&world.fallback, "other");
    world.primary.heal();
    assert_eq!(other.await.unwrap().unwrap(), None);
    assert_eq!(first.await.unwrap().unwrap(), None);
    end.send(()).unwrap();
    let (read, ended_in_time) = busy.await.unwrap();
    assert_eq!(read.unwrap(), None);
    assert!(ended_in_time);
}

#[tokio::test]
async fn a_caller_that_is_alone_needs_no_other_task() {
    let world = one_server();
    // A memory backend answers in the first poll.
    assert!(matches!(poll!(Box::pin(world.fallback.get_combined(&key("a")))), Poll::Ready(Ok(None))));
}
