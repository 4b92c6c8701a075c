//! Upkeep of one cache: dead entries out, statistics published, a low hit rate reported.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use larder_core::{BackendExt, Key, SetOptions, Timer};

use super::Engine;
use crate::stats::Stats;

/// How often upkeep runs, and statistics are published.
const EVERY: Duration = Duration::from_secs(10);

/// How long published statistics stay: a process that has gone is not counted for longer.
const PUBLISHED_FOR: Duration = Duration::from_secs(30);

/// Near entries looked at in one sweep, so that upkeep never takes long.
const SWEEP: usize = 10_000;

/// A hit rate of fewer requests than this says nothing.
const ENOUGH_REQUESTS: u64 = 100;

/// Starts upkeep if there is a runtime; it ends with the cache.
pub(crate) fn spawn_upkeep(engine: &Arc<Engine>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let timer = Arc::clone(&engine.timer);
    engine.notes.upkeep_at(timer.now());
    let task = runtime.spawn(run(Arc::downgrade(engine), timer));
    engine.tasks.lock().push(task.abort_handle());
}

async fn run(engine: Weak<Engine>, timer: Arc<dyn Timer>) {
    loop {
        timer.sleep(EVERY).await;
        let Some(engine) = engine.upgrade() else { return };
        engine.upkeep().await;
    }
}

impl Engine {
    async fn upkeep(&self) {
        self.notes.upkeep_at(self.timer.now());
        self.near.sweep(self.timer.now(), SWEEP);
        if self.coherence.is_to_clean() {
            self.near.retain(|_, entry| self.coherence.is_present(&entry.meta));
        }
        let stats = self.stats();
        self.check_hit_rate(&stats);
        crate::events::publish(&self.prefix, &stats);
        if let Some(fallback) = &self.fallback {
            crate::events::publish_remote(&self.prefix, &fallback.stats());
        }
        if let Err(error) = self.publish(&stats).await {
            self.remote_fault(&self.root, None, &error);
        }
    }

    /// One log line when the hit rate falls below the bound, and one when it is back.
    fn check_hit_rate(&self, stats: &Stats) {
        let (Some(bound), Some(rate)) = (self.warn_below_hit_rate, stats.hit_rate()) else { return };
        let low = rate < bound && stats.requests() >= ENOUGH_REQUESTS;
        if low != self.warned.swap(low, Ordering::Relaxed) {
            crate::events::hit_rate(low, rate, bound);
        }
    }

    /// Puts this process's figures where the command line adds them up.
    pub(crate) async fn publish(&self, stats: &Stats) -> larder_core::Result<()> {
        let Some(remote) = &self.remote else { return Ok(()) };
        let text = serde_json::to_vec(stats).map_err(|error| {
            larder_core::Error::new(larder_core::ErrorKind::Encode, "publish", "statistics").with_source(error)
        })?;
        let options = SetOptions::new().ttl(PUBLISHED_FOR);
        let key = self.stats_key();
        let write = remote.backend.set(&key, text.into(), options);
        self.within(self.root.strategy.remote_deadline, write).await?;
        Ok(())
    }

    fn stats_key(&self) -> Key {
        Key::from_canonical(format!("{}{STATS_KEY}{:016x}", self.prefix, self.coherence.origin()))
    }
}

/// What the keys of published statistics begin with, behind the namespace.
const STATS_KEY: &str = "%stats:";
