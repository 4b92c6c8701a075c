//! Tests of what crosses crates: whole caches on real Redis servers, in one process and in several.

#[cfg(unix)]
mod chaos;
mod coherence;
#[cfg(unix)]
mod coherence_torture;
mod faults;
mod globs;
mod outage;
mod pages;
mod processes;
mod races;
mod rights;
mod round_trips;
mod sharing;
mod snippets;
mod stampede;
mod topologies;
mod tracking;
mod warming;

use std::{future::Future, sync::Arc, time::Duration};

use larder::{Cache, Strategy};
use larder_redis::{RedisBackend, RedisConfig};
use larder_testing::RedisServer;
use tokio::time::{Instant, sleep};

/// How long an event may take to come about on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long Redis may take for one command.
const DEADLINE: Duration = Duration::from_secs(5);

/// Entries live for longer than a test, and a slow machine is no fault of Redis.
const PATIENT: Strategy = Strategy::new("patient", Duration::from_secs(600)).remote_deadline(Duration::from_secs(10));

/// Waits until `happened` answers true.
async fn until<F: Future<Output = bool>>(what: &str, mut happened: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !happened().await {
        assert!(Instant::now() < deadline, "within {PATIENCE:?} it did not happen that {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A cache of one "process" on the Redis at `url`, in the namespace `t`.
async fn cache_at(url: &str) -> Cache {
    let backend = Arc::new(backend_at(url));
    let builder = Cache::builder().namespace("t").strategy(PATIENT).remote_command_deadline(DEADLINE).backend(backend);
    builder.build().await.expect("the settings are valid")
}

fn backend_at(url: &str) -> RedisBackend {
    let config = RedisConfig::builder().url(url).command_deadline(DEADLINE).connect_deadline(DEADLINE).build();
    RedisBackend::new(config.expect("the settings are valid")).expect("the settings are valid")
}

/// The same, once it hears what other processes invalidate.
async fn process(server: &RedisServer) -> Cache {
    let cache = cache_at(&server.url()).await;
    hears_the_bus(&cache).await;
    cache
}

async fn hears_the_bus(cache: &Cache) {
    until("the bus is trusted", || async { cache.health().await.remote.is_some_and(|remote| remote.bus_trusted) })
        .await;
}
