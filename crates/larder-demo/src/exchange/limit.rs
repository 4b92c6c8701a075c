//! How many requests the exchange answers.

use std::{num::NonZeroU32, time::Duration};

use governor::{Quota, RateLimiter, middleware::NoOpMiddleware, state::InMemoryState, state::NotKeyed};

use crate::pace::Pace;

/// A bucket of tokens: each request takes one, and they come back at a steady rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimit {
    per_second: NonZeroU32,
    burst: NonZeroU32,
}

impl RequestLimit {
    /// `per_second` requests a second in the long run, `burst` at once.
    #[must_use]
    pub const fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self { per_second, burst }
    }

    /// Requests a second in the long run.
    #[must_use]
    pub const fn per_second(&self) -> NonZeroU32 {
        self.per_second
    }

    /// Requests at once.
    #[must_use]
    pub const fn burst(&self) -> NonZeroU32 {
        self.burst
    }
}

#[derive(Debug)]
pub(super) struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, Pace, NoOpMiddleware<Duration>>,
    pace: Pace,
}

impl Bucket {
    pub(super) fn new(limit: RequestLimit, pace: Pace) -> Self {
        let quota = Quota::per_second(limit.per_second).allow_burst(limit.burst);
        Self { limiter: RateLimiter::direct_with_clock(quota, pace.clone()), pace }
    }

    /// Takes a token, or says how long it takes until there is one.
    pub(super) fn take(&self) -> Result<(), Duration> {
        self.limiter.check().map_err(|refusal| refusal.wait_time_from(self.pace.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::{Bucket, RequestLimit};
    use crate::pace::Pace;

    #[tokio::test]
    async fn tokens_run_out_and_come_back_after_the_time_that_was_named() {
        let number = |n| NonZeroU32::new(n).unwrap();
        let pace = Pace::skipping();
        let bucket = Bucket::new(RequestLimit::new(number(10), number(2)), pace.clone());
        assert_eq!((bucket.take(), bucket.take()), (Ok(()), Ok(())));
        assert_eq!(bucket.take(), Err(Duration::from_millis(100)));
        pace.sleep(Duration::from_millis(100)).await;
        assert_eq!(bucket.take(), Ok(()));
        assert_eq!(bucket.take(), Err(Duration::from_millis(100)));
    }
}
