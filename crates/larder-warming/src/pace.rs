//! No more than so many attempts a second.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, Reference as _},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use larder_core::{Tick, Timer};

/// The injected clock, as the rate limiter wants it.
#[derive(Debug, Clone)]
struct TimerClock(Arc<dyn Timer>);

impl Clock for TimerClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.now_precise().since(Tick::ZERO)
    }
}

/// Lets one attempt through at a time, evenly spaced: a burst is what warming is to avoid.
pub(crate) struct Pace {
    limiter: RateLimiter<NotKeyed, InMemoryState, TimerClock, NoOpMiddleware<Duration>>,
    timer: Arc<dyn Timer>,
}

impl Pace {
    pub(crate) fn new(per_second: NonZeroU32, timer: Arc<dyn Timer>) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(NonZeroU32::MIN);
        Self { limiter: RateLimiter::direct_with_clock(quota, TimerClock(Arc::clone(&timer))), timer }
    }

    /// Waits for this attempt's turn.
    pub(crate) async fn turn(&self) {
        while let Err(too_early) = self.limiter.check() {
            let now = self.limiter.clock().now();
            let wait: Duration = too_early.earliest_possible().duration_since(now).into();
            self.timer.sleep(wait).await;
        }
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pace")
    }
}
