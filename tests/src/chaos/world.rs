//! The caches of a run, and what is noted while it goes on.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use larder::{Cache, Fsync, LoadError, Outcome, Region, Strategy, strategy::Tiers};
use larder_testing::FaultProxy;
use tokio::{
    sync::RwLock,
    time::{sleep, timeout},
};

use super::{
    Plan, Sabotage, Scenario, Settings,
    disk::File,
    servers::PATIENCE,
    truth::{GROUP, Reading, Truth, WrongValue},
    watch::Watched,
};

/// How often it is looked at whether the caches are whole.
const LOOK: Duration = Duration::from_millis(3);

/// How long a load takes.
const LOAD: Duration = Duration::from_millis(5);

/// What the near tier and the fallback may hold; less than there is, so that both have to choose.
const NEAR_BYTES: u64 = 384 << 10;
pub(super) const FALLBACK_BYTES: u64 = 384 << 10;

/// What a journal may hold: more than all items and all tags.
pub(super) const JOURNAL_BYTES: usize = 512 << 10;

/// How long what was loaded without Redis is served where there are two processes: short enough to be waited for.
pub(super) const OUTAGE_TTL: Duration = Duration::from_secs(5);

/// What a run is at while Redis is away.
pub(super) const FAULT: &str = "fault";

/// How many wrong values are described.
const MOST_DESCRIBED: usize = 20;

/// Entries outlive every run, so that nothing but an invalidation may remove an old one.
const STRATEGY: Strategy = Strategy::new("chaos", Duration::from_secs(4 * 3600));

/// What the near tiers of a scenario may hold. A bystander keeps all that it was ever told.
pub(super) fn near_bytes(scenario: Scenario) -> u64 {
    if scenario == Scenario::SigstopBusIntact { NEAR_BYTES * 8 } else { NEAR_BYTES }
}

/// One cache with its own way to Redis.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) cache: Cache,
    pub(super) proxy: FaultProxy,
    pub(super) watched: Watched,
    near: Region<u32, Reading>,
    far: Region<u32, Reading>,
}

/// The region of an item, by its name in the cache.
fn region_of(item: u32) -> &'static str {
    if item.is_multiple_of(2) { "near" } else { "far" }
}

/// The path of an item's key in the namespace.
pub(super) fn path(item: u32) -> String {
    format!("{}:{item}", region_of(item))
}

/// What all items of a group are tagged with.
pub(super) fn tag(group: u32) -> String {
    format!("group:{group}")
}

impl Process {
    pub(super) async fn start(
        url: String,
        proxy: FaultProxy,
        settings: &Settings,
        (scenario, journal): (Scenario, Option<&File>),
    ) -> Result<Self> {
        let strategy = STRATEGY.remote_deadline(settings.remote_deadline);
        let strategy = if scenario.processes() > 1 { strategy.outage_ttl(OUTAGE_TTL) } else { strategy };
        let builder = Cache::builder().namespace("chaos").strategy(strategy.clone()).seed(settings.seed);
        let near_bytes = near_bytes(scenario);
        let journal = journal.map(File::path);
        let builder = builder.fallback(move |fallback| {
            let fallback = fallback.journal_bytes(JOURNAL_BYTES);
            match &journal {
                Some(path) => fallback.journal_file(path, Fsync::Always),
                None => fallback,
            }
        });
        let cache = builder.near_bytes(near_bytes).fallback_bytes(FALLBACK_BYTES).redis(url).build().await?;
        Self::of(cache, proxy, strategy)
    }

    fn of(cache: Cache, proxy: FaultProxy, strategy: Strategy) -> Result<Self> {
        let near = cache.region("near").strategy(strategy.clone()).build()?;
        let far = cache.region("far").strategy(strategy.tiers(Tiers::Remote)).build()?;
        Ok(Self { cache, proxy, watched: Watched::default(), near, far })
    }

    pub(super) fn region(&self, item: u32) -> &Region<u32, Reading> {
        if item.is_multiple_of(2) { &self.near } else { &self.far }
    }
}

/// The regions of a cache that looks at what lies in Redis.
pub(super) fn far_regions(cache: &Cache) -> Result<[Region<u32, Reading>; 2]> {
    let strategy = STRATEGY.tiers(Tiers::Remote).remote_deadline(Duration::from_secs(10));
    let build = |name| cache.region(name).strategy(strategy.clone()).build();
    Ok([build("near")?, build("far")?])
}

/// What callers and writers have met with.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) calls: AtomicU64,
    pub(super) wrong: AtomicU64,
    pub(super) changes: AtomicU64,
    pub(super) deferred: AtomicU64,
    pub(super) described: Mutex<Vec<WrongValue>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    pub(super) fn error(&self, kind: impl Into<String>) {
        *lock(&self.errors).entry(kind.into()).or_default() += 1;
    }

    pub(super) fn errors(&self) -> BTreeMap<String, u64> {
        lock(&self.errors).clone()
    }

    pub(super) fn wrong(&self, wrong: WrongValue) {
        self.wrong.fetch_add(1, Ordering::Relaxed);
        let mut described = lock(&self.described);
        if described.len() < MOST_DESCRIBED {
            described.push(wrong);
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that the tasks of a run share.
#[derive(Debug)]
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) settings: Settings,
    pub(super) plan: Plan,
    pub(super) truth: Arc<Truth>,
    pub(super) processes: Vec<Process>,
    pub(super) tally: Tally,
    /// The file of the journal, where a scenario has one, and what a process that was killed in the outage would have left.
    pub(super) journal: Option<File>,
    pub(super) left: Mutex<Option<File>>,
    /// Writers hold it for the time of one change; who wants them to stand still takes it for writing.
    pub(super) writing: RwLock<()>,
    pub(super) callers_end: AtomicBool,
    pub(super) writers_end: AtomicBool,
    /// Bystanders are not asked for their health.
    pub(super) quiet: AtomicBool,
    /// What the run is at, for whoever watches.
    pub(super) part: Mutex<&'static str>,
    started: Instant,
    loads: Arc<AtomicU64>,
}

impl World {
    pub(super) fn new(scenario: Scenario, settings: Settings, processes: Vec<Process>, journal: Option<File>) -> Self {
        Self {
            scenario,
            plan: Plan::new(scenario, settings.length),
            settings,
            truth: Arc::new(Truth::new(processes.len())),
            processes,
            tally: Tally::default(),
            journal,
            left: Mutex::new(None),
            writing: RwLock::new(()),
            callers_end: AtomicBool::new(false),
            writers_end: AtomicBool::new(false),
            quiet: AtomicBool::new(false),
            part: Mutex::new("start"),
            started: Instant::now(),
            loads: Arc::default(),
        }
    }

    /// The time since the start.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits until every cache is whole; answers whether they are in time.
    pub(super) async fn settle(&self) -> bool {
        let settled = async {
            while !self.processes.iter().all(|process| process.watched.is_settled()) {
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, settled).await.is_ok()
    }

    pub(super) fn begin(&self, part: &'static str) {
        *lock(&self.part) = part;
    }

    /// Reads an item. `ran_us` gets how long the loader ran, if this call started it.
    pub(super) async fn read(
        &self,
        process: &Process,
        item: u32,
        ran_us: Arc<AtomicU32>,
    ) -> Result<Outcome<Arc<Reading>>, LoadError<io::Error>> {
        let (truth, loads) = (Arc::clone(&self.truth), Arc::clone(&self.loads));
        let fails = self.settings.sabotage == Sabotage::LoadsFail;
        let loader = move || async move {
            let begun = Instant::now();
            // What a database answers is as old as its query.
            let version = truth.version(item);
            sleep(LOAD).await;
            ran_us.store(super::latency::micros(begun.elapsed()).max(1), Ordering::Relaxed);
            if loads.fetch_add(1, Ordering::Relaxed) % 10 == 9 && fails {
                return Err(io::Error::other("this load was broken on purpose"));
            }
            Ok(Reading::new(item, version))
        };
        let read = process.region(item).get_or_load(&item, loader);
        read.tag(tag(item / GROUP)).outcome().await
    }
}

/// The kind of a load's error.
pub(super) fn kind(error: &LoadError<io::Error>) -> &'static str {
    match error {
        LoadError::Loader(_) => "loader",
        LoadError::TimedOut => "timed out",
        LoadError::Panicked(_) => "panicked",
        LoadError::Recursive => "recursive",
        LoadError::Overloaded => "overloaded",
        _ => "other",
    }
}
