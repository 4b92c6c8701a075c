//! One process: its cache, its readers, and what it says to the driver.

use std::{
    collections::HashMap,
    io::{self, BufRead},
    path::PathBuf,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use larder::{
    Cache, Health, HealthStatus, LoadError, Loaded, Outcome, Region, Strategy,
    strategy::{EarlyRefresh, FailSafe, Lease},
};
use larder_redis::{RedisBackend, RedisConfig};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc::{self, UnboundedSender},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    BLIND, Counts, KEYS, REGION_KEYS, Rule, Sabotage, Violation, names,
    promise::{Bound, Promises},
    source::{Answered, Shared, now},
    split::SplitBackend,
    writer,
};

/// Tasks that read, in each process.
const READERS: u32 = 6;

/// How long the link of the messages may give no sign of life, beside the second that it is always given.
const BUS_DEADLINE: Duration = Duration::from_millis(500);

/// How long a process may take until all is well with it.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often figures are told.
const PROGRESS: Duration = Duration::from_millis(200);

/// Violations that a process describes; the others are counted.
const DESCRIBED: u64 = 20;

/// What one process is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The Redis server, for data.
    pub data_url: String,
    /// The same server, for messages.
    pub bus_url: String,
    /// Where the shared files are.
    pub folder: PathBuf,
    /// Which process this is, from 0; that one writes.
    pub process: u32,
    /// How many there are.
    pub processes: u32,
    /// How often it was started before.
    pub incarnation: u32,
    /// Decides what readers and writers do.
    pub seed: u64,
    /// How long Redis may take to answer, in milliseconds.
    pub deadline_ms: u64,
    /// When the run began, on the machine's clock.
    pub began: u64,
    /// How it is broken on purpose.
    pub sabotage: Option<Sabotage>,
}

/// What a process says, one a line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// It stands by.
    Ready,
    /// Its figures so far.
    Progress(Counts),
    /// A broken promise.
    Violation(Violation),
    /// It writes no more, and all that it had deferred is done.
    Quiet,
    /// All is well with its cache.
    Settled,
    /// What it was asked for did not come about.
    Problem(String),
    /// It has looked at all keys once more and does nothing any more.
    Checked,
}

/// What is cached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Value {
    pub(super) key: u32,
    pub(super) version: u64,
    /// The process that made it.
    pub(super) by: u32,
    /// When, on the machine's clock.
    pub(super) at: u64,
}

/// A load fails now and then.
#[derive(Debug)]
pub(super) struct SourceFails;

/// What the tasks of a process share.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) job: Job,
    pub(super) cache: Cache,
    pub(super) regions: Vec<Region<String, Value>>,
    pub(super) shared: Shared,
    pub(super) promises: Promises,
    pub(super) counts: Mutex<Counts>,
    /// Writers stop.
    pub(super) quiet: AtomicBool,
    /// How often the link of the messages was lost.
    losses: Arc<AtomicU64>,
    said: UnboundedSender<Word>,
}

/// Runs one process. Commands come on standard input, one a line; `say` gets the answers. The end of standard input ends the
/// process at any time, so that it does not outlive the one that started it.
///
/// # Errors
/// If the shared files cannot be used or the cache cannot be built.
pub async fn work(job: Job, mut say: impl FnMut(&str)) -> Result<()> {
    let mut commands = listen();
    let (said, mut words) = mpsc::unbounded_channel();
    let worker = Arc::new(Worker::start(job, said).await?);
    worker.say(Word::Ready);
    let obeying = {
        let worker = Arc::clone(&worker);
        async move {
            let mut tasks = JoinSet::new();
            while let Some(command) = commands.recv().await {
                worker.obey(&command, &mut tasks).await?;
            }
            Ok::<_, anyhow::Error>(())
        }
    };
    let mut obeying = std::pin::pin!(obeying);
    loop {
        tokio::select! {
            biased;
            word = words.recv() => match word {
                Some(word) => say(&serde_json::to_string(&word)?),
                None => return Ok(()),
            },
            ended = obeying.as_mut() => return ended,
        }
    }
}

/// The lines of standard input. Its end ends the process.
fn listen() -> mpsc::UnboundedReceiver<String> {
    let (sender, lines) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            // Nobody listens any more if the process is about to end.
            drop(sender.send(line));
        }
        process::exit(0);
    });
    lines
}

fn redis(url: &str, deadline: Duration) -> Result<RedisBackend> {
    let config = RedisConfig::builder().url(url).command_deadline(deadline).connect_deadline(deadline * 2);
    Ok(RedisBackend::new(config.build()?)?)
}

fn base(deadline: Duration) -> Strategy {
    Strategy::new("torture", Duration::from_secs(600)).outage_ttl(BLIND).remote_deadline(deadline * 5 / 4)
}

/// Regions differ, so that all ways of a read are taken: entries that outlive the run, entries that are stale most of the
/// time, refreshes before the time, stale entries in place of errors, loads in all processes at once.
fn strategy(region: u32, deadline: Duration) -> Strategy {
    let base = || base(deadline);
    let second = Duration::from_secs(1);
    match region {
        0 => base(),
        1 => base().ttl(second / 5).stale_window(second * 20).early_refresh(EarlyRefresh::Share(0.5)),
        2 => base()
            .ttl(second)
            .stale_window(second * 5)
            .early_refresh(EarlyRefresh::XFetch { beta: 2.0 })
            .fail_safe(Some(FailSafe::new(second * 5))),
        _ => base().lease(Lease::Off),
    }
}

async fn open(backend: Arc<dyn larder::Backend>, deadline: Duration) -> Result<(Cache, Vec<Region<String, Value>>)> {
    let builder = Cache::builder().namespace("torture").strategy(base(deadline)).blind_ttl(BLIND);
    let cache = builder.remote_command_deadline(deadline).backend(backend).build().await?;
    let regions = (0..KEYS / REGION_KEYS)
        .map(|region| cache.region(&names::region(region)).strategy(strategy(region, deadline)).build())
        .collect::<Result<_, _>>()?;
    Ok((cache, regions))
}

/// What a process that has nothing of its own finds under each key.
pub(super) async fn stored(url: &str) -> Result<Vec<Option<Arc<Value>>>> {
    let (_cache, regions) = open(Arc::new(redis(url, PATIENCE)?), PATIENCE).await?;
    let mut values = Vec::new();
    for key in 0..KEYS {
        values.push(regions[(key / REGION_KEYS) as usize].try_get(&names::key(key)).skip_near().await?);
    }
    Ok(values)
}

impl Worker {
    async fn start(job: Job, said: UnboundedSender<Word>) -> Result<Self> {
        let shared = Shared::open(&job.folder).context("the shared files cannot be opened")?;
        // Before the cache is there: whatever it finds in Redis is newer than this.
        let promises = Promises::new(&shared.log)?;
        let sabotage = job.sabotage.filter(|sabotage| sabotage.breaks(job.process));
        let deadline = Duration::from_millis(job.deadline_ms);
        let backend = SplitBackend::new(redis(&job.data_url, deadline)?, redis(&job.bus_url, BUS_DEADLINE)?, sabotage);
        let losses = backend.losses();
        let (cache, regions) = open(Arc::new(backend), deadline).await?;
        let (counts, quiet) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self { job, cache, regions, shared, promises, counts, quiet, losses, said })
    }

    pub(super) fn say(&self, word: Word) {
        // The process ends when nobody takes its words any more.
        drop(self.said.send(word));
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock());
    }

    pub(super) fn rng(&self, task: u64) -> fastrand::Rng {
        let Job { seed, process, incarnation, .. } = self.job;
        let stream = u64::from(process) << 32 | u64::from(incarnation) << 8 | task;
        fastrand::Rng::with_seed(seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    async fn obey(self: &Arc<Self>, command: &str, tasks: &mut JoinSet<io::Result<()>>) -> Result<()> {
        match command {
            "go" => {
                for reader in 0..READERS {
                    let worker = Arc::clone(self);
                    tasks.spawn(async move { worker.read_on(reader).await });
                }
                let worker = Arc::clone(self);
                tasks.spawn(async move { worker.progress().await });
                if self.job.process == 0 {
                    writer::start(self, tasks);
                } else {
                    let worker = Arc::clone(self);
                    tasks.spawn(async move { worker.hear_on().await });
                }
            }
            "quiet" => self.quiet.store(true, Ordering::SeqCst),
            "settle" => self.settle().await,
            "check" => {
                while let Some(ended) = tasks.try_join_next() {
                    ended??;
                }
                tasks.shutdown().await;
                self.look_at_all().await?;
                self.say(Word::Progress(self.counts.lock().clone()));
                self.say(Word::Checked);
            }
            other => return Err(anyhow!("unknown command {other:?}")),
        }
        Ok(())
    }

    async fn progress(&self) -> io::Result<()> {
        loop {
            sleep(PROGRESS).await;
            self.say(Word::Progress(self.counts.lock().clone()));
        }
    }

    async fn settle(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health = self.cache.health().await;
            if is_calm(&health) && is_trusted(&health) {
                return self.say(Word::Settled);
            }
            if Instant::now() > deadline {
                return self.say(Word::Problem(format!("within {PATIENCE:?} the cache did not get well: {health:?}")));
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn read_on(self: Arc<Self>, reader: u32) -> io::Result<()> {
        let mut rng = self.rng(u64::from(reader));
        loop {
            let key = rng.u32(..KEYS);
            match rng.u8(..20) {
                0..13 => self.load(key, &mut rng, false).await?,
                13 => self.load(key, &mut rng, true).await?,
                14..16 => self.get(key).await?,
                16..18 => self.load_many(key, &mut rng).await?,
                _ => {
                    // A caller that goes away in the middle.
                    let patience = Duration::from_micros(rng.u64(..5000));
                    if timeout(patience, self.load(key, &mut rng, false)).await.is_err() {
                        self.count(|counts| counts.dropped += 1);
                    }
                }
            }
            sleep(Duration::from_micros(rng.u64(200..4000))).await;
        }
    }

    fn region(&self, key: u32) -> &Region<String, Value> {
        &self.regions[(key / REGION_KEYS) as usize]
    }

    fn bound(&self, key: u32) -> io::Result<(Bound, u64)> {
        let bound = self.promises.bound(&self.shared.log, key)?;
        Ok((bound, now()))
    }

    /// Reads the source, with delays, so that what was read may be old when it comes to be stored.
    async fn fetch(self: Arc<Self>, key: u32, delays: [u64; 2]) -> Result<Value, SourceFails> {
        sleep(Duration::from_micros(delays[0])).await;
        let at = now();
        let version = self.shared.source.version(key).map_err(|_| SourceFails)?;
        sleep(Duration::from_micros(delays[1])).await;
        self.count(|counts| counts.loads += 1);
        if delays[1].is_multiple_of(50) {
            return Err(SourceFails);
        }
        Ok(Value { key, version, by: self.job.process, at })
    }

    async fn load(self: &Arc<Self>, key: u32, rng: &mut fastrand::Rng, skip_near: bool) -> io::Result<()> {
        let (name, worker, delays) = (names::key(key), Arc::clone(self), delays(rng));
        let (bound, began) = self.bound(key)?;
        let load = self.region(key).get_or_load_with(&name, move || async move {
            let value = worker.fetch(key, delays).await?;
            // Some tags are known only when the value is.
            let loaded = Loaded::new(value);
            Ok::<_, SourceFails>(if key.is_multiple_of(3) { loaded.tag(names::late_tag(key)) } else { loaded })
        });
        let mut load = load.tag(names::tag(key));
        if !key.is_multiple_of(3) {
            load = load.tag(names::late_tag(key));
        }
        let load = if skip_near { load.skip_near() } else { load };
        self.take(key, bound, began, load.outcome().await.map(|found| Some(sourced(found))))
    }

    async fn get(&self, key: u32) -> io::Result<()> {
        let name = names::key(key);
        let (bound, began) = self.bound(key)?;
        self.take::<SourceFails>(key, bound, began, Ok(self.region(key).get(&name).outcome().await.map(sourced)))
    }

    async fn load_many(self: &Arc<Self>, key: u32, rng: &mut fastrand::Rng) -> io::Result<()> {
        let region = key / REGION_KEYS;
        let keys: Vec<u32> = (0..3).map(|step| region * REGION_KEYS + (key + step * 5) % REGION_KEYS).collect();
        let numbers: HashMap<String, u32> = keys.iter().map(|key| (names::key(*key), *key)).collect();
        let mut bounds = Vec::with_capacity(keys.len());
        for key in &keys {
            bounds.push(self.bound(*key)?);
        }
        let (worker, delays) = (Arc::clone(self), delays(rng));
        let loader = move |missing: Vec<String>| async move {
            let mut found = HashMap::new();
            for name in missing {
                let Some(key) = numbers.get(&name).copied() else { continue };
                let value = Arc::clone(&worker).fetch(key, delays).await;
                let tagged = |value| Loaded::new(value).tag(names::tag(key)).tag(names::late_tag(key));
                found.insert(name, value.map(tagged));
            }
            Ok::<_, SourceFails>(found)
        };
        let cache = self.cache.prefix(&names::region(region));
        let names: Vec<String> = keys.iter().map(|key| names::key(*key)).collect();
        let answers = cache.get_or_load_many_with(names, loader).await;
        for ((key, (bound, began)), answer) in keys.into_iter().zip(bounds).zip(answers) {
            self.take(key, bound, began, answer.map(|value| value.map(|value| ("batch", value))))?;
        }
        Ok(())
    }

    /// Holds an answer against what was promised when the call began.
    fn take<E>(
        &self,
        key: u32,
        bound: Bound,
        began: u64,
        answer: Result<Option<(&'static str, Arc<Value>)>, LoadError<E>>,
    ) -> io::Result<()> {
        let took_us = (now() - began) / 1000;
        let mut counts = self.counts.lock();
        let found = match answer {
            Ok(found) => found,
            Err(error) => {
                *counts.errors.entry(kind(&error).to_owned()).or_default() += 1;
                return Ok(());
            }
        };
        counts.reads += 1;
        if bound.version > 0 {
            *counts.bound_by.entry(bound.rule).or_default() += 1;
        }
        let source = found.as_ref().map_or("absent", |(source, _)| source);
        *counts.sources.entry(source.to_owned()).or_default() += 1;
        let Some((_, value)) = found else { return Ok(()) };
        let insane = value.key != key || value.version > self.shared.source.version(key)?;
        if value.version >= bound.version && !insane {
            return Ok(());
        }
        counts.violations += 1;
        if counts.violations <= DESCRIBED {
            let rule = if insane { Rule::Sane } else { bound.rule };
            let described = self.describe(rule, &value, key, (bound.version, bound.answered), began);
            self.say(Word::Violation(Violation { took_us, source: source.to_owned(), ..described }));
        }
        Ok(())
    }

    fn describe(
        &self,
        rule: Rule,
        value: &Value,
        key: u32,
        (expected, answered): (u64, Option<Answered>),
        began: u64,
    ) -> Violation {
        let millis = |at: u64| at.saturating_sub(self.job.began) / 1_000_000;
        Violation {
            rule,
            key,
            seen: value.version,
            expected,
            process: self.job.process,
            incarnation: self.job.incarnation,
            at_ms: millis(began),
            took_us: 0,
            source: String::new(),
            made_by: value.by,
            made_ms: millis(value.at),
            deed: answered.map(|answered| answered.deed),
            answered_ms: answered.map(|answered| millis(answered.at)),
            deferred: answered.is_some_and(|answered| answered.deferred),
            faults: Vec::new(),
        }
    }

    /// Every key once more: nobody changes them any more, so that only the latest versions are right.
    async fn look_at_all(&self) -> Result<()> {
        for key in 0..KEYS {
            let expected = self.shared.source.version(key)?;
            let began = now();
            let Some(value) = self.find(key).await else { continue };
            if value.version != expected {
                self.count(|counts| counts.violations += 1);
                let described = self.describe(Rule::End, &value, key, (expected, None), began);
                self.say(Word::Violation(Violation { source: "cache".to_owned(), ..described }));
            }
        }
        Ok(())
    }

    /// What the cache has under the key; a busy machine's time-outs do not count.
    async fn find(&self, key: u32) -> Option<Arc<Value>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.region(key).try_get(&names::key(key)).await {
                Ok(found) => return found,
                Err(error) if Instant::now() > deadline => {
                    self.say(Word::Problem(format!("key {key} cannot be read in the end: {error}")));
                    return None;
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Establishes again and again that all messages so far were handled.
    async fn hear_on(self: Arc<Self>) -> io::Result<()> {
        let mut question = u64::from(self.job.incarnation) << 32;
        loop {
            question += 1;
            let heard = timeout(Duration::from_secs(3), self.hear(question)).await;
            let holds = heard.unwrap_or(Ok(false))?;
            self.count(|counts| *(if holds { &mut counts.heard } else { &mut counts.unheard }) += 1);
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// One round: the writer notes what was answered; this process puts a beacon into its near tier; the writer invalidates
    /// it; when it is gone here, all earlier messages were handled too. It may go for another reason, with the whole near
    /// tier: then nothing older is left here either.
    async fn hear(&self, question: u64) -> io::Result<bool> {
        let (process, beacons) = (self.job.process, &self.shared.beacons);
        beacons.ask(process, question)?;
        let records = loop {
            if let Some(records) = beacons.promised(process, question)? {
                break records;
            }
            sleep(Duration::from_millis(2)).await;
        };
        let losses = self.losses.load(Ordering::SeqCst);
        let before = self.cache.health().await;
        let beacon = names::beacon(process);
        let stands = || async { self.cache.near().get::<_, u64>(beacon.as_str()).await.is_some() };
        if !self.cache.near().set(beacon.as_str(), question).ttl(Duration::from_secs(600)).await {
            return Ok(false);
        }
        if !is_trusted(&before) || !is_trusted(&self.cache.health().await) || !stands().await {
            return Ok(false);
        }
        beacons.light(process, question)?;
        while stands().await {
            sleep(Duration::from_micros(500)).await;
        }
        let after = self.cache.health().await;
        // While the breaker is open there may be a fallback that was not emptied with the near tier: only the message counts.
        let was_message = losses == self.losses.load(Ordering::SeqCst);
        let holds = is_trusted(&after) && (was_message || is_calm(&before) && is_calm(&after));
        if holds {
            self.promises.heard(&self.shared.log, records)?;
        }
        Ok(holds)
    }

    /// Whether the remote tier answers and nothing is left to be made up for.
    pub(super) async fn is_calm(&self) -> bool {
        is_calm(&self.cache.health().await)
    }
}

fn is_calm(health: &Health) -> bool {
    let remote = health.remote.as_ref();
    health.status == HealthStatus::Healthy
        && remote.is_some_and(|remote| remote.breaker == "closed" && remote.journal == 0)
}

fn is_trusted(health: &Health) -> bool {
    health.remote.as_ref().is_some_and(|remote| remote.bus_trusted)
}

fn sourced(found: Outcome<Arc<Value>>) -> (&'static str, Arc<Value>) {
    (found.x_cache(), found.value)
}

fn kind<E>(error: &LoadError<E>) -> &'static str {
    match error {
        LoadError::Loader(_) => "loader",
        LoadError::TimedOut => "timed_out",
        LoadError::Panicked(_) => "panicked",
        LoadError::Recursive => "recursive",
        LoadError::Overloaded => "overloaded",
        _ => "other",
    }
}

/// Before and after the source is read, in microseconds: mostly short, now and then long enough for several invalidations.
fn delays(rng: &mut fastrand::Rng) -> [u64; 2] {
    let after = match rng.u8(..20) {
        0..14 => rng.u64(..5000),
        14..19 => rng.u64(5000..50_000),
        _ => rng.u64(50_000..400_000),
    };
    [rng.u64(..2000), after]
}
