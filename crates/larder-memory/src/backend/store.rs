//! The map under the backend: reads, atomic changes, expiry and upkeep.

use std::{
    cmp::Ordering as Order,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use larder_core::{Bytes, Clock, Key, Tick};
use moka::{
    notification::RemovalCause,
    policy::EvictionPolicy,
    sync::{Cache, Iter},
};
use parking_lot::Mutex;

use crate::deadlines::Deadlines;

/// Locks for changes; more than threads are likely to write at once.
const SHARDS: usize = 64;

/// What an entry costs beyond key and value, in bytes: the map's slot and list nodes, the `Arc`s' headers and the record
/// by deadline. Rounded up.
const OVERHEAD: u64 = 256;

/// Operations between two upkeeps, and how many expired entries one of those removes at most: more than can have been
/// written meanwhile, so that upkeep never falls behind.
const UPKEEP_EVERY: u64 = 256;
const UPKEEP_REMOVES: usize = 512;

/// What an entry counts against the bound, in bytes.
pub(super) fn weight_of(key: &Key, value: &Bytes) -> u64 {
    key.as_str().len() as u64 + value.len() as u64 + OVERHEAD
}

/// A stored value.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) value: Bytes,
    pub(super) deadline: Tick,
}

impl Slot {
    pub(super) fn new(value: Bytes, deadline: Tick) -> Self {
        Self { value, deadline }
    }

    pub(super) fn is_live(&self, now: Tick) -> bool {
        now < self.deadline
    }
}

/// What becomes of an entry.
#[derive(Debug)]
pub(super) enum Change {
    None,
    Put(Slot),
    Remove,
}

/// A record by deadline: which slot it was made for tells whether it still counts, without a look into the map.
#[derive(Debug)]
struct Record {
    key: Key,
    slot: Weak<Slot>,
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Order::Equal
    }
}

impl Eq for Record {}

impl PartialOrd for Record {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for Record {
    fn cmp(&self, other: &Self) -> Order {
        self.key.cmp(&other.key).then_with(|| self.slot.as_ptr().cmp(&other.slot.as_ptr()))
    }
}

pub(super) struct Store {
    cache: Cache<Key, Arc<Slot>>,
    /// By hash of the key: the lock of its changes, and the deadlines of what it guards.
    shards: Box<[Mutex<Deadlines<Record>>]>,
    hasher: RandomState,
    clock: Arc<dyn Clock>,
    /// Bytes written since the last upkeep that are worth another one.
    settle_bytes: u64,
    unsettled_bytes: AtomicU64,
    operations: AtomicU64,
    upkeep_from: AtomicUsize,
    evicted: Arc<AtomicU64>,
    pub(super) expired: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
}

impl Store {
    pub(super) fn new(max_bytes: u64, clock: Arc<dyn Clock>) -> Self {
        let evicted = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&evicted);
        let cache = Cache::builder()
            .name("larder")
            .max_capacity(max_bytes)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|key: &Key, slot: &Arc<Slot>| u32::try_from(weight_of(key, &slot.value)).unwrap_or(u32::MAX))
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            })
            .build();
        Self {
            cache,
            shards: (0..SHARDS).map(|_| Mutex::new(Deadlines::new())).collect(),
            hasher: RandomState::new(),
            clock,
            settle_bytes: max_bytes / 8,
            unsettled_bytes: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            upkeep_from: AtomicUsize::new(0),
            evicted,
            expired: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    pub(super) fn entries(&self) -> u64 {
        self.cache.entry_count()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.cache.weighted_size()
    }

    pub(super) fn iter(&self) -> Iter<'_, Key, Arc<Slot>> {
        self.cache.iter()
    }

    fn shard(&self, key: &Key) -> &Mutex<Deadlines<Record>> {
        let hash = self.hasher.hash_one(key);
        &self.shards[usize::try_from(hash % SHARDS as u64).expect("less than the number of shards")]
    }

    /// A live entry. One that has expired is removed now that it was met.
    pub(super) fn read(&self, key: &Key) -> Option<Arc<Slot>> {
        let found = self.cache.get(key);
        let live = found.filter(|slot| slot.deadline == Tick::FOREVER || self.live_or_removed(key, slot));
        if live.is_some() { &self.hits } else { &self.misses }.fetch_add(1, Ordering::Relaxed);
        self.count_operation(0);
        live
    }

    fn live_or_removed(&self, key: &Key, slot: &Slot) -> bool {
        let now = self.clock.now_precise();
        if slot.is_live(now) {
            return true;
        }
        let lock = self.shard(key).lock();
        self.remove_expired(key, now);
        drop(lock);
        false
    }

    /// Removes an entry that has expired. The key's lock must be held.
    fn remove_expired(&self, key: &Key, now: Tick) -> bool {
        let expired = self.cache.get(key).is_some_and(|slot| !slot.is_live(now));
        if expired {
            self.cache.invalidate(key);
            self.expired.fetch_add(1, Ordering::Relaxed);
        }
        expired
    }

    /// Changes an entry in one atomic step: `decide` sees the live entry and the time, and says what becomes of it. It
    /// runs under the key's lock, so it must not use the store.
    pub(super) fn update<R>(&self, key: &Key, decide: impl FnOnce(Option<&Slot>, Tick) -> (Change, R)) -> R {
        let now = self.clock.now_precise();
        let mut written = 0;
        let mut deadlines = self.shard(key).lock();
        let found = self.cache.get(key);
        let (change, answer) = decide(found.as_deref().filter(|slot| slot.is_live(now)), now);
        match change {
            Change::Put(slot) => {
                written = weight_of(key, &slot.value);
                let slot = Arc::new(slot);
                let record = Record { key: key.clone(), slot: Arc::downgrade(&slot) };
                let deadline = slot.deadline;
                self.cache.insert(key.clone(), slot);
                deadlines.record(deadline, record, |record| record.slot.upgrade().map(|slot| slot.deadline));
            }
            Change::Remove if found.is_some() => self.cache.invalidate(key),
            Change::None if found.is_some() => {
                self.remove_expired(key, now);
            }
            Change::Remove | Change::None => {}
        }
        drop(deadlines);
        self.count_operation(written);
        answer
    }

    fn count_operation(&self, written: u64) {
        let operations = self.operations.fetch_add(1, Ordering::Relaxed) + 1;
        let unsettled = self.unsettled_bytes.fetch_add(written, Ordering::Relaxed) + written;
        if operations.is_multiple_of(UPKEEP_EVERY) || unsettled >= self.settle_bytes {
            self.upkeep(UPKEEP_REMOVES);
        }
    }

    /// Removes up to `at_most` expired entries, going on where the last upkeep ended, and settles the evictions;
    /// answers how many entries had expired.
    pub(super) fn upkeep(&self, at_most: usize) -> u64 {
        self.unsettled_bytes.store(0, Ordering::Relaxed);
        let now = self.clock.now_precise();
        let from = self.upkeep_from.load(Ordering::Relaxed);
        let (mut removed, mut left) = (0, at_most);
        for step in 0..SHARDS {
            let shard = (from + step) % SHARDS;
            self.upkeep_from.store(shard, Ordering::Relaxed);
            let mut deadlines = self.shards[shard].lock();
            while left > 0 {
                let Some(record) = deadlines.pop_due(now) else { break };
                left -= 1;
                removed += u64::from(self.remove_expired(&record.key, now));
            }
            if left == 0 {
                break;
            }
        }
        self.cache.run_pending_tasks();
        removed
    }

    pub(super) fn clear(&self) {
        // Under all locks, so that no change sees half of it.
        let mut locks: Vec<_> = self.shards.iter().map(Mutex::lock).collect();
        for (key, _) in &self.cache {
            self.cache.invalidate(&*key);
        }
        for deadlines in &mut locks {
            deadlines.clear();
        }
        drop(locks);
        self.cache.run_pending_tasks();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("clock", &self.clock).finish_non_exhaustive()
    }
}
