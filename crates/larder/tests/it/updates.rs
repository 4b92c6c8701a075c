//! A change of the source with its invalidation around it: what readers may store before, during and after it.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use larder::{Cache, ErrorKind, ManualClock, Status, Strategy, strategy::Lease};
use larder_core::{BackendExt, Key};
use larder_testing::{FaultyBackend, ModelBackend};
use tokio::{sync::Semaphore, task::JoinHandle};

const SECOND: Duration = Duration::from_secs(1);

/// Longer than a hold lives.
const HOLD_LIFE: Duration = Duration::from_secs(11);

/// Processes on one store with a bus, and the source that they read.
struct World {
    clock: ManualClock,
    store: Arc<ModelBackend>,
    source: Arc<AtomicU32>,
}

impl World {
    fn new() -> Self {
        let clock = ManualClock::new();
        let store = Arc::new(ModelBackend::new(Arc::new(clock.clone())));
        Self { clock, store, source: Arc::default() }
    }

    /// A process that hears the others.
    async fn process(&self) -> Cache {
        self.process_on(Arc::new(FaultyBackend::new(self.store.clone()))).await
    }

    async fn process_on(&self, backend: Arc<FaultyBackend>) -> Cache {
        let strategy = Strategy::new("long", SECOND * 3600).jitter(0.0).lease(Lease::Off);
        let builder = Cache::builder().namespace("t").timer(Arc::new(self.clock.clone())).strategy(strategy);
        let cache = builder.backend(backend).build().await.unwrap();
        self.clock.settle().await;
        assert!(cache.health().await.remote.unwrap().bus_trusted);
        cache
    }

    fn change(&self) -> u32 {
        self.source.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Reads the source through the cache; everything that a load leaves behind is stored when this returns.
    async fn read(&self, cache: &Cache, key: &str) -> u32 {
        let source = Arc::clone(&self.source);
        let load = move || async move { Ok::<_, ()>(source.load(Ordering::SeqCst)) };
        let value = cache.get_or_load(key, load).tag("all").await.unwrap();
        self.clock.settle().await;
        *value
    }

    /// A load that has read the source and waits for the gate before it returns.
    fn late_reader(&self, cache: &Cache, key: &'static str) -> (JoinHandle<u32>, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        let (cache, source, opened) = (cache.clone(), Arc::clone(&self.source), Arc::clone(&gate));
        let load = move || async move {
            let value = source.load(Ordering::SeqCst);
            opened.acquire().await.unwrap().forget();
            Ok::<_, ()>(value)
        };
        (tokio::spawn(async move { *cache.get_or_load(key, load).tag("all").await.unwrap() }), gate)
    }

    async fn stored(&self, key: &str) -> Option<larder_core::Bytes> {
        self.store.get(&Key::from_canonical(format!("t:{key}"))).await.unwrap()
    }
}

/// Whether a process has the key near.
async fn near(cache: &Cache, key: &str) -> bool {
    cache.near().get::<_, u32>(key).await.is_some()
}

/// Its process ends: nothing that it holds is dropped.
#[expect(clippy::mem_forget, reason = "a process that dies drops nothing")]
fn die<F>(future: Pin<Box<F>>) {
    std::mem::forget(future);
}

/// Runs a future until it waits.
async fn until_it_waits<F: Future>(world: &World, mut future: Pin<&mut F>) {
    for _ in 0..20 {
        assert!(future.as_mut().now_or_never().is_none(), "it has ended");
        world.clock.settle().await;
    }
}

#[tokio::test]
async fn during_an_update_readers_load_and_nobody_stores() {
    let world = World::new();
    let (one, two) = (world.process().await, world.process().await);
    for named in ["key", "tag"] {
        assert_eq!(world.read(&one, "k").await, world.read(&two, "k").await);
        let update = if named == "key" { one.update().key("k") } else { one.update().tag("all") };
        let updated = update
            .run(|| async {
                for cache in [&one, &two] {
                    let before = world.source.load(Ordering::SeqCst);
                    assert_eq!(world.read(cache, "k").await, before);
                    assert!(!near(cache, "k").await);
                    let now = world.change();
                    assert_eq!(world.read(cache, "k").await, now, "what was read is kept nowhere");
                }
                Ok::<_, ()>(7)
            })
            .await
            .unwrap();
        assert_eq!(updated.value, 7);
        let invalidated = updated.invalidated.unwrap();
        assert_eq!((invalidated.remote, invalidated.status), (1, Status::Done));
        let now = world.source.load(Ordering::SeqCst);
        for cache in [&one, &two] {
            assert_eq!(world.read(cache, "k").await, now);
            assert!(near(cache, "k").await, "after the update it is stored again");
        }
    }
}

#[tokio::test]
async fn a_reader_that_began_before_an_update_stores_nothing_during_or_after_it() {
    let world = World::new();
    let (one, two) = (world.process().await, world.process().await);
    for by_tag in [false, true] {
        for ends_during in [true, false] {
            let (here, gate_here) = world.late_reader(&one, "k");
            world.clock.settle().await;
            let (there, gate_there) = world.late_reader(&two, "k");
            world.clock.settle().await;
            let old = world.source.load(Ordering::SeqCst);
            let open = || {
                gate_here.add_permits(1);
                gate_there.add_permits(1);
            };
            let update = if by_tag { one.update().tag("all") } else { one.update().key("k") };
            let change = || async {
                world.change();
                if ends_during {
                    open();
                    world.clock.advance_and_settle(SECOND).await;
                }
                Ok::<_, ()>(())
            };
            update.run(change).await.unwrap().invalidated.unwrap();
            open();
            assert_eq!((here.await.unwrap(), there.await.unwrap()), (old, old));
            world.clock.settle().await;
            for cache in [&one, &two] {
                assert!(!near(cache, "k").await);
                assert_eq!(world.read(cache, "k").await, old + 1);
            }
            one.delete("k").await;
        }
    }
}

#[tokio::test]
async fn the_hold_of_a_process_that_dies_ends_in_a_miss() {
    let world = World::new();
    let (one, two) = (world.process().await, world.process().await);
    world.read(&two, "k").await;
    let dying = one.clone();
    let mut update = Box::pin(async move {
        let change = || async { std::future::pending::<Result<(), ()>>().await };
        dying.update().key("k").tag("all").run(change).await
    });
    until_it_waits(&world, update.as_mut()).await;
    // It had committed: now the source says 1.
    world.change();
    die(update);
    assert!(!near(&two, "k").await, "no process serves what it held near");
    let (late, gate) = world.late_reader(&two, "k");
    world.clock.settle().await;
    world.clock.advance_and_settle(HOLD_LIFE).await;
    world.change();
    gate.add_permits(1);
    assert_eq!(late.await.unwrap(), 1);
    world.clock.settle().await;
    assert_eq!(world.read(&two, "k").await, 2, "what was loaded under the hold is stored by nobody");
    assert!(near(&two, "k").await);
}

#[tokio::test]
async fn a_hold_is_renewed_for_as_long_as_the_change_takes() {
    let world = World::new();
    let (one, two) = (world.process().await, world.process().await);
    let change = || async {
        for _ in 0..10 {
            world.clock.advance_and_settle(SECOND * 5).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(world.read(&two, "k").await, 0);
        assert!(!near(&two, "k").await);
        Ok::<_, ()>(world.change())
    };
    let _updated = one.update().key("k").run(change).await.unwrap();
    assert_eq!(world.read(&two, "k").await, 1);
}

#[tokio::test]
async fn the_first_of_two_updates_to_end_leaves_the_hold_of_the_other() {
    let world = World::new();
    let [one, two, three] = [world.process().await, world.process().await, world.process().await];
    for ends_first in [0, 1] {
        for by_tag in [false, true] {
            let gates = [Semaphore::new(0), Semaphore::new(0)];
            let run = |cache: &Cache, place: usize| {
                let (cache, gates, world) = (cache.clone(), &gates, &world);
                async move {
                    let update = if by_tag { cache.update().tag("all") } else { cache.update().key("k") };
                    let change = || async {
                        gates[place].acquire().await.unwrap().forget();
                        Ok::<_, ()>(world.change())
                    };
                    update.run(change).await.unwrap()
                }
            };
            let mut updates = [Box::pin(run(&one, 0)), Box::pin(run(&two, 1))];
            until_it_waits(&world, updates[0].as_mut()).await;
            until_it_waits(&world, updates[1].as_mut()).await;
            let [first, second] = if ends_first == 0 { [0, 1] } else { [1, 0] };
            gates[first].add_permits(1);
            let updated = updates[first].as_mut().await;
            assert_eq!(updated.invalidated.unwrap().status, Status::Done);
            let between = world.read(&three, "k").await;
            assert_eq!(between, updated.value);
            assert!(!near(&three, "k").await, "the other still holds it");
            gates[second].add_permits(1);
            let updated = updates[second].as_mut().await;
            // The others hear of it.
            world.clock.settle().await;
            assert_eq!(world.read(&three, "k").await, updated.value);
            assert!(near(&three, "k").await);
        }
    }
}

#[tokio::test]
async fn a_writer_that_died_does_not_hold_a_key_that_others_update_again_and_again() {
    let world = World::new();
    let (one, two) = (world.process().await, world.process().await);
    let dying = one.clone();
    let mut update = Box::pin(async move {
        let change = || async { std::future::pending::<Result<(), ()>>().await };
        dying.update().key("k").run(change).await
    });
    until_it_waits(&world, update.as_mut()).await;
    die(update);
    for _ in 0..11 {
        world.clock.advance_and_settle(SECOND).await;
        let _updated = two.update().key("k").run(|| async { Ok::<_, ()>(()) }).await.unwrap();
    }
    world.read(&two, "k").await;
    assert!(near(&two, "k").await);
}

#[tokio::test]
async fn an_update_that_fails_panics_or_is_dropped_invalidates_all_the_same() {
    let world = World::new();
    let (one, two) = (world.process().await, world.process().await);
    for ending in ["error", "panic", "drop"] {
        world.read(&two, "k").await;
        world.read(&one, "k").await;
        let change = || async {
            world.change();
            match ending {
                "error" => Err("after the commit"),
                "panic" => panic!("after the commit"),
                _ => std::future::pending().await,
            }
        };
        let mut update = Box::pin(AssertUnwindSafe(one.update().key("k").run::<(), _, _, _>(change)).catch_unwind());
        match ending {
            "error" => assert_eq!(update.await.unwrap().unwrap_err(), "after the commit"),
            "panic" => assert!(update.await.is_err()),
            _ => {
                until_it_waits(&world, update.as_mut()).await;
                drop(update);
                world.clock.settle().await;
            }
        }
        assert_eq!(world.stored("k").await, None, "{ending}: the hold is gone");
        let now = world.source.load(Ordering::SeqCst);
        for cache in [&one, &two] {
            assert_eq!(world.read(cache, "k").await, now, "{ending}");
            assert!(near(cache, "k").await, "{ending}");
        }
    }
}

#[tokio::test]
async fn while_the_remote_tier_is_away_the_source_is_changed_and_the_invalidation_deferred() {
    let world = World::new();
    let backend = Arc::new(FaultyBackend::new(world.store.clone()));
    let (one, two) = (world.process_on(backend.clone()).await, world.process().await);
    for (hangs, long) in [(false, false), (true, false), (false, true)] {
        let old = world.read(&two, "k").await;
        world.read(&one, "k").await;
        if hangs {
            backend.hang();
        } else {
            backend.fail(ErrorKind::Unavailable);
        }
        let cache = one.clone();
        let source = Arc::clone(&world.source);
        let clock = world.clock.clone();
        let update = tokio::spawn(async move {
            let change = || async {
                if long {
                    // It is back before the change is made.
                    clock.advance_and_settle(SECOND * 5).await;
                }
                Ok::<_, ()>(source.fetch_add(1, Ordering::SeqCst) + 1)
            };
            cache.update().key("k").tag("all").run(change).await.unwrap()
        });
        for _ in 0..20 {
            world.clock.advance_and_settle(SECOND / 10).await;
        }
        let updated = update.await.unwrap();
        assert_eq!(updated.value, old + 1);
        assert_eq!(updated.invalidated.unwrap().status, Status::Deferred);
        assert_eq!(world.read(&one, "k").await, old + 1);
        backend.heal();
        for _ in 0..30 {
            world.clock.advance_and_settle(SECOND).await;
        }
        assert_eq!(world.read(&one, "k").await, old + 1);
        assert_eq!(world.read(&world.process().await, "k").await, old + 1, "what Redis held has been removed");
        two.invalidate().key("k").await.unwrap();
    }
}

#[tokio::test]
async fn a_cache_without_a_remote_tier_keeps_nothing_that_was_read_before_the_change() {
    let cache = Cache::in_memory();
    let source = AtomicU32::new(0);
    let read = async |cache: &Cache| {
        let value = source.load(Ordering::SeqCst);
        *cache.get_or_load("k", move || async move { Ok::<_, ()>(value) }).await.unwrap()
    };
    assert_eq!(read(&cache).await, 0);
    let change = || async {
        read(&cache).await;
        source.store(1, Ordering::SeqCst);
        Ok::<_, ()>(())
    };
    let updated = cache.update().key("k").run(change).await.unwrap();
    assert_eq!(updated.invalidated.unwrap().status, Status::Done);
    assert_eq!(read(&cache).await, 1);
}

#[tokio::test]
async fn a_mistake_in_what_is_named_is_told_and_the_source_is_changed_all_the_same() {
    let cache = Cache::in_memory();
    for update in [cache.update(), cache.update().key("k").tag("")] {
        let updated = update.run(|| async { Ok::<_, ()>(1) }).await.unwrap();
        assert_eq!(updated.value, 1);
        assert_eq!(updated.invalidated.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[tokio::test]
async fn under_a_held_tag_a_caller_cannot_store_what_nobody_could_invalidate() {
    let world = World::new();
    let (one, two) = (world.process().await, world.process().await);
    let change = || async {
        assert!(!two.set("k", 1_u32).tag("all").await);
        assert_eq!(two.get::<_, u32>("k").await, None);
        assert!(two.set("k", 1_u32).await, "without the tag it is stored");
        Ok::<_, ()>(())
    };
    let _updated = one.update().tag("all").run(change).await.unwrap();
    assert!(two.set("k", 2_u32).tag("all").await);
}
