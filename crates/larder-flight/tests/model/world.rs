//! A source, a store, the table under test, and the rules by which a cache uses them.

use std::{
    any::TypeId,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use larder_core::{Key, Tick};
use loom::{future::block_on, thread};

use crate::{FlightId, Flights, Follower, Join, Leader, Ticket, Watch, sync::Mutex};

pub(crate) const ID: FlightId = FlightId { value: TypeId::of::<u32>(), error: TypeId::of::<()>(), options: 0 };

/// A cell of which the checker knows who reads and writes it.
pub(crate) struct Cell<T>(Mutex<T>);

impl<T: Copy> Cell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn get(&self) -> T {
        *self.0.lock()
    }

    pub(crate) fn set(&self, value: T) {
        *self.0.lock() = value;
    }
}

/// Values are versions: a source that changes holds a higher one.
pub(crate) struct World {
    pub(crate) flights: Flights<u32>,
    pub(crate) key: Key,
    pub(crate) source: Cell<u32>,
    pub(crate) store: Cell<Option<u32>>,
    /// Loads that are under way, and how many may be: one, and another for each time the flight was detached.
    loads: AtomicU32,
    pub(crate) allowed: AtomicU32,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            flights: Flights::new(),
            key: Key::new("k"),
            source: Cell::new(0),
            store: Cell::new(None),
            loads: AtomicU32::new(0),
            allowed: AtomicU32::new(1),
        })
    }

    /// Runs beside the others.
    pub(crate) fn spawn(self: &Arc<Self>, call: impl FnOnce(&Arc<Self>) + 'static) -> thread::JoinHandle<()> {
        let world = Arc::clone(self);
        thread::spawn(move || call(&world))
    }

    pub(crate) fn begin_load(&self) -> u32 {
        let under_way = self.loads.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(under_way <= self.allowed.load(Ordering::Relaxed), "two loads at a time");
        self.source.get()
    }

    pub(crate) fn end_load(&self) {
        self.loads.fetch_sub(1, Ordering::Relaxed);
    }

    /// Says beforehand that one more load may be under way: the flight is about to be detached.
    pub(crate) fn allow_another(&self) {
        self.allowed.fetch_add(1, Ordering::Relaxed);
    }

    /// What must hold when everybody is done: the store is empty or not older than this, and the table is empty.
    pub(crate) fn check_at_rest(&self, oldest: u32) {
        if let Some(stored) = self.store.get() {
            assert!(stored >= oldest, "stored across the fence: {stored} after {oldest}");
        }
        assert_eq!(self.flights.in_flight(), 0, "a flight was left over");
        assert_eq!(self.flights.keys_at_work(), 0, "a ticket was left over");
    }
}

/// How a cache uses the table, as `crates/larder/src/engine` does. A mutant overrides one of these.
pub(crate) trait Rules: 'static {
    fn join(world: &World) -> Join<u32> {
        world.flights.join(&world.key, ID)
    }

    /// Stores what was loaded or written.
    fn commit(world: &World, ticket: &mut Ticket<u32>, value: u32) -> bool {
        ticket.commit(|| world.store.set(Some(value)))
    }

    fn finish(_world: &World, leader: Leader<u32>, result: u32) {
        drop(leader.finish(result));
    }

    /// What a cancelled or panicking loader leaves behind.
    fn abandon(_world: &World, leader: Leader<u32>) {
        drop(leader);
    }

    fn wait(follower: Follower<u32>) -> Option<u32> {
        block_on(follower.wait())
    }

    /// Waits without a timer as long as somebody watches the clock, and without end then.
    fn wait_watched(mut follower: Follower<u32>) -> Option<u32> {
        match block_on(follower.wait_watched(Tick::FOREVER)) {
            Ok(result) => result,
            Err(_) => Self::wait(follower),
        }
    }

    /// Ends a watch.
    fn call(watch: Watch<u32>) {
        drop(watch);
    }

    /// Copies what a slower tier holds into the store.
    fn promote(world: &World) {
        let ticket = world.flights.ticket(&world.key);
        let found = world.source.get();
        ticket.commit_copy(|| world.store.set(Some(found)));
    }

    fn invalidate(world: &World) {
        world.flights.raise(&world.key, || world.store.set(None));
    }

    fn invalidate_wide(world: &World) {
        world.flights.raise_where(|key| key.ends_with('k'));
        world.store.set(None);
    }

    /// Writes through: the slower tier is the source here.
    fn write(world: &World, value: u32, keep: bool) {
        Self::invalidate(world);
        let mut ticket = world.flights.ticket(&world.key);
        world.source.set(value);
        let kept = if keep {
            Self::commit(world, &mut ticket, value)
        } else {
            // A store that refuses it, or drops it at once.
            ticket.commit(|| ())
        };
        if !kept {
            Self::invalidate(world);
        }
    }

    /// Reads without looking into the store.
    fn load(world: &World) -> u32 {
        loop {
            match Self::join(world) {
                Join::Lead(leader) => return Self::lead(world, leader),
                Join::Follow(follower) => {
                    if let Some(value) = Self::wait(follower) {
                        return value;
                    }
                }
            }
        }
    }

    fn lead(world: &World, mut leader: Leader<u32>) -> u32 {
        let value = world.begin_load();
        Self::commit(world, leader.ticket(), value);
        world.end_load();
        Self::finish(world, leader, value);
        value
    }

    /// Reads the store, else loads; whoever leads looks again.
    fn get(world: &World) -> u32 {
        loop {
            if let Some(value) = world.store.get() {
                return value;
            }
            match Self::join(world) {
                Join::Lead(leader) => match world.store.get() {
                    Some(value) => {
                        Self::finish(world, leader, value);
                        return value;
                    }
                    None => return Self::lead(world, leader),
                },
                Join::Follow(follower) => {
                    if let Some(value) = Self::wait(follower) {
                        return value;
                    }
                }
            }
        }
    }
}

/// The rules as they should be.
pub(crate) struct Right;

impl Rules for Right {}

/// Runs a scenario in every interleaving, or in all with so many preemptions at most; answers how many these are.
pub(crate) fn explore(preemptions: Option<usize>, scenario: impl Fn() + Send + Sync + 'static) -> usize {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let mut checker = loom::model::Builder::new();
    checker.preemption_bound = preemptions;
    checker.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        scenario();
    });
    runs.load(Ordering::Relaxed)
}
