//! Time for the exchange and its client: real, or skipping.
//!
//! A skipping pace never waits. Sleeping moves its clock forward by the time that would have passed, so that latency,
//! request limits and backoff can be tested exactly and at once.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use governor::clock::Clock;

/// A clock that starts at zero and can be slept on. Clones share the clock.
#[derive(Clone)]
pub struct Pace {
    source: Source,
    slept_nanos: Arc<AtomicU64>,
}

#[derive(Clone)]
enum Source {
    Real(Instant),
    Skipping(Arc<AtomicU64>),
}

impl Pace {
    /// Time as it passes, on the tokio timer.
    #[must_use]
    pub fn real() -> Self {
        Self { source: Source::Real(Instant::now()), slept_nanos: Arc::default() }
    }

    /// Time that passes only by being slept through.
    #[must_use]
    pub fn skipping() -> Self {
        Self { source: Source::Skipping(Arc::default()), slept_nanos: Arc::default() }
    }

    /// Time since this pace was made.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        match &self.source {
            Source::Real(start) => start.elapsed(),
            Source::Skipping(nanos) => Duration::from_nanos(nanos.load(Ordering::Acquire)),
        }
    }

    /// All the time that was asked for with [`sleep`](Self::sleep), by all clones.
    #[must_use]
    pub fn slept(&self) -> Duration {
        Duration::from_nanos(self.slept_nanos.load(Ordering::Relaxed))
    }

    /// Waits for `duration`, or skips it. A dropped future has still been counted by [`slept`](Self::slept).
    pub async fn sleep(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.slept_nanos.fetch_add(nanos, Ordering::Relaxed);
        match &self.source {
            Source::Real(_) => tokio::time::sleep(duration).await,
            Source::Skipping(now) => {
                now.fetch_add(nanos, Ordering::AcqRel);
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Clock for Pace {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.elapsed()
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            Source::Real(_) => "real",
            Source::Skipping(_) => "skipping",
        };
        f.debug_struct("Pace").field("source", &source).field("elapsed", &self.elapsed()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Pace;

    #[tokio::test]
    async fn a_skipping_pace_moves_by_what_was_slept() {
        let pace = Pace::skipping();
        pace.clone().sleep(Duration::from_secs(3600)).await;
        assert_eq!(pace.elapsed(), Duration::from_secs(3600));
        assert_eq!(pace.slept(), Duration::from_secs(3600));
    }

    #[tokio::test]
    async fn a_real_pace_is_not_moved_by_another_clock() {
        let pace = Pace::real();
        pace.sleep(Duration::ZERO).await;
        assert_eq!(pace.slept(), Duration::ZERO);
        assert!(pace.elapsed() > Duration::ZERO);
    }
}
