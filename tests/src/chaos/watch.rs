//! What a cache says of itself while it is under load.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use larder::Health;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::world::{FAULT, World, lock};

/// How often a cache is asked for its health. What is told of the breaker is no more exact than that.
const LOOK: Duration = Duration::from_millis(10);

/// How many such questions may be without an answer: a cache that waits for its deadline is asked again meanwhile.
const LOOKS: usize = 8;

/// The size of a page of memory in `/proc`, as on every usual machine.
const PAGE_BYTES: u64 = 4096;

/// What was seen of one cache.
#[derive(Debug, Default)]
pub(super) struct Watched {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default, Clone)]
struct Seen {
    /// When the breaker was not closed; the last span may not have ended.
    open: Vec<(Duration, Option<Duration>)>,
    breaker: String,
    journal: usize,
    journal_peak: usize,
    journal_bytes_peak: usize,
    /// When the cache was last asked and had nothing left to remove.
    drained_at: Option<Duration>,
    trusted_since: Option<Duration>,
    near_peak: u64,
    fallback_peak: u64,
    journal_file_failed: bool,
}

/// The most that a cache held: in the near tier, in the fallback, and in the journal.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Peaks {
    pub(super) near_bytes: u64,
    pub(super) fallback_bytes: u64,
    pub(super) journal_bytes: u64,
    pub(super) journal: usize,
}

impl Peaks {
    /// The most of each of two caches.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            near_bytes: self.near_bytes.max(other.near_bytes),
            fallback_bytes: self.fallback_bytes.max(other.fallback_bytes),
            journal_bytes: self.journal_bytes.max(other.journal_bytes),
            journal: self.journal.max(other.journal),
        }
    }
}

impl Watched {
    fn note(&self, asked: Duration, now: Duration, health: Health) {
        let mut seen = lock(&self.seen);
        seen.near_peak = seen.near_peak.max(health.near_bytes);
        let Some(remote) = health.remote else { return };
        let closed = remote.breaker == "closed";
        match seen.open.last_mut() {
            Some((_, end @ None)) if closed => *end = Some(now),
            Some((_, None)) => {}
            _ if closed => {}
            _ => seen.open.push((now, None)),
        }
        if closed && remote.journal == 0 {
            seen.drained_at = Some(asked);
        }
        seen.trusted_since = if remote.bus_trusted { seen.trusted_since.or(Some(now)) } else { None };
        seen.fallback_peak = seen.fallback_peak.max(remote.fallback_bytes);
        seen.journal_peak = seen.journal_peak.max(remote.journal);
        seen.journal_bytes_peak = seen.journal_bytes_peak.max(remote.journal_bytes);
        seen.journal = remote.journal;
        seen.journal_file_failed |= remote.journal_file == "failing";
        seen.breaker = remote.breaker;
    }

    pub(super) fn drained_at(&self) -> Option<Duration> {
        lock(&self.seen).drained_at
    }

    pub(super) fn trusted_since(&self) -> Option<Duration> {
        lock(&self.seen).trusted_since
    }

    /// Whether the breaker is closed, nothing is left to remove and the bus is trusted.
    pub(super) fn is_settled(&self) -> bool {
        let seen = lock(&self.seen);
        seen.breaker == "closed" && seen.journal == 0 && seen.trusted_since.is_some()
    }

    /// When the breaker was not closed, up to now.
    pub(super) fn open_spans(&self, now: Duration) -> Vec<(Duration, Duration)> {
        lock(&self.seen).open.iter().map(|(from, to)| (*from, to.unwrap_or(now))).collect()
    }

    pub(super) fn breaker(&self) -> String {
        lock(&self.seen).breaker.clone()
    }

    /// Whether it was said that the journal's file cannot be written.
    pub(super) fn journal_file_failed(&self) -> bool {
        lock(&self.seen).journal_file_failed
    }

    pub(super) fn peaks(&self) -> Peaks {
        let seen = lock(&self.seen);
        Peaks {
            near_bytes: seen.near_peak,
            fallback_bytes: seen.fallback_peak,
            journal_bytes: seen.journal_bytes_peak as u64,
            journal: seen.journal_peak,
        }
    }
}

/// Asks a cache for its health until it is dropped.
pub(super) async fn watch(world: Arc<World>, process: usize) {
    let free = Arc::new(Semaphore::new(LOOKS));
    let mut looks = JoinSet::new();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        while looks.try_join_next().is_some() {}
        if world.quiet.load(Ordering::Relaxed) && world.scenario.is_bystander(process) {
            continue;
        }
        let Ok(place) = Arc::clone(&free).try_acquire_owned() else { continue };
        let world = Arc::clone(&world);
        looks.spawn(async move {
            let asked = world.now();
            let health = world.processes[process].cache.health().await;
            world.processes[process].watched.note(asked, world.now(), health);
            drop(place);
        });
    }
}

/// The most that the process of the test needed.
#[derive(Debug, Default)]
pub(super) struct Machine {
    resident_bytes: AtomicU64,
    /// The same while Redis is away.
    in_fault: AtomicU64,
    tasks: AtomicU64,
}

impl Machine {
    pub(super) async fn watch(self: Arc<Self>, world: Arc<World>) {
        let mut ticks = interval(LOOK * 5);
        loop {
            ticks.tick().await;
            let resident = resident_bytes();
            self.resident_bytes.fetch_max(resident, Ordering::Relaxed);
            if *lock(&world.part) == FAULT {
                self.in_fault.fetch_max(resident, Ordering::Relaxed);
            }
            let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
            self.tasks.fetch_max(tasks as u64, Ordering::Relaxed);
        }
    }

    /// Resident bytes in all and during the fault, and tasks.
    pub(super) fn peaks(&self) -> [u64; 3] {
        [&self.resident_bytes, &self.in_fault, &self.tasks].map(|peak| peak.load(Ordering::Relaxed))
    }
}

/// The memory of this process; 0 where there is no `/proc`.
pub(super) fn resident_bytes() -> u64 {
    let figures = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = figures.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}
