//! The engine: one cache's tiers, flights, tags and figures, without the types of its values.

mod background;
mod bulk;
mod fill;
mod hold;
mod judge;
mod read;
mod region_state;
mod remote;
mod update;
mod versions;
mod write_path;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use larder_core::{Backend, Error, ErrorKind, Key, Result, Tick, Timer};
use larder_fallback::FallbackBackend;
use larder_flight::Flights;
use larder_memory::{AnyValue, MemoryBackend, NearEntry, NearTier, Sought};
use larder_strategy::Strategy;
use parking_lot::Mutex;

pub(crate) use self::{
    background::spawn_upkeep,
    bulk::{Written, tally},
    read::{
        Answers, BatchLoader, BatchRequest, Chain, Fault, FlightResult, How, Landed, Led, LoadRequest, LoadedAny,
        Loader, Loads, Meta, NearRead, NearState, NoLoader, ReadOptions, Serving, Vouched, Wait, Waited, answer, found,
        provenance,
    },
    region_state::{RegionState, Weigher, region_prefix},
    remote::{Encoded, Life, Reading, Remote, Stored},
    update::Update,
    versions::version,
    write_path::Write,
};
use crate::{coherence::Coherence, health::Notes, private::Sites, stats::Stats, tags::TagTable};

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// One cache.
pub(crate) struct Engine {
    pub(crate) id: u64,
    /// Canonical, `""` or ending in `:`.
    pub(crate) prefix: String,
    pub(crate) near: NearTier<Meta>,
    pub(crate) flights: Flights<Landed>,
    pub(crate) tags: Arc<TagTable>,
    pub(crate) remote: Option<Remote>,
    /// The remote tier's breaker and journal.
    pub(crate) fallback: Option<Arc<FallbackBackend>>,
    /// What stands in for the remote tier.
    pub(crate) secondary: Option<Arc<MemoryBackend>>,
    /// Counters and locks of a cache without a remote tier.
    pub(crate) local: Arc<MemoryBackend>,
    pub(crate) timer: Arc<dyn Timer>,
    pub(crate) enabled: AtomicBool,
    pub(crate) root: Arc<RegionState>,
    pub(crate) regions: Mutex<HashMap<String, Arc<RegionState>>>,
    pub(crate) sites: Sites,
    pub(crate) coherence: Arc<Coherence>,
    pub(crate) warn_below_hit_rate: Option<f64>,
    pub(crate) warned: AtomicBool,
    pub(crate) loads: Loads,
    pub(crate) serving: Serving,
    /// The source of jitter, of early refreshes and of the pauses between polls.
    randomness: Mutex<fastrand::Rng>,
    pub(crate) last_fault: Mutex<Option<(Tick, Error)>>,
    /// For `health()`.
    pub(crate) notes: Notes,
    /// Upkeep and bus; they end with the cache.
    pub(crate) tasks: Mutex<Vec<tokio::task::AbortHandle>>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end_tasks();
    }
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) prefix: String,
    pub(crate) near: NearTier<Meta>,
    /// The remote tier, and the same behind its fallback.
    pub(crate) remote: Option<(Arc<dyn Backend>, Arc<FallbackBackend>)>,
    pub(crate) secondary: Option<Arc<MemoryBackend>>,
    pub(crate) local: Arc<MemoryBackend>,
    pub(crate) timer: Arc<dyn Timer>,
    pub(crate) strategy: Strategy,
    pub(crate) coherence: Arc<Coherence>,
    pub(crate) warn_below_hit_rate: Option<f64>,
    pub(crate) enabled: bool,
    pub(crate) max_background_loads: usize,
    pub(crate) notes: Notes,
    /// `None`: by chance.
    pub(crate) seed: Option<u64>,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Result<Arc<Self>> {
        let timer = Arc::clone(&parts.timer);
        let root = RegionState::new("cache", parts.prefix.clone(), "", parts.strategy)?;
        let tags: Arc<TagTable> = Arc::default();
        let fallback = parts.remote.as_ref().map(|(_, fallback)| Arc::clone(fallback));
        Ok(Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            near: parts.near,
            flights: Flights::new(),
            remote: parts.remote.map(|(primary, fallback)| Remote {
                backend: Arc::clone(&fallback) as Arc<dyn Backend>,
                primary,
                fallback,
                namespace_prefix: parts.prefix.clone(),
                timer,
                tags: Arc::clone(&tags),
                coherence: Arc::clone(&parts.coherence),
            }),
            tags,
            fallback,
            secondary: parts.secondary,
            local: parts.local,
            timer: parts.timer,
            enabled: AtomicBool::new(parts.enabled),
            root: Arc::new(root),
            regions: Mutex::new(HashMap::new()),
            sites: Sites::default(),
            coherence: parts.coherence,
            warn_below_hit_rate: parts.warn_below_hit_rate,
            warned: AtomicBool::new(false),
            serving: Serving::default(),
            loads: Loads::new(parts.max_background_loads),
            randomness: Mutex::new(parts.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed)),
            last_fault: Mutex::new(None),
            notes: parts.notes,
            tasks: Mutex::new(Vec::new()),
            prefix: parts.prefix,
        }))
    }

    /// Ends upkeep and bus.
    pub(crate) fn end_tasks(&self) {
        self.notes.shut_down();
        self.tasks.lock().drain(..).for_each(|task| task.abort());
    }

    /// A source of randomness for one decision.
    pub(crate) fn rng(&self) -> fastrand::Rng {
        self.randomness.lock().fork()
    }

    #[inline]
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Reads the near tier.
    pub(crate) fn near_read<'a>(&self, key: impl Into<Sought<'a>>, now: Tick) -> NearRead {
        NearRead::of(self.near.get(key), now, &self.coherence)
    }

    /// The same with the tags, which hits do not get. Others wait meanwhile, and it counts as no use.
    pub(crate) fn near_look(&self, key: &str, now: Tick) -> NearRead {
        NearRead::of(self.near.whole(key), now, &self.coherence)
    }

    /// What may be done with what the near tier has. For the hottest reads, which look at the entry where the tier has put it
    /// and take nothing but the value out of it: to move an entry that was written a moment ago costs a hit more than the
    /// look-up's hash.
    #[inline(always)]
    pub(crate) fn near_state(&self, entry: Option<&NearEntry<Meta>>, now: Tick) -> NearState {
        NearState::of(entry, now, &self.coherence)
    }

    /// The region of a name, with the cache's own policy if it is new.
    pub(crate) fn region(&self, name: &str) -> Result<Arc<RegionState>> {
        let mut regions = self.regions.lock();
        if let Some(region) = regions.get(name) {
            return Ok(Arc::clone(region));
        }
        let state = RegionState::new(name, region_prefix(&self.prefix, name), name, self.root.strategy.clone())?;
        let state = Arc::new(state);
        regions.insert(name.to_owned(), Arc::clone(&state));
        Ok(state)
    }

    /// The store of counters and locks: the remote tier, or this process's memory.
    pub(crate) fn store(&self) -> &dyn Backend {
        match &self.remote {
            Some(remote) => remote.backend.as_ref(),
            None => self.local.as_ref(),
        }
    }

    /// The remote tier, if the region uses it.
    pub(crate) fn remote_of(&self, region: &RegionState) -> Option<&Remote> {
        self.remote.as_ref().filter(|_| region.strategy.tiers.uses_remote())
    }

    /// Whether the breaker keeps calls from the remote tier.
    pub(crate) fn is_away(&self) -> bool {
        self.fallback.as_ref().is_some_and(|fallback| !fallback.state().lets_calls_through())
    }

    /// What a caller is told who asks for faults while the breaker is open.
    pub(crate) fn away(&self, operation: &'static str) -> Error {
        let last = self.last_fault.lock().as_ref().map(|(_, error)| error.to_string());
        let last = last.unwrap_or_else(|| "none is known".to_owned());
        let message = format!("the remote tier is away and is asked again by itself; its last fault: {last}");
        Error::new(ErrorKind::Unavailable, operation, message)
    }

    /// Drops what was kept unverified as soon as the remote tier is back.
    pub(crate) fn watch_breaker(self: &Arc<Self>) {
        let (Some(fallback), Ok(runtime)) = (&self.fallback, tokio::runtime::Handle::try_current()) else { return };
        let mut states = fallback.subscribe();
        let engine = Arc::downgrade(self);
        let task = runtime.spawn(async move {
            while states.changed().await.is_ok() {
                let state = *states.borrow_and_update();
                let Some(engine) = engine.upgrade() else { return };
                if state.lets_calls_through() {
                    engine.coherence.next_period();
                    engine.forget_where(|_| true);
                }
            }
        });
        self.tasks.lock().push(task.abort_handle());
    }

    /// Runs a remote call within a deadline.
    pub(crate) fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        self.timer.within(limit, call).map(move |answer| answer.unwrap_or_else(|| Err(remote::late(limit))))
    }

    /// Remembers a fault of the remote tier for `health()`, counts and logs it.
    pub(crate) fn remote_fault(&self, region: &RegionState, key: Option<&Key>, error: &Error) {
        region.counters.count(crate::stats::Event::RemoteFault);
        *self.last_fault.lock() = Some((self.timer.now(), error.clone()));
        crate::events::remote_fault(key, error);
    }

    /// The near entry of a value: its deadlines within the bounds that the region and the state of the bus set.
    pub(crate) fn near_entry(
        &self,
        value: AnyValue,
        meta: Meta,
        life: NearLife,
        region: &RegionState,
    ) -> NearEntry<Meta> {
        let from = life.from;
        let now = self.timer.now();
        let (period, mut relies_on_bus) = self.coherence.vouch(now);
        let mut cap = region.strategy.near_life(life.stale_for);
        if self.remote.is_none() || self.remote_of(region).is_none() && !self.coherence.speaks() {
            relies_on_bus = false;
        } else {
            // Nobody can tell whether others invalidate it: while Redis is away for the outage TTL, and while it answers
            // but messages may be missed for the blind TTL.
            if !relies_on_bus && !self.is_away() {
                cap = cap.min(self.coherence.blind_ttl());
            } else if life.unverified || self.is_away() {
                cap = cap.min(region.strategy.outage_ttl);
            }
        }
        let fresh_until = tick_after(from, life.fresh_for.min(cap));
        let refresh_at = life.refresh_after.map_or(fresh_until, |after| tick_after(from, after).min(fresh_until));
        NearEntry::new(value, meta.vouched(Vouched::new(period, relies_on_bus)))
            .with_fresh_until(fresh_until)
            .with_stale_until(tick_after(from, cap))
            .with_refresh_at(refresh_at)
    }

    /// What an entry weighs in the near tier.
    pub(crate) fn weight(region: &RegionState, value: &AnyValue, encoded: Option<usize>, size: usize) -> u64 {
        match (encoded, &region.weigher) {
            (Some(bytes), _) => bytes as u64,
            (None, Some(weigher)) => weigher(value),
            (None, None) => size as u64,
        }
    }

    /// The figures of every region together, and those of the near tier.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.root.counters.stats();
        for region in self.regions.lock().values() {
            stats.merge(&region.counters.stats());
        }
        for site in self.sites.all() {
            stats.merge(&site.counters.stats());
        }
        let near = self.near.stats();
        stats.near_entries = near.entries;
        stats.near_bytes = near.bytes;
        stats.evictions = near.evictions;
        if let Some(fallback) = &self.fallback {
            stats.remote_faults += self.notes.hidden_since(fallback.stats().hidden);
        }
        stats
    }

    /// Sets the figures of every region to zero.
    pub(crate) fn clear_stats(&self) {
        self.root.counters.clear();
        self.regions.lock().values().for_each(|region| region.counters.clear());
        self.sites.all().for_each(|site| site.counters.clear());
        if let Some(fallback) = &self.fallback {
            self.notes.clear_hidden(fallback.stats().hidden);
        }
    }

    /// Drops what this process remembers of the keys that are named, and fences what is under way.
    pub(crate) fn forget_where(&self, concerns: impl Fn(&str) -> bool) -> u64 {
        self.flights.raise_where(&concerns);
        self.serving.forget(|key| concerns(key.as_str()));
        self.near.retain(|key, _| !concerns(key))
    }

    /// Drops one key, and fences what is under way for it.
    pub(crate) fn forget(&self, key: &Key) -> bool {
        // The value is dropped outside the fence's lock.
        let removed = self.flights.raise(key, || self.near.remove(key.as_str()));
        self.serving.forget(|other| other == key);
        removed.is_some()
    }

    pub(crate) fn forget_all<'k>(&self, keys: impl IntoIterator<Item = &'k Key>) {
        for key in keys {
            self.forget(key);
        }
    }
}

/// How long an entry lives in the near tier.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NearLife {
    /// From when on: for what was read or written, before it was sent.
    pub(crate) from: Tick,
    pub(crate) fresh_for: Duration,
    pub(crate) stale_for: Duration,
    pub(crate) refresh_after: Option<Duration>,
    /// The remote tier did not answer, so nobody can tell whether others invalidated it.
    pub(crate) unverified: bool,
}

fn tick_after(now: Tick, duration: Duration) -> Tick {
    if duration == Duration::MAX { Tick::FOREVER } else { now + duration }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("prefix", &self.prefix)
            .field("near", &self.near.stats())
            .field("remote", &self.remote.as_ref().map(|remote| remote.backend.name().to_owned()))
            .finish_non_exhaustive()
    }
}
