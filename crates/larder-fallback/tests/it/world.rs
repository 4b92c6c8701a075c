//! A fallback between a primary that fails on demand and a memory backend, on a clock that is moved by hand.

use std::{sync::Arc, time::Duration};

use larder_core::{Backend, BackendExt, Bytes, ErrorKind, Key, Result, SetOptions, Timer};
use larder_fallback::{BreakerState, FallbackBackend, FallbackBuilder};
use larder_memory::MemoryBackend;
use larder_testing::{FaultyBackend, ManualClock};

pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) struct World {
    pub(crate) clock: ManualClock,
    pub(crate) primary: Arc<FaultyBackend>,
    pub(crate) secondary: Arc<MemoryBackend>,
    pub(crate) fallback: Arc<FallbackBackend>,
}

pub(crate) fn memory(clock: &ManualClock) -> Arc<MemoryBackend> {
    let memory = MemoryBackend::builder().clock(Arc::new(clock.clone())).build();
    Arc::new(memory.expect("settings that are allowed"))
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text)
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub(crate) fn with(settings: impl FnOnce(FallbackBuilder) -> FallbackBuilder) -> Self {
        let clock = ManualClock::new();
        let primary = Arc::new(FaultyBackend::new(memory(&clock)));
        let secondary = memory(&clock);
        let builder =
            FallbackBackend::builder(Arc::<FaultyBackend>::clone(&primary), Arc::<MemoryBackend>::clone(&secondary));
        let timer: Arc<dyn Timer> = Arc::new(clock.clone());
        let fallback = settings(builder.timer(timer).seed(7)).build().expect("settings that are allowed");
        Self { clock, primary, secondary, fallback: Arc::new(fallback) }
    }

    /// Lets the primary fail until the breaker opens.
    pub(crate) async fn lose_primary(&self) {
        self.primary.fail(ErrorKind::Unavailable);
        for _ in 0..3 {
            assert_eq!(self.get("nothing").await, None);
        }
        assert_eq!(self.fallback.state(), BreakerState::Open);
    }

    /// Lets the primary answer again and waits until the breaker has noticed.
    pub(crate) async fn return_primary(&self) {
        self.primary.heal();
        self.clock.advance_and_settle(SECOND * 31).await;
        assert_eq!(self.fallback.state(), BreakerState::Closed);
    }

    pub(crate) async fn get(&self, name: &str) -> Option<Bytes> {
        self.fallback.get(&key(name)).await.expect("reads fall back")
    }

    pub(crate) async fn set(&self, name: &str, value: &'static str) {
        let outcome = self.fallback.set(&key(name), Bytes::from(value), SetOptions::new()).await;
        assert!(outcome.expect("writes fall back").is_stored());
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<bool> {
        self.fallback.delete(&key(name)).await
    }

    /// What the primary holds, whatever it answers just now.
    pub(crate) async fn behind(&self, name: &str) -> Option<Bytes> {
        self.primary.inner().get(&key(name)).await.expect("the backend behind never fails")
    }

    pub(crate) async fn put_behind(&self, name: &str, value: &'static str) {
        let backend: &Arc<dyn Backend> = self.primary.inner();
        backend.set(&key(name), Bytes::from(value), SetOptions::new()).await.expect("the backend behind never fails");
    }
}
