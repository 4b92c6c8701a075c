//! An outage in the middle of the phase with the cache on.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use larder::{Cache, HealthStatus, Source};
use serde_json::{Value, json};

use super::drive::Watch;
use crate::topology::{Servers, Topology};

/// How long the cache may take to be whole again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at the cache's health.
const LOOK: Duration = Duration::from_millis(20);

/// A value that only the remote tier can answer with afterwards.
const PROBE: (&str, u64) = ("smoke:probe", 42);

/// Servers that fail in the middle of a run.
#[derive(Debug, Clone)]
pub struct Outage {
    topology: Topology,
    url: String,
    servers: Arc<Mutex<Servers>>,
}

/// What an outage has shown.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OutageReport {
    /// What failed.
    pub topology: Topology,
    /// How long it took until the servers had got over it.
    pub servers_took: Duration,
    /// Requests that were answered meanwhile; one that fails ends the run.
    pub requests: usize,
    /// How long after that the cache was whole and used the remote tier again; none if it was not within 30 s.
    pub used_again_after: Option<Duration>,
}

impl OutageReport {
    pub(super) fn failure(&self) -> Option<String> {
        if self.requests == 0 {
            return Some("no request was answered during the outage".to_owned());
        }
        let message = || "the remote tier was not used again within 30 s of the outage".to_owned();
        self.used_again_after.is_none().then(message)
    }

    pub(super) fn to_json(&self) -> Value {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        json!({
            "topology": self.topology.to_string(),
            "what": self.topology.outage(),
            "servers_took_ms": millis(self.servers_took),
            "requests": self.requests,
            "failed": 0,
            "used_again_after_ms": self.used_again_after.map(millis),
        })
    }
}

impl Outage {
    /// Of these servers, which end with the last clone.
    #[must_use]
    pub fn new(topology: Topology, servers: Servers) -> Self {
        let url = servers.url();
        Self { topology, url, servers: Arc::new(Mutex::new(servers)) }
    }

    /// The URL of the servers.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Lets the servers fail after a while, and the clients go on until the cache has got over it.
    pub(super) async fn run(self, after: Duration, cache: Cache, watch: Arc<Watch>) -> OutageReport {
        let _end = EndOfOutage(Arc::clone(&watch));
        tokio::time::sleep(after).await;
        let (before, begun) = (watch.answered.load(Ordering::Relaxed), Instant::now());
        let servers = Arc::clone(&self.servers);
        let failing = tokio::task::spawn_blocking(move || {
            servers.lock().unwrap_or_else(PoisonError::into_inner).fail();
        });
        let survived = failing.await.is_ok();
        let servers_took = begun.elapsed();
        let recovered = Instant::now();
        let used_again = async {
            while !is_used(&cache).await {
                tokio::time::sleep(LOOK).await;
            }
        };
        let used_again = survived && tokio::time::timeout(PATIENCE, used_again).await.is_ok();
        OutageReport {
            topology: self.topology,
            servers_took,
            requests: watch.answered.load(Ordering::Relaxed) - before,
            used_again_after: used_again.then(|| recovered.elapsed()),
        }
    }
}

/// Lets the clients come to their end, whatever becomes of the outage.
struct EndOfOutage(Arc<Watch>);

impl Drop for EndOfOutage {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// Whether everything is in order, and a value comes from the remote tier.
async fn is_used(cache: &Cache) -> bool {
    let (key, value) = PROBE;
    if cache.health().await.status != HealthStatus::Healthy || cache.try_set(key, value).await.is_err() {
        return false;
    }
    let loader = || async { Err::<u64, _>("the remote tier does not have it") };
    let read = cache.get_or_load(key, loader).skip_near().outcome().await;
    read.is_ok_and(|outcome| *outcome.value == value && outcome.source == Source::Remote)
}
