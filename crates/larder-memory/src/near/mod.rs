//! The near tier: typed values in this process, found by the canonical text of their key.
//!
//! It stands on `quick_cache`, behind this one small type, so that the choice can be measured again. A hit takes a
//! shared lock of one shard for the time of a hash lookup and the clone of the value's `Arc`; it allocates nothing and leaves
//! no lock held. A key of up to 38 bytes lies in its slot: a hit then has one place less in memory to wait for.
//!
//! **Deadlines are kept here and judged by the caller.** [`NearTier::get`] answers what is stored, dead or alive: the
//! caller has read the clock already and checks deadline, epoch and tags in one go. Dead entries go when the caller
//! meets them ([`NearTier::remove_if`]), and by [`NearTier::sweep`], which finds them by deadline without looking at the
//! living.
//!
//! **What counts against the bound** is each entry's weight, which the caller states for the value, plus the length of
//! its key, plus [`ENTRY_OVERHEAD`]. The bound is divided among shards that evict by themselves, so the heaviest entry
//! that can be kept is a little less than one shard ([`NearTier::largest_entry`]).
//!
//! No value is dropped under a lock: a value whose `Drop` uses the cache again does no harm.

mod config;
mod entry;
mod key;

use std::{
    fmt,
    hash::BuildHasherDefault,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

pub use config::NearConfig;
pub use entry::{AnyValue, Beside, NearEntry};
pub use key::Sought;
use key::{NearKey, TakeHash};
use larder_core::{Error, KeyHash, Result, Tick};
use parking_lot::Mutex;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter, sync::Cache};

use crate::deadlines::Deadlines;

/// What an entry costs beyond its value and key, in bytes: its slot, its share of the hash table and of the memory of evicted
/// keys, its record by deadline, and the headers of the `Arc`s. By their sizes, rounded up. A short key lies in the slot
/// and is counted beside it all the same.
pub const ENTRY_OVERHEAD: u64 = 232;

/// What the library adds to a slot, and to a slot's share of the hash table, at most.
const SLOT: usize = size_of::<NearKey>() + size_of::<NearEntry<[u64; 3]>>() + 16 + 12;
const RECORD: usize = size_of::<(Tick, NearKey)>();
const ARC_HEADERS: usize = 2 * 16;
const _: () = assert!((SLOT + RECORD + ARC_HEADERS) as u64 + 8 <= ENTRY_OVERHEAD, "the sum of its parts");

/// The share of a shard that one entry may take.
const HOT_SHARE: f64 = 0.97;

/// What became of an insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admission {
    /// The entry is kept, and replaced the one before it.
    Kept,
    /// The entry is heavier than a shard can hold and was not kept; the one before it is gone too.
    TooHeavy,
}

/// A moment's figures of a near tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct NearStats {
    /// Entries, dead ones that were not met yet included.
    pub entries: u64,
    /// What they weigh, in bytes.
    pub bytes: u64,
    /// What they may weigh, in bytes.
    pub capacity_bytes: u64,
    /// Entries that gave way to others since the start; replaced and removed ones do not count.
    pub evictions: u64,
    /// Entries that were kept since the start, replacements included.
    pub inserts: u64,
    /// Entries that were too heavy to keep, since the start.
    pub rejected: u64,
}

#[derive(Clone)]
struct ByWeight;

impl<M> Weighter<NearKey, NearEntry<M>> for ByWeight {
    #[inline]
    fn weight(&self, _key: &NearKey, entry: &NearEntry<M>) -> u64 {
        entry.weight
    }
}

#[derive(Clone)]
struct TakeEvicted;

/// What an insertion pushed out, carried beyond the locks under which it happened: a value's `Drop` is the user's code.
/// Dropping this drops the values.
pub struct Displaced<M> {
    first: Option<(NearKey, NearEntry<M>)>,
    more: Vec<(NearKey, NearEntry<M>)>,
}

impl<M> Default for Displaced<M> {
    fn default() -> Self {
        Self { first: None, more: Vec::new() }
    }
}

impl<M> Displaced<M> {
    fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    /// How many entries gave way since there were `before`. The library reports the replaced entry among them, which has
    /// the inserted key.
    fn gave_way(&self, before: usize, inserted: &NearKey) -> u64 {
        let all = self.first.iter().chain(&self.more).skip(before);
        let replaced = all.clone().any(|(key, _)| key == inserted);
        all.count() as u64 - u64::from(replaced)
    }
}

impl<M> fmt::Debug for Displaced<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Displaced").field("entries", &self.len()).finish_non_exhaustive()
    }
}

impl<M> Lifecycle<NearKey, NearEntry<M>> for TakeEvicted {
    type RequestState = Displaced<M>;

    #[inline]
    fn on_evict(&self, state: &mut Displaced<M>, key: NearKey, entry: NearEntry<M>) {
        if state.first.is_none() && state.more.is_empty() {
            state.first = Some((key, entry));
        } else {
            state.more.push((key, entry));
        }
    }
}

type Store<M> = Cache<NearKey, NearEntry<M>, ByWeight, BuildHasherDefault<TakeHash>, TakeEvicted>;

/// The in-process tier of typed values. All methods may be called from many threads at once.
pub struct NearTier<M> {
    store: Store<M>,
    /// By shard of the store. Taken after the store's lock is released, never while it is held.
    deadlines: Box<[Mutex<Deadlines<NearKey>>]>,
    /// The shard in which the next sweep begins.
    sweep_from: AtomicUsize,
    largest: u64,
    evictions: AtomicU64,
    inserts: AtomicU64,
    rejected: AtomicU64,
}

impl<M: Beside> NearTier<M> {
    /// An empty tier. Allocates nothing for entries yet.
    ///
    /// # Errors
    /// [`Config`](larder_core::ErrorKind::Config), naming the setting and what would be right.
    pub fn new(config: &NearConfig) -> Result<Self> {
        let bytes = config.bytes()?;
        let shards = config.shards()?;
        // A multiple of the shards, since the library rounds each shard's part up.
        let capacity = bytes - bytes % shards;
        let options = OptionsBuilder::new()
            .estimated_items_capacity(config.entries()?)
            .weight_capacity(capacity)
            .shards(usize::try_from(shards).unwrap_or(usize::MAX))
            .hot_allocation(HOT_SHARE)
            .build()
            .map_err(|error| Error::config("near_bytes", error))?;
        let store = Store::with_options(options, ByWeight, BuildHasherDefault::default(), TakeEvicted);
        let deadlines = (0..store.num_shards()).map(|_| Mutex::new(Deadlines::new())).collect();
        Ok(Self {
            largest: hot_part(store.shard_capacity()),
            store,
            deadlines,
            sweep_from: AtomicUsize::new(0),
            evictions: AtomicU64::new(0),
            inserts: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
        })
    }

    /// The entry under a key, dead or alive: the caller judges its deadlines. What is beside the value is what
    /// [`Beside::for_hit`] leaves of it. No allocation; no lock is held afterwards.
    #[inline]
    #[must_use]
    pub fn get<'a>(&self, key: impl Into<Sought<'a>>) -> Option<NearEntry<M>> {
        let Sought { bytes, hash } = key.into();
        self.look(bytes, hash)
    }

    /// A call of its own, so that the library's code is in it and finds the hash in a register: in memory, where it was written a
    /// moment ago, a look-up would wait for it.
    #[inline(never)]
    fn look(&self, bytes: &[u8], hash: KeyHash) -> Option<NearEntry<M>> {
        self.store.get(&Sought { bytes, hash })
    }

    /// The entry with all that is kept beside it, without counting as a use. Others wait meanwhile: not for hits.
    #[must_use]
    pub fn whole(&self, key: &str) -> Option<NearEntry<M>> {
        let mut whole = None;
        let kept = self.store.remove_if(&Sought::from(key), |entry| {
            whole = Some(entry.whole());
            false
        });
        debug_assert!(kept.is_none(), "the closure refuses every removal");
        whole
    }

    /// What the entry under a key counts against the bound, in bytes.
    #[must_use]
    pub fn weight_of(&self, key: &str) -> Option<u64> {
        self.store.peek(&Sought::from(key)).map(|entry| entry.weight)
    }

    /// Keeps an entry in place of whatever stood there, and lets others give way as needed. `weight` is that of the
    /// value in bytes; the key and [`ENTRY_OVERHEAD`] are added. O(1), a record by deadline O(log n) beside it.
    pub fn insert(&self, key: Arc<str>, entry: NearEntry<M>, weight: u64) -> Admission {
        self.insert_with(key, entry, weight, &mut Displaced::default())
    }

    /// As [`insert`](Self::insert) for callers that hold a lock: what is pushed out goes into `displaced`, which they drop
    /// when they have let go of it.
    pub fn insert_with(
        &self,
        key: Arc<str>,
        mut entry: NearEntry<M>,
        weight: u64,
        displaced: &mut Displaced<M>,
    ) -> Admission {
        let length = key.len() as u64;
        let key = NearKey::new(key);
        entry.weight = weight.saturating_add(length).saturating_add(ENTRY_OVERHEAD);
        if entry.weight > self.largest {
            // What stood there is outdated all the same.
            displaced.more.extend(self.store.remove(&key));
            displaced.more.push((key, entry));
            self.rejected.fetch_add(1, Ordering::Relaxed);
            return Admission::TooHeavy;
        }
        let deadline = entry.stale_until;
        let before = displaced.len();
        self.store.insert_with_lifecycle(key.clone(), entry, displaced);
        self.inserts.fetch_add(1, Ordering::Relaxed);
        let gave_way = displaced.gave_way(before, &key);
        if gave_way > 0 {
            self.evictions.fetch_add(gave_way, Ordering::Relaxed);
        }
        self.record(deadline, key);
        Admission::Kept
    }

    /// Looks at an entry's deadline without cloning it: a clone could turn out to be the last owner of the value, whose
    /// `Drop` would then run under the lock of the deadlines.
    fn deadline_of(&self, key: &NearKey) -> Option<Tick> {
        let mut deadline = None;
        let kept = self.store.remove_if(key, |entry| {
            deadline = Some(entry.stale_until);
            false
        });
        debug_assert!(kept.is_none(), "the closure refuses every removal");
        deadline
    }

    /// Changes an entry's deadlines or what is kept beside it; its weight stays. Answers whether there was one. As with
    /// [`insert_with`](Self::insert_with), what is pushed out goes into `displaced`.
    pub fn amend(&self, key: Arc<str>, change: impl FnOnce(&mut NearEntry<M>), displaced: &mut Displaced<M>) -> bool {
        let Some(mut entry) = self.whole(&key) else { return false };
        let key = NearKey::new(key);
        change(&mut entry);
        let deadline = entry.stale_until;
        if let Err(refused) = self.store.replace_with_lifecycle(key.clone(), entry, false, displaced) {
            // Gone in between: the copy may be the last owner of the value.
            displaced.more.push(refused);
            return false;
        }
        self.record(deadline, key);
        true
    }

    fn record(&self, deadline: Tick, key: NearKey) {
        if deadline != Tick::FOREVER {
            let shard = &self.deadlines[self.store.shard_index(&key)];
            shard.lock().record(deadline, key, |key| self.deadline_of(key));
        }
    }

    /// Removes an entry.
    pub fn remove(&self, key: &str) -> Option<NearEntry<M>> {
        self.store.remove(&Sought::from(key)).map(|(_, entry)| entry)
    }

    /// Removes an entry if it is (still) the one that is meant; answers whether it did. Nothing can be put in its place
    /// between the question and the removal. `which` runs under a lock: it must be quick and must not use the tier.
    pub fn remove_if(&self, key: &str, which: impl FnOnce(&NearEntry<M>) -> bool) -> bool {
        self.store.remove_if(&Sought::from(key), which).is_some()
    }

    /// Removes every entry that `keep` refuses and that was there when the call began; answers how many. O(entries),
    /// locking for one entry at a time. What is beside the values may be as with a hit. `keep` may run twice for an entry,
    /// the second time under a lock: it must be quick and must not use the tier.
    pub fn retain(&self, keep: impl Fn(&str, &NearEntry<M>) -> bool) -> u64 {
        let mut removed = 0;
        for (key, entry) in self.store.iter() {
            let key = key.as_str();
            if !keep(key, &entry) {
                removed += u64::from(self.remove_if(key, |entry| !keep(key, entry)));
            }
        }
        removed
    }

    /// Removes everything that was there when the call began; answers how many entries. Values are dropped one by one,
    /// outside the locks.
    pub fn clear(&self) -> u64 {
        self.store.drain().count() as u64
    }

    /// Removes entries whose `stale_until` has come, looking at `at_most` candidates; answers how many were removed. A
    /// call goes on where the one before it ended; one that answers less than `at_most` may have met outdated records,
    /// so call again at the next tick in any case. O(`at_most` x log n), whatever the number of living entries.
    pub fn sweep(&self, now: Tick, at_most: usize) -> u64 {
        let shards = self.deadlines.len();
        let from = self.sweep_from.load(Ordering::Relaxed);
        let (mut removed, mut left) = (0, at_most);
        for step in 0..shards {
            let shard = (from + step) % shards;
            self.sweep_from.store(shard, Ordering::Relaxed);
            while left > 0 {
                let Some(key) = self.deadlines[shard].lock().pop_due(now) else { break };
                left -= 1;
                removed += u64::from(self.store.remove_if(&key, |entry| entry.stale_until <= now).is_some());
            }
            if left == 0 {
                break;
            }
        }
        removed
    }

    /// Calls `visit` for every entry, dead ones included, outside the locks: it may use the tier. Entries that come or
    /// go meanwhile may be missed. What is beside the values is as with a hit.
    pub fn for_each(&self, mut visit: impl FnMut(&str, NearEntry<M>)) {
        for (key, entry) in self.store.iter() {
            visit(key.as_str(), entry);
        }
    }

    /// The number of entries, dead ones that were not met yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.store.is_empty()
    }

    /// What the entries weigh, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.store.weight()
    }

    /// The heaviest entry that can be kept, in bytes, its key and [`ENTRY_OVERHEAD`] included.
    #[must_use]
    pub fn largest_entry(&self) -> u64 {
        self.largest
    }

    /// The tier's figures. Entries and bytes are read shard by shard, so they need not be of exactly one moment.
    #[must_use]
    pub fn stats(&self) -> NearStats {
        NearStats {
            entries: self.store.len() as u64,
            bytes: self.store.weight(),
            capacity_bytes: self.store.capacity(),
            evictions: self.evictions.load(Ordering::Relaxed),
            inserts: self.inserts.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
        }
    }
}

impl<M> fmt::Debug for NearTier<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NearTier").field("shards", &self.deadlines.len()).finish_non_exhaustive()
    }
}

/// The part of a shard that one entry may take, as the library computes it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the same rounding as in the library; a byte more or less does not matter"
)]
fn hot_part(shard_capacity: u64) -> u64 {
    (shard_capacity as f64 * HOT_SHARE) as u64
}
