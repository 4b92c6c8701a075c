//! Tests of the public interface.

#![expect(clippy::unwrap_used, reason = "the functions that tests share may fail a test as the tests do")]

mod acceptance;
mod basics;
mod batches;
mod coherence;
mod degrade;
#[cfg(feature = "metrics")]
mod figures;
mod globals;
mod invalidations;
mod leases;
mod loads;
mod model;
mod order;
mod reads;
mod regression;
mod shutdown;
mod source;
mod stale;
mod tiers;
mod timeouts;
mod updates;

use std::sync::Arc;

use larder::{Cache, ManualClock};
use larder_memory::MemoryBackend;

/// A store that several caches share, as several processes share a Redis.
fn store(clock: &ManualClock) -> Arc<MemoryBackend> {
    let backend = MemoryBackend::builder().clock(Arc::new(clock.clone())).build();
    Arc::new(backend.expect("the default settings are valid"))
}

/// A cache of one "process" on a shared store.
async fn process(clock: &ManualClock, store: &Arc<MemoryBackend>) -> Cache {
    let builder = Cache::builder().namespace("t").timer(Arc::new(clock.clone())).backend(store.clone());
    builder.build().await.expect("the settings are valid")
}
