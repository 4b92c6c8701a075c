//! One process of a stampede.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    io::BufRead,
    process,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use larder::{Cache, LoadError, Strategy, strategy::Lease};
use larder_core::{Backend, BackendExt, Error, ErrorKind, Key, SetOptions};
use larder_redis::{RedisBackend, RedisConfig};
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

/// How long a process may take to get ready on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a waiting process grants the others above the time of a load. A killed process keeps its fill token for up to
/// three seconds.
const LEASE_RESERVE: Duration = Duration::from_secs(10);

/// What one process is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The Redis server.
    pub url: String,
    /// The namespace of the caches, and what the counts of the loads are kept under.
    pub name: String,
    /// Which process this is, from 0.
    pub process: u32,
    /// How many callers it has.
    pub callers: u32,
    /// How long a load takes, in milliseconds.
    pub load_ms: u64,
    /// How long a read waits for Redis, in milliseconds.
    pub remote_deadline_ms: u64,
    /// By how much it begins later than the signal, in microseconds.
    pub delay_us: u64,
    /// Whether it waits for another process that loads.
    pub lease: bool,
    /// The load that is counted first does not end: its process is there to be killed.
    pub first_load_hangs: bool,
}

/// What the callers of one process got.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Answers {
    /// Which process.
    pub process: u32,
    /// Loads that this process ran to their end.
    pub loads: u64,
    /// Callers that got a value.
    pub answered: u64,
    /// Callers that got an error, by its kind.
    pub errors: BTreeMap<String, u64>,
    /// The values that callers got.
    pub values: BTreeSet<String>,
    /// From the signal to the last answer, in milliseconds.
    pub wall_ms: f64,
    /// From the signal until half of the callers had their answers, in milliseconds.
    pub wait_p50_ms: f64,
    /// From the signal until 99 of 100 callers had their answers, in milliseconds.
    pub wait_p99_ms: f64,
    /// Callers that came before the value was there, and waited for another caller's load.
    pub coalesced: u64,
    /// Calls of the remote tier that failed.
    pub remote_faults: u64,
}

impl Job {
    /// The counter of the loads of all processes.
    pub(super) fn loads_key(&self) -> String {
        format!("loads:{}", self.name)
    }

    /// Where the process that began the load with this number is named.
    pub(super) fn loader_key(&self, number: i64) -> String {
        format!("loads:{}:{number}", self.name)
    }

    /// A backend that waits for its commands as long as reads do, and not for less than it does by itself.
    fn backend(&self) -> Result<RedisBackend> {
        let default = Duration::from_millis(500);
        self.backend_within(default.max(Duration::from_millis(self.remote_deadline_ms)))
    }

    fn backend_within(&self, deadline: Duration) -> Result<RedisBackend> {
        let config = RedisConfig::builder().url(&self.url).command_deadline(deadline).connect_deadline(PATIENCE);
        Ok(RedisBackend::new(config.build()?)?)
    }

    fn strategy(&self) -> Strategy {
        let bound = Duration::from_millis(self.load_ms) + LEASE_RESERVE;
        Strategy::new("stampede", Duration::from_secs(600))
            .lease(if self.lease { Lease::Wait { bound } } else { Lease::Off })
            .hard_timeout(bound * 2)
            .max_load(bound * 2)
            .remote_deadline(Duration::from_millis(self.remote_deadline_ms))
    }
}

/// Runs one process of a stampede. `say` gets `ready` when all callers stand by; a line on standard input lets them go;
/// then `say` gets the [`Answers`] in JSON. After that it stays, since its commit may still be under way, until standard
/// input ends: that ends the process at any time, so that it does not outlive the one that started it.
///
/// # Errors
/// If the server does not answer in time, or what was to be said could not be.
pub async fn work(job: Job, mut say: impl FnMut(&str)) -> Result<()> {
    let signal = listen();
    let tally = Tally(Arc::new(job.backend_within(PATIENCE)?));
    tally.0.ping().await.context("the Redis server does not answer")?;
    let builder = Cache::builder().namespace(&job.name).strategy(job.strategy());
    let cache = builder.backend(Arc::new(job.backend()?)).build().await?;
    await_bus(&cache).await?;

    let (start, started) = watch::channel(None);
    let callers: Vec<_> = (0..job.callers)
        .map(|_| tokio::spawn(call(cache.clone(), tally.clone(), job.clone(), started.clone())))
        .collect();
    say("ready");
    signal.await.context("nobody gave the signal")?;
    tokio::time::sleep(Duration::from_micros(job.delay_us)).await;

    let began = Instant::now();
    start.send(Some(began)).context("no caller stands by")?;
    let mut answers = Answers { process: job.process, ..Answers::default() };
    let mut waits = Vec::with_capacity(callers.len());
    for caller in callers {
        let (wait, result) = caller.await?;
        waits.push(wait);
        match result {
            Ok(value) => {
                answers.answered += 1;
                answers.values.insert(value);
            }
            Err(kind) => *answers.errors.entry(kind.to_owned()).or_default() += 1,
        }
    }
    answers.wall_ms = millis(began.elapsed());
    waits.sort_unstable();
    (answers.wait_p50_ms, answers.wait_p99_ms) = (percentile(&waits, 50), percentile(&waits, 99));
    let stats = cache.stats();
    (answers.loads, answers.coalesced, answers.remote_faults) = (stats.loads, stats.coalesced, stats.remote_faults);
    say(&serde_json::to_string(&answers)?);
    pending().await
}

/// The first line on standard input. Its end ends the process.
fn listen() -> oneshot::Receiver<()> {
    let (signal, signalled) = oneshot::channel();
    thread::spawn(move || {
        let mut signal = Some(signal);
        for line in std::io::stdin().lock().lines() {
            if line.is_err() {
                break;
            }
            // Nobody listens any more if the process is about to end.
            signal.take().map(|signal| signal.send(()));
        }
        process::exit(0);
    });
    signalled
}

async fn await_bus(cache: &Cache) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !cache.health().await.remote.is_some_and(|remote| remote.bus_trusted) {
        if Instant::now() > deadline {
            bail!("the cache did not hear the bus within {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// What one caller got, and how long after the signal.
async fn call(
    cache: Cache,
    tally: Tally,
    job: Job,
    mut started: watch::Receiver<Option<Instant>>,
) -> (Duration, Result<String, &'static str>) {
    let signalled = started.wait_for(Option::is_some).await.map(|signalled| *signalled);
    let Ok(Some(signalled)) = signalled else { return (Duration::ZERO, Err("not_started")) };
    let result = cache.get_or_load("cold", move || load(tally, job)).await;
    let result = result.map(|value| value.as_ref().clone()).map_err(|error| match error {
        LoadError::Loader(_) => "loader",
        LoadError::TimedOut => "timed_out",
        LoadError::Panicked(_) => "panicked",
        LoadError::Recursive => "recursive",
        LoadError::Overloaded => "overloaded",
        _ => "other",
    });
    (signalled.elapsed(), result)
}

/// Each load has a value of its own, so that callers who got different ones can be told apart.
async fn load(tally: Tally, job: Job) -> larder_core::Result<String> {
    let number = tally.count(&job).await?;
    if number == 1 && job.first_load_hangs {
        return pending().await;
    }
    tokio::time::sleep(Duration::from_millis(job.load_ms)).await;
    Ok(format!("load {number}, by process {}", job.process))
}

/// Counts loads in Redis, on connections of its own.
#[derive(Debug, Clone)]
struct Tally(Arc<RedisBackend>);

impl Tally {
    /// Counts a load that begins, and leaves word of who runs it.
    async fn count(&self, job: &Job) -> larder_core::Result<i64> {
        let unsupported = || Error::new(ErrorKind::Unsupported, "count", "the backend has no counters".to_owned());
        let counter = self.0.as_counter().ok_or_else(unsupported)?;
        let number = counter.increment(&Key::from_canonical(job.loads_key()), 1, None).await?;
        let who = job.process.to_string().into();
        self.0.set(&Key::from_canonical(job.loader_key(number)), who, SetOptions::new()).await?;
        Ok(number)
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().map_or(0.0, millis)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_waits() {
        let waits: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!((percentile(&waits, 50), percentile(&waits, 99)), (100.0, 198.0));
        assert_eq!(percentile(&waits[..1], 99), 1.0);
        assert_eq!(percentile(&[], 50), 0.0);
    }
}
