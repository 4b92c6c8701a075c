//! Counting, cheap enough for the hit path: sharded by thread, added up when somebody asks.

use std::{
    cell::Cell,
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The last one belongs to all threads together that have none of their own.
const SHARDS: usize = 32;
const SHARED: usize = SHARDS - 1;
const EVENTS: usize = 14;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Event {
    NearHit,
    RemoteHit,
    StaleHit,
    Miss,
    Load,
    LoadError,
    Coalesced,
    Set,
    Delete,
    RemoteFault,
    Undecodable,
    Refused,
    WrongType,
    LoadMicros,
}

/// Counters of one region or function.
#[derive(Debug)]
pub(crate) struct Counters {
    shards: [Shard; SHARDS],
    /// What the shards said when they were last cleared: only its owner writes to a shard.
    cleared: [AtomicU64; EVENTS],
}

/// Two cache lines of its own, so that threads do not slow one another down.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard([AtomicU64; EVENTS]);

/// A shard that belongs to one thread until that ends. Its owner counts without the price of an atomic addition.
struct Lease(Cell<usize>);

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    static LEASE: Lease = Lease(Cell::new(lease()));
}

/// Shards that belonged to threads which have ended, and how many were given out in all.
static LEASES: Mutex<(Vec<usize>, usize)> = Mutex::new((Vec::new(), 0));

fn lease() -> usize {
    let mut leases = LEASES.lock();
    if let Some(shard) = leases.0.pop() {
        return shard;
    }
    let next = leases.1;
    if next < SHARED {
        leases.1 += 1;
    }
    next
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What this thread still counts while it ends.
        SHARD.set(SHARED);
        if self.0.get() != SHARED {
            LEASES.lock().0.push(self.0.get());
        }
    }
}

#[inline]
fn shard() -> usize {
    match SHARD.get() {
        usize::MAX => first_shard(),
        shard => shard,
    }
}

#[cold]
fn first_shard() -> usize {
    let shard = LEASE.try_with(|lease| lease.0.get()).unwrap_or(SHARED);
    SHARD.set(shard);
    shard
}

impl Default for Counters {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Shard::default()), cleared: Default::default() }
    }
}

impl Counters {
    #[inline]
    pub(crate) fn count(&self, event: Event) {
        self.add(event, 1);
    }

    #[inline]
    pub(crate) fn add(&self, event: Event, amount: u64) {
        let shard = shard();
        let counter = &self.shards[shard].0[event as usize];
        if shard == SHARED {
            counter.fetch_add(amount, Ordering::Relaxed);
        } else {
            // Nobody else writes to it.
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
        }
    }

    fn sum(&self, event: usize) -> u64 {
        let counts = self.shards.iter().map(|shard| shard.0[event].load(Ordering::Relaxed));
        counts.fold(0, u64::wrapping_add)
    }

    fn get(&self, event: Event) -> u64 {
        self.sum(event as usize).wrapping_sub(self.cleared[event as usize].load(Ordering::Relaxed))
    }

    pub(crate) fn clear(&self) {
        for (event, cleared) in self.cleared.iter().enumerate() {
            cleared.store(self.sum(event), Ordering::Relaxed);
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            near_hits: self.get(Event::NearHit),
            remote_hits: self.get(Event::RemoteHit),
            stale_hits: self.get(Event::StaleHit),
            misses: self.get(Event::Miss),
            loads: self.get(Event::Load),
            load_errors: self.get(Event::LoadError),
            load_micros: self.get(Event::LoadMicros),
            coalesced: self.get(Event::Coalesced),
            sets: self.get(Event::Set),
            deletes: self.get(Event::Delete),
            remote_faults: self.get(Event::RemoteFault),
            undecodable: self.get(Event::Undecodable),
            refused: self.get(Event::Refused),
            wrong_type: self.get(Event::WrongType),
            ..Stats::default()
        }
    }
}

/// What a cache, a region or a function has done since it was made or its statistics were cleared.
///
/// `requests = hits + misses`; a caller that waited for another's load is one miss and one `coalesced`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct Stats {
    /// Reads answered from this process's memory, stale ones included.
    pub near_hits: u64,
    /// Reads answered from the remote tier, stale ones included.
    pub remote_hits: u64,
    /// Those of the hits that were stale.
    pub stale_hits: u64,
    /// Reads that found nothing, whether or not a load followed.
    pub misses: u64,
    /// Runs of loaders, background refreshes included.
    pub loads: u64,
    /// Those of them that failed.
    pub load_errors: u64,
    /// Time spent in loaders, in microseconds.
    pub load_micros: u64,
    /// Callers that shared another caller's load.
    pub coalesced: u64,
    /// Values written by callers.
    pub sets: u64,
    /// Keys deleted by callers.
    pub deletes: u64,
    /// Calls of the remote tier that failed and were treated as misses. Those that the fallback answered instead, or whose
    /// removals it remembers, are counted for the cache as a whole and for no region.
    pub remote_faults: u64,
    /// Stored entries that could not be used: foreign, of another version or schema, or broken.
    pub undecodable: u64,
    /// Loaded values that were not stored because their key was invalidated or written meanwhile.
    pub refused: u64,
    /// Near entries that were read as another type than they were written as.
    pub wrong_type: u64,
    /// Entries in the near tier, for the cache as a whole.
    pub near_entries: u64,
    /// Bytes in the near tier, for the cache as a whole.
    pub near_bytes: u64,
    /// Entries evicted from the near tier for lack of room, for the cache as a whole.
    pub evictions: u64,
}

impl Stats {
    /// Hits of both tiers.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.near_hits + self.remote_hits
    }

    /// Hits and misses.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.hits() + self.misses
    }

    /// Hits per request, 0 to 1; `None` before the first request.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
    pub fn hit_rate(&self) -> Option<f64> {
        (self.requests() > 0).then(|| self.hits() as f64 / self.requests() as f64)
    }

    /// The mean time of a load; `None` before the first.
    #[must_use]
    pub fn mean_load_time(&self) -> Option<Duration> {
        self.load_micros.checked_div(self.loads).map(Duration::from_micros)
    }

    /// Adds another's figures to these.
    pub fn merge(&mut self, other: &Self) {
        let mine = self.fields_mut();
        for (mine, theirs) in mine.into_iter().zip(other.clone().fields_mut()) {
            *mine += *theirs;
        }
    }

    fn fields_mut(&mut self) -> [&mut u64; 17] {
        [
            &mut self.near_hits,
            &mut self.remote_hits,
            &mut self.stale_hits,
            &mut self.misses,
            &mut self.loads,
            &mut self.load_errors,
            &mut self.load_micros,
            &mut self.coalesced,
            &mut self.sets,
            &mut self.deletes,
            &mut self.remote_faults,
            &mut self.undecodable,
            &mut self.refused,
            &mut self.wrong_type,
            &mut self.near_entries,
            &mut self.near_bytes,
            &mut self.evictions,
        ]
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.hit_rate().map_or_else(|| "-".to_owned(), |rate| format!("{:.2}%", rate * 100.0));
        let load = self.mean_load_time().map_or_else(|| "-".to_owned(), |time| format!("{time:.2?}"));
        let rows: [(&str, String); 12] = [
            ("requests", self.requests().to_string()),
            ("hit rate", rate),
            ("hits, near", self.near_hits.to_string()),
            ("hits, remote", self.remote_hits.to_string()),
            ("of these stale", self.stale_hits.to_string()),
            ("misses", self.misses.to_string()),
            ("loads", format!("{} ({} failed, mean {load})", self.loads, self.load_errors)),
            ("coalesced callers", self.coalesced.to_string()),
            ("sets / deletes", format!("{} / {}", self.sets, self.deletes)),
            ("remote faults", self.remote_faults.to_string()),
            ("near entries", format!("{} ({} bytes)", self.near_entries, self.near_bytes)),
            ("evictions", self.evictions.to_string()),
        ];
        for (index, (name, value)) in rows.iter().enumerate() {
            let end = if index + 1 < rows.len() { "\n" } else { "" };
            write!(f, "{name:<18} {value}{end}")?;
        }
        Ok(())
    }
}

/// The statistics of one cached function or region, with its number of near entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheInfo {
    /// The region's or function's name.
    pub name: String,
    /// Its TTL.
    pub ttl: Duration,
    /// Its entries in the near tier now. Counting them looks at each near entry once.
    pub entries: u64,
    /// Its figures.
    #[serde(flatten)]
    pub stats: Stats,
}

impl CacheInfo {
    /// Hits of both tiers.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.stats.hits()
    }

    /// Reads that found nothing.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.stats.misses
    }

    /// Hits per request, 0 to 1; `None` before the first request.
    #[must_use]
    pub fn hit_rate(&self) -> Option<f64> {
        self.stats.hit_rate()
    }
}

impl fmt::Display for CacheInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (TTL {:?}, {} entries)", self.name, self.ttl, self.entries)?;
        self.stats.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_all_threads_add_up() {
        let counters = Counters::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| counters.count(Event::NearHit)));
            }
        });
        counters.add(Event::Miss, 2000);
        let stats = counters.stats();
        assert_eq!((stats.hits(), stats.requests()), (8000, 10_000));
        assert_eq!(stats.hit_rate(), Some(0.8));
        counters.clear();
        assert_eq!(counters.stats(), Stats::default());
        counters.count(Event::Load);
        assert_eq!(counters.stats(), Stats { loads: 1, ..Stats::default() });
    }

    #[test]
    fn more_threads_than_shards_lose_no_count_and_shards_of_ended_threads_are_used_again() {
        let counters = Counters::default();
        let (threads, start) = (3 * SHARDS, std::sync::Barrier::new(3 * SHARDS));
        for _ in 0..3 {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        // All of them have a shard at the same time.
                        counters.count(Event::Set);
                        start.wait();
                        (0..1000).for_each(|_| counters.count(Event::NearHit));
                    });
                }
            });
        }
        let stats = counters.stats();
        assert_eq!((stats.sets, stats.near_hits), (3 * threads as u64, 3000 * threads as u64));
    }

    #[test]
    fn merging_adds_every_field() {
        let mut one = Stats { near_hits: 1, evictions: 2, ..Stats::default() };
        one.merge(&Stats { near_hits: 10, misses: 5, evictions: 3, ..Stats::default() });
        assert_eq!(one, Stats { near_hits: 11, misses: 5, evictions: 5, ..Stats::default() });
    }
}
