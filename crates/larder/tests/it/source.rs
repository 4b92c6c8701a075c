//! A source of values that tests open, break and count.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use larder::{Cache, LoadError, Outcome, Strategy};
use larder_memory::MemoryBackend;
use larder_testing::ManualClock;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::store;

/// Each run answers its number, from 0 on, once the gate lets it.
#[derive(Clone)]
pub(crate) struct Source {
    runs: Arc<AtomicU32>,
    broken: Arc<AtomicBool>,
    gate: Arc<Semaphore>,
    asked: Arc<Mutex<Vec<Vec<u32>>>>,
}

impl Source {
    /// One that answers at once.
    pub(crate) fn open() -> Self {
        let source = Self::gated();
        source.gate.add_permits(Semaphore::MAX_PERMITS / 2);
        source
    }

    /// One that answers as often as [`admit`](Self::admit) says.
    pub(crate) fn gated() -> Self {
        Self { runs: Arc::default(), broken: Arc::default(), gate: Arc::new(Semaphore::new(0)), asked: Arc::default() }
    }

    pub(crate) fn admit(&self, runs: usize) {
        self.gate.add_permits(runs);
    }

    pub(crate) fn close(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    pub(crate) fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }

    /// The keys of each call of [`many`](Self::many), sorted.
    pub(crate) fn asked(&self) -> Vec<Vec<u32>> {
        self.asked.lock().clone()
    }

    pub(crate) async fn run(self) -> Result<u32, &'static str> {
        let number = self.runs.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        if self.broken.load(Ordering::SeqCst) { Err("down") } else { Ok(number) }
    }

    /// Answers ten times each key; those above 100 do not exist.
    pub(crate) async fn many(self, mut keys: Vec<u32>) -> Result<HashMap<u32, u32>, &'static str> {
        keys.sort_unstable();
        self.asked.lock().push(keys.clone());
        self.clone().run().await?;
        Ok(keys.into_iter().filter(|key| *key <= 100).map(|key| (key, key * 10)).collect())
    }
}

pub(crate) type Answer = Result<Outcome<Arc<u32>>, LoadError<&'static str>>;

/// Reads the key `k`.
pub(crate) async fn read(cache: &Cache, source: &Source) -> Answer {
    let source = source.clone();
    cache.get_or_load("k", move || source.run()).outcome().await
}

/// The same in a task of its own.
pub(crate) fn reading(cache: &Cache, source: &Source) -> JoinHandle<Answer> {
    let (cache, source) = (cache.clone(), source.clone());
    tokio::spawn(async move { read(&cache, &source).await })
}

/// A cache without a remote tier under a policy.
pub(crate) async fn near(clock: &ManualClock, strategy: Strategy) -> Cache {
    let builder = Cache::builder().timer(Arc::new(clock.clone())).strategy(strategy.jitter(0.0)).seed(7);
    builder.build().await.unwrap()
}

/// As many "processes" under a policy as are wanted, on one store.
pub(crate) async fn processes<const N: usize>(clock: &ManualClock, strategy: Strategy) -> [Cache; N] {
    processes_on(clock, &store(clock), strategy).await
}

/// The same on a store that the test looks into.
pub(crate) async fn processes_on<const N: usize>(
    clock: &ManualClock,
    shared: &Arc<MemoryBackend>,
    strategy: Strategy,
) -> [Cache; N] {
    let mut caches = Vec::new();
    for seed in 0..N as u64 {
        let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(shared.clone());
        let builder = builder.strategy(strategy.clone().jitter(0.0)).seed(seed);
        caches.push(builder.build().await.unwrap());
    }
    caches.try_into().unwrap()
}
