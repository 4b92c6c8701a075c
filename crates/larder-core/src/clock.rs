//! Time as Larder sees it: one injected source, so that tests move it by hand.
//!
//! [`Clock`] tells the time and needs no runtime; [`Timer`] adds waiting. Deadlines are [`Tick`]s of the monotonic
//! clock, which no change of the wall clock moves; [`UnixMillis`] is what goes into stored entries.

use std::{
    fmt,
    ops::{Add, Sub},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::future::BoxFuture;

/// A point of monotonic time, in nanoseconds since the clock's own origin. Adding saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(u64);

impl Tick {
    /// Later than every other tick: the deadline of what never expires.
    pub const FOREVER: Self = Self(u64::MAX);
    /// The clock's origin.
    pub const ZERO: Self = Self(0);

    /// A tick from nanoseconds since the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this tick, zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Tick {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Tick {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Wall-clock time in milliseconds since 1970-01-01 UTC. Adding saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Later than every other time.
    pub const FOREVER: Self = Self(u64::MAX);

    /// The time left from `now` until this point, zero if it has passed.
    #[must_use]
    pub const fn remaining(self, now: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(now.0))
    }
}

impl Add<Duration> for UnixMillis {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// Tells the time.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Monotonic time. May advance in steps of a few milliseconds; costs some ten nanoseconds at most.
    fn now(&self) -> Tick;

    /// Monotonic time without steps, on the same scale as [`now`](Self::now), for measuring.
    fn now_precise(&self) -> Tick {
        self.now()
    }

    /// Wall-clock time.
    fn wall(&self) -> UnixMillis;
}

/// A clock that one can wait on.
pub trait Timer: Clock {
    /// Completes once [`now`](Clock::now) has reached `deadline`; at once if it has. Dropping the future cancels the wait.
    fn sleep_until(&self, deadline: Tick) -> BoxFuture<'static, ()>;

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.sleep_until(self.now_precise() + duration)
    }
}

/// The machine's clock. On Linux [`now`](Clock::now) reads the kernel's coarse monotonic clock (steps of 1 to 4 ms,
/// about 10 ns a call); elsewhere it is as precise as [`now_precise`](Clock::now_precise).
#[derive(Clone, Copy)]
pub struct SystemClock {
    origin: Instant,
    #[cfg(target_os = "linux")]
    origin_nanos: u64,
}

impl SystemClock {
    /// A clock whose origin lies a second in the past, so that "a moment ago" is still a positive tick.
    #[must_use]
    pub fn new() -> Self {
        let second = Duration::from_secs(1);
        let now = Instant::now();
        Self {
            origin: now.checked_sub(second).unwrap_or(now),
            #[cfg(target_os = "linux")]
            origin_nanos: kernel_nanos(rustix::time::ClockId::Monotonic).saturating_sub(1_000_000_000),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SystemClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemClock")
    }
}

#[cfg(target_os = "linux")]
fn kernel_nanos(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

impl Clock for SystemClock {
    #[cfg(target_os = "linux")]
    fn now(&self) -> Tick {
        Tick(kernel_nanos(rustix::time::ClockId::MonotonicCoarse).saturating_sub(self.origin_nanos))
    }

    #[cfg(not(target_os = "linux"))]
    fn now(&self) -> Tick {
        self.now_precise()
    }

    fn now_precise(&self) -> Tick {
        Tick(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> UnixMillis {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(feature = "tokio")]
impl Timer for SystemClock {
    fn sleep_until(&self, deadline: Tick) -> BoxFuture<'static, ()> {
        /// A year: far enough, and within what the runtime's timer accepts.
        const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
        let wait = deadline.since(self.now_precise()).min(LONGEST);
        Box::pin(tokio::time::sleep(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_saturate_instead_of_wrapping() {
        assert_eq!(Tick::FOREVER + Duration::from_secs(1), Tick::FOREVER);
        assert_eq!(Tick::ZERO + Duration::MAX, Tick::FOREVER);
        assert_eq!(Tick::ZERO - Duration::from_secs(1), Tick::ZERO);
        assert_eq!(Tick::from_nanos(5).since(Tick::from_nanos(9)), Duration::ZERO);
    }

    #[test]
    fn coarse_and_precise_time_share_one_scale() {
        let clock = SystemClock::new();
        let coarse = clock.now();
        let precise = clock.now_precise();
        assert!(precise + Duration::from_millis(1) >= coarse, "{precise:?} {coarse:?}");
        assert!(precise.since(coarse) < Duration::from_secs(5));
    }
}
