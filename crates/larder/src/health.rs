//! Whether the cache is well, and what is wrong if it is not.

use std::{
    collections::BTreeMap,
    future::{Future, IntoFuture},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use larder_core::{BackendExt, Error, ErrorKind, GetOptions, Key, Result, SetOptions, Tick};
use larder_fallback::{BreakerState, Deferred, FallbackBackend, FallbackStats, FileState};
use parking_lot::Mutex;
use serde::Serialize;

use crate::{Cache, engine::Engine};

/// Upkeep runs every 10 s; without a run for so long, nothing runs in the background any more.
const STALLED: Duration = Duration::from_secs(60);

/// How well the cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HealthStatus {
    /// All tiers answer.
    Healthy,
    /// Something does not, and the cache works without it.
    Degraded,
    /// A probe read back something else than it wrote.
    Unhealthy,
}

/// What is known of the remote tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RemoteHealth {
    /// The backend's name.
    pub backend: String,
    /// Whether it answered.
    pub reachable: bool,
    /// What the circuit breaker lets through: `closed` (everything), `half_open` (a probe), `open` (nothing); `forced_open` and
    /// `forced_closed` where somebody said so.
    pub breaker: String,
    /// Whether it takes writes; `false` while it is out of memory. Noticed by writes alone, both ways.
    pub takes_writes: bool,
    /// Removals that are remembered until the remote tier is back.
    pub journal: usize,
    /// Bytes that they take up, about.
    pub journal_bytes: usize,
    /// Removals that found no room in the journal, since the start.
    pub journal_lost: u64,
    /// Whether nothing is read from the remote tier until the namespace's generation was removed there, in place of removals
    /// that found no room.
    pub journal_overflown: bool,
    /// The journal's file: `none`, `sound`, or `failing` if it cannot be written.
    pub journal_file: String,
    /// Bytes in memory that stand in for the remote tier while it is away.
    pub fallback_bytes: u64,
    /// Whether invalidations of other processes arrive.
    pub bus_trusted: bool,
    /// Messages of other processes that were ignored: of another version of the protocol, or unreadable.
    pub bus_ignored: u64,
    /// The last fault, and how long ago it was, in milliseconds.
    pub last_fault: Option<(String, u64)>,
    /// The kind of the last fault, such as `timeout`, `auth`, `loading`, `out_of_memory`, `read_only`.
    pub last_fault_kind: Option<String>,
    /// Faults by kind since the start; kinds without one are missing.
    pub faults: BTreeMap<String, u64>,
}

/// A report on the cache. Serializes as JSON with the fields' names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// How well it is.
    pub status: HealthStatus,
    /// Why, where it is not healthy, for a reader.
    pub why: Option<String>,
    /// The same for a program: the kind of an error (`timeout`, `auth`, `loading`, `out_of_memory`, `read_only`, ...),
    /// `forced_open`, `journal_overflown`, `journal`, `journal_file`, `bus`, or `probe`.
    pub reason: Option<String>,
    /// How long it has been so, in milliseconds, as far as it was noticed.
    pub lasts_ms: Option<u64>,
    /// See [`is_live`](Self::is_live).
    pub live: bool,
    /// See [`is_ready`](Self::is_ready).
    pub ready: bool,
    /// Entries in the near tier.
    pub near_entries: u64,
    /// Bytes in the near tier.
    pub near_bytes: u64,
    /// The remote tier, if there is one.
    pub remote: Option<RemoteHealth>,
}

impl Health {
    /// Whether the service can use its cache: degraded is well enough.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.status != HealthStatus::Unhealthy
    }

    /// For a liveness probe: whether the cache's own work in the background goes on. A remote tier that is away, slow or wrong
    /// is no reason to restart a process, which would only lose its near tier; so none of that matters here.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// For a readiness probe: whether requests should be sent here. A degraded cache serves, so this is false only after
    /// [`Cache::shutdown`], or if the cache is [unhealthy](HealthStatus::Unhealthy).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// The report as one JSON object.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "texts, numbers and flags always serialize")]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers and flags always serialize")
    }
}

/// What a cache notes for its reports.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Whether the remote tier has a bus, and this cache was to use it.
    pub(crate) expects_bus: bool,
    /// When upkeep last began, in the clock's nanoseconds; 0 where there is none.
    upkeep: AtomicU64,
    is_shut_down: AtomicBool,
    /// Why the cache was found to be not healthy, and when first.
    found: Mutex<Option<(&'static str, Tick)>>,
    /// The fallback's hidden faults when statistics were last cleared.
    hidden: AtomicU64,
}

impl Notes {
    pub(crate) fn new(expects_bus: bool) -> Self {
        Self { expects_bus, ..Self::default() }
    }

    pub(crate) fn upkeep_at(&self, now: Tick) {
        self.upkeep.store(now.as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn shut_down(&self) {
        self.is_shut_down.store(true, Ordering::Relaxed);
    }

    pub(crate) fn clear_hidden(&self, hidden: u64) {
        self.hidden.store(hidden, Ordering::Relaxed);
    }

    /// Faults that callers were not told of, since statistics were cleared.
    pub(crate) fn hidden_since(&self, hidden: u64) -> u64 {
        hidden.saturating_sub(self.hidden.load(Ordering::Relaxed))
    }

    fn is_live(&self, now: Tick) -> bool {
        let upkeep = self.upkeep.load(Ordering::Relaxed);
        let is_running = upkeep == 0 || now.since(Tick::from_nanos(upkeep)) < STALLED;
        is_running || self.is_shut_down.load(Ordering::Relaxed)
    }

    /// Since when it has been so, if nothing else tells.
    fn found(&self, reason: Option<&'static str>, now: Tick) -> Option<Tick> {
        let mut found = self.found.lock();
        match reason {
            None => *found = None,
            Some(reason) if found.is_none_or(|(other, _)| other != reason) => *found = Some((reason, now)),
            Some(_) => {}
        }
        found.map(|(_, since)| since)
    }
}

/// Something that is wrong.
struct Complaint {
    status: HealthStatus,
    reason: &'static str,
    why: String,
    since: Option<Tick>,
}

impl Complaint {
    fn degraded(reason: &'static str, why: impl Into<String>, since: Option<Tick>) -> Self {
        Self { status: HealthStatus::Degraded, reason, why: why.into(), since }
    }
}

/// Asks for a [`Health`]: `.await` pings the remote tier, [`probe`](Self::probe) writes and reads.
#[derive(Debug)]
#[must_use = "nothing is asked until it is awaited"]
pub struct HealthCheck<'a> {
    cache: &'a Cache,
}

impl Cache {
    /// Reports on the cache. Never fails and takes no longer than the deadline of a remote read.
    pub fn health(&self) -> HealthCheck<'_> {
        HealthCheck { cache: self }
    }

    /// What stands before the remote tier, if there is one: its figures, the changes of the breaker's state, and the means to
    /// open or close it by hand. What is written through it by itself goes past near tier, flights and fence.
    #[must_use]
    pub fn fallback(&self) -> Option<&FallbackBackend> {
        self.engine.fallback.as_deref()
    }
}

impl<'a> HealthCheck<'a> {
    /// Also sets, gets, compares and deletes a value of its own in the remote tier, or in the near tier where there is
    /// no other.
    pub async fn probe(self) -> Health {
        let outcome = self.cache.bounded(self.cache.probe()).await;
        self.cache.report(outcome)
    }
}

impl<'a> IntoFuture for HealthCheck<'a> {
    type Output = Health;
    type IntoFuture = BoxFuture<'a, Health>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let outcome = self.cache.ping().await;
            self.cache.report(outcome)
        })
    }
}

impl Cache {
    async fn ping(&self) -> Result<()> {
        match &self.engine.remote {
            Some(remote) => self.bounded(remote.backend.ping()).await,
            None => Ok(()),
        }
    }

    async fn probe(&self) -> Result<()> {
        let token = Bytes::from(format!("{:032x}", fastrand::u128(..)));
        let key = Key::from_canonical(format!("{}%probe:{}", self.engine.prefix, fastrand::u64(..)));
        let store = self.engine.store();
        let options = SetOptions::new().ttl(Duration::from_secs(10));
        let was_away = self.engine.is_away();
        store.set(&key, token.clone(), options).await?;
        // A read that failed is no miss here.
        let found = self.found(&key).await?;
        // A removal that is remembered is reported by itself.
        if let Err(error) = store.delete(&key).await
            && Deferred::of(&error).is_none()
        {
            return Err(error);
        }
        if found.as_ref() == Some(&token) {
            return Ok(());
        }
        if found.is_none() && was_away {
            // What stood in for the remote tier has it.
            return Err(self.engine.away("ping"));
        }
        let message = "a value was read back as another one than was written";
        Err(Error::new(ErrorKind::Protocol, "probe", message).with_key(&key))
    }

    async fn found(&self, key: &Key) -> Result<Option<Bytes>> {
        let Some(remote) = &self.engine.remote else { return self.engine.store().get(key).await };
        Ok(remote.get_or_fault(key, GetOptions::new()).await?.map(|found| found.value))
    }

    async fn bounded<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.engine.within(self.engine.root.strategy.remote_deadline, call).await
    }

    fn report(&self, outcome: Result<()>) -> Health {
        let engine = &self.engine;
        let near = engine.near.stats();
        let now = engine.timer.now();
        let reachable = outcome.is_ok();
        let complaint = engine.complaint(outcome, now);
        let found = engine.notes.found(complaint.as_ref().map(|complaint| complaint.reason), now);
        let since = complaint.as_ref().and_then(|complaint| complaint.since).or(found);
        let status = complaint.as_ref().map_or(HealthStatus::Healthy, |complaint| complaint.status);
        let is_shut_down = engine.notes.is_shut_down.load(Ordering::Relaxed);
        Health {
            status,
            reason: complaint.as_ref().map(|complaint| complaint.reason.to_owned()),
            why: complaint.map(|complaint| complaint.why),
            lasts_ms: since.map(|since| millis(now.since(since))),
            live: engine.notes.is_live(now),
            ready: status != HealthStatus::Unhealthy && !is_shut_down,
            near_entries: near.entries,
            near_bytes: near.bytes,
            remote: engine.fallback.as_ref().map(|fallback| engine.remote_health(fallback, reachable, now)),
        }
    }
}

impl Engine {
    /// The gravest thing that is wrong. `outcome` is that of the sign of life, or of the probe.
    fn complaint(&self, outcome: Result<()>, now: Tick) -> Option<Complaint> {
        let fallback = self.fallback.as_ref().map(|fallback| (fallback, fallback.stats()));
        if let Some((fallback, stats)) = fallback.as_ref().filter(|(_, stats)| !stats.state.lets_calls_through()) {
            return Some(away(fallback, stats));
        }
        if let Some(error) = outcome.as_ref().err().filter(|error| error.operation() == "probe") {
            let status = HealthStatus::Unhealthy;
            return Some(Complaint { status, reason: "probe", why: error.to_string(), since: None });
        }
        let (fallback, stats) = fallback?;
        if stats.overflown {
            let why =
                "the journal was full: nothing is read from the remote tier until the generation was removed there";
            return Some(Complaint::degraded("journal_overflown", why, None));
        }
        if let Err(error) = outcome {
            return Some(Complaint::degraded(error.kind().as_str(), error.to_string(), None));
        }
        if let Some(since) = fallback.writes_refused_since() {
            let why = "the remote tier is out of memory: it is read, but takes no writes";
            return Some(Complaint::degraded(ErrorKind::OutOfMemory.as_str(), why, Some(since)));
        }
        if stats.journal > 0 {
            let why = "removals are remembered that the remote tier has not carried out: other processes may still read old values";
            return Some(Complaint::degraded("journal", why, None));
        }
        if stats.file == FileState::Failing {
            let why = "the journal's file cannot be written: removals are remembered in memory only; check the disk";
            return Some(Complaint::degraded("journal_file", why, None));
        }
        if self.notes.expects_bus && !self.coherence.is_trusted(now) {
            let why = "invalidations of other processes may be missed: near entries live for the blind TTL";
            return Some(Complaint::degraded("bus", why, None));
        }
        None
    }

    fn remote_health(&self, fallback: &FallbackBackend, reachable: bool, now: Tick) -> RemoteHealth {
        let stats = fallback.stats();
        let seen_here = self.last_fault.lock().clone();
        // The later one: the fallback knows of faults that nobody here was told of.
        let last_fault = [fallback.last_fault(), seen_here].into_iter().flatten().max_by_key(|(at, _)| *at);
        RemoteHealth {
            backend: self.remote.as_ref().map_or_else(String::new, |_| fallback.primary_name().to_owned()),
            reachable,
            breaker: stats.state.as_str().to_owned(),
            takes_writes: fallback.writes_refused_since().is_none(),
            journal: stats.journal,
            journal_bytes: stats.journal_bytes,
            fallback_bytes: self.secondary.as_ref().map_or(0, |secondary| secondary.bytes()),
            journal_lost: stats.lost,
            journal_overflown: stats.overflown,
            journal_file: stats.file.as_str().to_owned(),
            bus_trusted: self.coherence.is_trusted(now),
            bus_ignored: self.coherence.ignored(),
            last_fault_kind: last_fault.as_ref().map(|(_, error)| error.kind().as_str().to_owned()),
            last_fault: last_fault.map(|(at, error)| (error.to_string(), millis(now.since(at)))),
            faults: stats
                .faults
                .iter()
                .filter(|(_, count)| *count > 0)
                .map(|(kind, count)| (kind.as_str().to_owned(), count))
                .collect(),
        }
    }
}

fn away(fallback: &FallbackBackend, stats: &FallbackStats) -> Complaint {
    let since = fallback.away_since();
    if stats.state == BreakerState::ForcedOpen {
        return Complaint::degraded("forced_open", "the breaker was opened by hand", since);
    }
    match fallback.last_fault() {
        Some((_, error)) => {
            Complaint::degraded(error.kind().as_str(), format!("the remote tier is away: {error}"), since)
        }
        None => Complaint::degraded("unavailable", "the remote tier is away", since),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
