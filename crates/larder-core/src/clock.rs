//! Time as Larder sees it: one injected source, so that tests move it by hand.
//!
//! [`Clock`] tells the time and needs no runtime; [`Timer`] adds waiting. Deadlines are [`Tick`]s of the monotonic
//! clock, which no change of the wall clock moves; [`UnixMillis`] is what goes into stored entries.

use std::{
    fmt,
    future::Future,
    ops::{Add, Sub},
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::future::BoxFuture;
use pin_project_lite::pin_project;

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

    /// By how much this process noticed too late that `deadline` has come: it, or its runtime, was busy with something else.
    /// A clock that is moved by hand is never late.
    #[expect(unused_variables, reason = "a named argument reads better in the documentation")]
    fn lateness(&self, deadline: Tick) -> Duration {
        Duration::ZERO
    }
}

/// How often a call is granted its limit anew.
const GRANTS: u32 = 8;

/// Timers are some milliseconds late as a rule.
const PUNCTUAL: Duration = Duration::from_millis(5);

impl dyn Timer {
    /// Waits for a call, at most for `limit`; `None` if it had no answer by then.
    ///
    /// Time in which this process did not get to look at answers is not held against the call: where the end of the limit is
    /// noticed late, by a quarter of it or more, the call has the limit once more, up to eight times. Else a process that is
    /// busy for a moment would take a store for dead that answers in no time.
    pub fn within<F: Future>(&self, limit: Duration, call: F) -> Within<'_, F> {
        Within { timer: self, limit, began: None, sleep: None, grants: GRANTS, call }
    }

    /// What a step has of a limit that began with the one before, and ends at `until`. Where that has been granted it anew,
    /// because this process was busy, so is this one.
    #[must_use]
    pub fn left_of(&self, limit: Duration, until: Tick) -> Duration {
        let left = until.since(self.now_precise());
        if left.is_zero() && self.is_late(until, limit) { limit } else { left }
    }

    fn is_late(&self, deadline: Tick, limit: Duration) -> bool {
        self.lateness(deadline) >= PUNCTUAL.max(limit / 4)
    }

    /// As `within`, for who knows when the call began. A beginning that lies some milliseconds too early, as by
    /// [`now`](Clock::now), makes it a little more patient.
    pub fn within_since<F: Future>(&self, began: Tick, limit: Duration, call: F) -> Within<'_, F> {
        Within { began: Some(began), ..self.within(limit, call) }
    }
}

pin_project! {
    /// The future of [`within`](trait.Timer.html#method.within): the call, and from when on it has to be waited for a timer.
    #[must_use = "futures do nothing until they are awaited"]
    pub struct Within<'t, F> {
        timer: &'t dyn Timer,
        limit: Duration,
        began: Option<Tick>,
        // What needs no waiting needs no timer either.
        sleep: Option<(Tick, BoxFuture<'static, ()>)>,
        grants: u32,
        #[pin]
        call: F,
    }
}

impl<F: Future> Future for Within<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            if let Poll::Ready(answer) = this.call.as_mut().poll(context) {
                return Poll::Ready(Some(answer));
            }
            let (deadline, sleep) = this.sleep.get_or_insert_with(|| {
                let began = this.began.unwrap_or_else(|| this.timer.now_precise());
                (began + *this.limit, this.timer.sleep(*this.limit))
            });
            ready!(sleep.as_mut().poll(context));
            if *this.grants == 0 || !this.timer.is_late(*deadline, *this.limit) {
                return Poll::Ready(None);
            }
            *this.grants -= 1;
            (*deadline, *sleep) = (this.timer.now_precise() + *this.limit, this.timer.sleep(*this.limit));
        }
    }
}

impl<F> fmt::Debug for Within<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Within").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// The machine's clock. On Linux [`now`](Clock::now) reads the kernel's coarse monotonic clock (steps of 1 to 4 ms,
/// about 10 ns a call); elsewhere it is as precise as [`now_precise`](Clock::now_precise).
#[derive(Clone, Copy)]
pub struct SystemClock {
    made: Instant,
    /// Of the kernel's clock, modulo the range of a tick.
    #[cfg(target_os = "linux")]
    origin_nanos: u64,
}

/// How long before its making a system clock has its origin.
const PAST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl SystemClock {
    /// A clock whose origin lies a century in the past, so that what is older than the process still has a tick.
    #[must_use]
    pub fn new() -> Self {
        Self {
            made: Instant::now(),
            #[cfg(target_os = "linux")]
            origin_nanos: kernel_nanos(rustix::time::ClockId::Monotonic).wrapping_sub((Tick::ZERO + PAST).0),
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
        Tick(kernel_nanos(rustix::time::ClockId::MonotonicCoarse).wrapping_sub(self.origin_nanos))
    }

    #[cfg(not(target_os = "linux"))]
    fn now(&self) -> Tick {
        self.now_precise()
    }

    fn now_precise(&self) -> Tick {
        Tick::ZERO + PAST + self.made.elapsed()
    }

    fn wall(&self) -> UnixMillis {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A year: far enough, and within what the runtime's timer accepts.
#[cfg(feature = "tokio")]
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(feature = "tokio")]
impl Timer for SystemClock {
    fn sleep_until(&self, deadline: Tick) -> BoxFuture<'static, ()> {
        self.sleep(deadline.since(self.now_precise()))
    }

    /// Without a look at the clock: the runtime takes one of its own.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration.min(LONGEST)))
    }

    fn lateness(&self, deadline: Tick) -> Duration {
        self.now_precise().since(deadline)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn ticks_saturate_instead_of_wrapping() {
        assert_eq!(Tick::FOREVER + Duration::from_secs(1), Tick::FOREVER);
        assert_eq!(Tick::ZERO + Duration::MAX, Tick::FOREVER);
        assert_eq!(Tick::ZERO - Duration::from_secs(1), Tick::ZERO);
        assert_eq!(Tick::from_nanos(5).since(Tick::from_nanos(9)), Duration::ZERO);
    }

    /// A process that is busy: each sleep ends by so much too late.
    #[derive(Debug)]
    struct Busy {
        clock: SystemClock,
        late_for: Mutex<u32>,
    }

    impl Clock for Busy {
        fn now(&self) -> Tick {
            self.clock.now()
        }

        fn wall(&self) -> UnixMillis {
            self.clock.wall()
        }
    }

    impl Timer for Busy {
        fn sleep_until(&self, _: Tick) -> BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }

        fn lateness(&self, _: Tick) -> Duration {
            let mut left = self.late_for.lock().unwrap();
            if *left == 0 {
                return Duration::ZERO;
            }
            *left -= 1;
            Duration::from_secs(1)
        }
    }

    /// Answers when it is asked for the last of so many times.
    fn answer_after(polls: u32) -> impl Future<Output = ()> {
        let mut left = polls;
        std::future::poll_fn(move |_| {
            left -= 1;
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    #[test]
    fn a_call_is_not_given_up_because_this_process_was_busy() {
        let after = |late_for, polls| {
            let busy = Busy { clock: SystemClock::new(), late_for: Mutex::new(late_for) };
            let timer: &dyn Timer = &busy;
            futures_executor::block_on(timer.within(Duration::from_millis(1), answer_after(polls)))
        };
        assert_eq!(after(0, 1), Some(()));
        assert_eq!(after(0, 3), None);
        assert_eq!(after(3, 4), Some(()));
        assert_eq!(after(3, 6), None);
        assert_eq!(after(u32::MAX, u32::MAX), None, "not for ever");
        let busy: &dyn Timer = &Busy { clock: SystemClock::new(), late_for: Mutex::new(1) };
        let limit = Duration::from_millis(50);
        assert_eq!(busy.left_of(limit, Tick::ZERO), limit, "the step before was late by no fault of its own");
        assert_eq!(busy.left_of(limit, Tick::ZERO), Duration::ZERO);
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
