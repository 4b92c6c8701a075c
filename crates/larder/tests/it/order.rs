//! Invalidations of tags whose markers do not lie together, and messages of writers that end early.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use larder::{Cache, ErrorKind, Loaded, ManualClock, Status, Strategy};
use larder_core::{Announcement, Backend, BusSource, Each, Error, Found, GetOptions, Key};
use larder_testing::{Fault, FaultyBackend, ModelBackend, Operation};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
};

const SECOND: Duration = Duration::from_secs(1);

fn lasting() -> Strategy {
    Strategy::new("lasting", SECOND * 10_000).jitter(0.0).remote_deadline(SECOND * 100)
}

async fn cache(clock: &ManualClock, backend: Arc<dyn Backend>) -> Cache {
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).strategy(lasting());
    let cache = builder.remote_command_deadline(SECOND * 10).backend(backend).build().await.unwrap();
    clock.settle().await;
    cache
}

fn marker(tag: &str) -> Key {
    Key::from_canonical(format!("t:%tag:{tag}"))
}

/// A store in which the keys of one removal lie on different servers: they go one by one, the last one first. After the first
/// one of each removal that has several, it waits.
#[derive(Debug, Clone)]
struct Scattered {
    store: ModelBackend,
    gate: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// Removals of the common marker that still fail without being carried out.
    refused: Arc<AtomicUsize>,
}

impl Scattered {
    fn new(clock: &ManualClock) -> Self {
        let store = ModelBackend::new(Arc::new(clock.clone()));
        Self { store, gate: Arc::new(Semaphore::new(0)), waiting: Arc::default(), refused: Arc::default() }
    }
}

#[async_trait]
impl BusSource for Scattered {
    async fn open_bus(&self, channel: &str) -> larder_core::Result<Box<dyn larder_core::Bus>> {
        self.store.open_bus(channel).await
    }

    async fn remove_and_publish(&self, keys: &[Key], channel: &str, message: &Announcement) -> Each<bool> {
        let mut answers = Vec::new();
        for (place, key) in keys.iter().enumerate().rev() {
            let fails = *key == marker("%any")
                && self.refused.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            answers.push(if fails {
                Err(Error::new(ErrorKind::Timeout, "remove_and_publish", "the test loses it").with_key(key))
            } else {
                let one = std::slice::from_ref(key);
                self.store.remove_and_publish(one, channel, message).await.remove(0)
            });
            if place > 0 && place == keys.len() - 1 {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                self.gate.acquire().await.unwrap().forget();
            }
        }
        answers.reverse();
        answers
    }
}

backend_over!(Scattered, "scattered", store, {
    async fn get_many(&self, keys: &[Key], options: GetOptions) -> Each<Option<Found>> {
        self.store.get_many(keys, options).await
    }

    fn as_bus(&self) -> Option<&dyn BusSource> {
        Some(self)
    }
});

/// A load in another process of what the source held before the invalidation, whose loader names its tag at the end.
struct LateLoad {
    gate: Arc<Semaphore>,
    task: tokio::task::JoinHandle<u32>,
}

impl LateLoad {
    async fn begin(clock: &ManualClock, cache: &Cache) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let (cache, inside) = (cache.clone(), Arc::clone(&gate));
        let task = tokio::spawn(async move {
            let load = cache.get_or_load_with("k", move || async move {
                inside.acquire().await.unwrap().forget();
                Ok::<_, ()>(Loaded::new(1_u32).tag("a"))
            });
            *load.await.unwrap()
        });
        clock.settle().await;
        Self { gate, task }
    }

    async fn end(self, clock: &ManualClock) {
        self.gate.add_permits(1);
        assert_eq!(self.task.await.unwrap(), 1);
        clock.settle().await;
    }
}

/// The tag has a marker, so that the load has to make it anew.
async fn know_the_tag(clock: &ManualClock, cache: &Cache) {
    assert!(cache.set("other", 0_u32).tag("a").await);
    clock.settle().await;
}

#[tokio::test]
async fn a_load_between_the_removals_of_two_markers_is_not_kept() {
    let clock = ManualClock::new();
    let store = Scattered::new(&clock);
    let one = cache(&clock, Arc::new(store.clone())).await;
    let two = cache(&clock, Arc::new(store.clone())).await;
    know_the_tag(&clock, &one).await;
    let load = LateLoad::begin(&clock, &two).await;
    let invalidating = tokio::spawn({
        let cache = one.clone();
        async move { cache.invalidate().tag("a").await }
    });
    clock.settle().await;
    load.end(&clock).await;
    store.gate.add_permits(10);
    assert_eq!(invalidating.await.unwrap().unwrap().status, Status::Done);
    clock.settle().await;
    for cache in [&one, &two] {
        assert_eq!(cache.get::<_, u32>("k").skip_near().await, None);
    }
}

#[tokio::test]
async fn a_common_marker_that_could_not_be_removed_is_made_up_for_before_the_tags_are() {
    let clock = ManualClock::new();
    let store = Scattered::new(&clock);
    let one = cache(&clock, Arc::new(store.clone())).await;
    let two = cache(&clock, Arc::new(store.clone())).await;
    know_the_tag(&clock, &one).await;
    let load = LateLoad::begin(&clock, &two).await;
    // The first removal and its first repetition.
    store.refused.store(2, Ordering::SeqCst);
    store.gate.add_permits(10);
    assert_eq!(one.invalidate().tag("a").await.unwrap().status, Status::Deferred);
    load.end(&clock).await;
    for _ in 0..10 {
        clock.advance_and_settle(SECOND / 4).await;
    }
    assert_eq!(store.refused.load(Ordering::SeqCst), 0);
    for cache in [&one, &two] {
        assert_eq!(cache.get::<_, u32>("k").skip_near().await, None);
    }
}

#[tokio::test]
async fn the_journal_makes_up_for_the_common_marker_first() {
    let clock = ManualClock::new();
    let store = Scattered::new(&clock);
    let faulty = FaultyBackend::new(Arc::new(store.clone()));
    let one = cache(&clock, Arc::new(faulty.clone())).await;
    let two = cache(&clock, Arc::new(store.clone())).await;
    know_the_tag(&clock, &one).await;
    faulty.fail(ErrorKind::Unavailable);
    for _ in 0..5 {
        one.get::<_, u32>("missing").await;
    }
    assert_eq!(one.invalidate().tag("a").await.unwrap().status, Status::Deferred);
    let load = LateLoad::begin(&clock, &two).await;
    faulty.heal();
    for _ in 0..4 {
        clock.advance_and_settle(SECOND / 2).await;
    }
    load.end(&clock).await;
    store.gate.add_permits(10);
    for _ in 0..4 {
        clock.advance_and_settle(SECOND / 2).await;
    }
    assert_eq!(one.invalidate().key("done").await.unwrap().status, Status::Done, "the journal is empty");
    for cache in [&one, &two] {
        assert_eq!(cache.get::<_, u32>("k").skip_near().await, None);
    }
}

/// A `set` that has been polled once on a runtime of its own.
struct Begun {
    runtime: Runtime,
    set: Pin<Box<dyn Future<Output = bool> + Send>>,
}

impl Begun {
    fn new(cache: &Cache, key: &'static str) -> Self {
        let runtime = Builder::new_current_thread().build().unwrap();
        let cache = cache.clone();
        let mut set: Pin<Box<dyn Future<Output = bool> + Send>> = Box::pin(async move { cache.set(key, 2_u32).await });
        let pending = runtime.block_on(poll_fn(|context| Poll::Ready(set.as_mut().poll(context).is_pending())));
        assert!(pending, "its message is to be sent by a task, which has not run yet");
        Self { runtime, set }
    }
}

/// Runs what blocks or drops a runtime, which a task may not.
async fn apart<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(act).await.unwrap()
}

async fn sets(cache: &Cache) -> bool {
    let cache = cache.clone();
    let set = async move { cache.set("later", 3_u32).await };
    tokio::time::timeout(SECOND * 20, set).await.expect("an earlier writer holds it up")
}

#[tokio::test]
async fn a_write_that_ends_with_its_runtime_holds_up_no_later_one_and_is_missed() {
    let clock = ManualClock::new();
    let store = ModelBackend::new(Arc::new(clock.clone()));
    let one = cache(&clock, Arc::new(store.clone())).await;
    let two = cache(&clock, Arc::new(store.clone())).await;
    assert!(two.set("k", 1_u32).await);
    clock.advance_and_settle(SECOND).await;
    let writer = one.clone();
    apart(move || drop(Begun::new(&writer, "k"))).await;
    assert!(two.near().get::<_, u32>("k").await.is_some(), "nobody has told it");
    for _ in 0..5 {
        clock.advance_and_settle(SECOND).await;
    }
    assert!(two.near().get::<_, u32>("k").await.is_none(), "a message was missed");
    assert_eq!(two.get::<_, u32>("k").await.as_deref(), Some(&2));
    assert!(sets(&one).await);
}

#[tokio::test]
async fn a_runtime_that_nobody_drives_holds_up_no_writer_of_another_one() {
    let clock = ManualClock::new();
    let store = ModelBackend::new(Arc::new(clock.clone()));
    let one = cache(&clock, Arc::new(store)).await;
    let writer = one.clone();
    let begun = apart(move || Begun::new(&writer, "k")).await;
    assert!(sets(&one).await);
    apart(move || {
        let Begun { runtime, set } = begun;
        assert!(runtime.block_on(set));
    })
    .await;
}

#[tokio::test]
async fn what_is_said_of_a_removal_again_stands_for_no_message_that_was_lost() {
    let clock = ManualClock::new();
    let store = ModelBackend::new(Arc::new(clock.clone()));
    let faulty = FaultyBackend::new(Arc::new(store.clone()));
    let one = cache(&clock, Arc::new(faulty.clone())).await;
    let two = cache(&clock, Arc::new(store)).await;
    assert!(two.set("k", 1_u32).await);
    clock.advance_and_settle(SECOND * 2).await;
    faulty.set_for(Operation::RemoveAndPublish, Fault::Fail(ErrorKind::Unavailable));
    assert_eq!(one.invalidate().key("other").await.unwrap().status, Status::Deferred);
    faulty.set_for(Operation::Publish, Fault::Fail(ErrorKind::Unavailable));
    assert!(one.set("k", 5_u32).await);
    faulty.heal();
    assert!(two.near().get::<_, u32>("k").await.is_some(), "nobody has told it");
    for _ in 0..6 {
        clock.advance_and_settle(SECOND).await;
    }
    assert_eq!(one.invalidate().key("done").await.unwrap().status, Status::Done, "the journal is empty");
    assert!(two.near().get::<_, u32>("k").await.is_none(), "a message was missed");
}
