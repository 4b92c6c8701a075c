//! What a server's clock says, without asking it: monotonic time of ours plus an offset that is measured now and then.
//!
//! A sample is the answer to TIME, taken for the middle of its round trip: wrong by half of that at most.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use larder_core::{Clock, SystemClock, Tick, UnixMillis};
use parking_lot::RwLock;
use redis::Value;

/// After how long a sample is renewed. Crystals differ by up to some 100 microseconds a second: 2 ms by then.
const RENEWAL: Duration = Duration::from_secs(20);

/// How soon it is tried again where there was no sample: the user may lack the right.
const RETRY: Duration = Duration::from_secs(5);

/// For how long a sample with a shorter round trip is better than a new one.
const RECENT: Duration = Duration::from_secs(60);

/// The server's clock was set where it differs from what was expected by more than this.
const JUMP_MICROS: u64 = 100_000;

/// The machine slept, or its clock was set, where wall time and monotonic time have moved apart by more than this.
const SLEPT_MILLIS: u64 = 1000;

/// One answer to TIME.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// The server's time less our monotonic time, in microseconds.
    offset: i64,
    round_trip: Duration,
    taken: Tick,
    /// Our wall-clock time less our monotonic time, in milliseconds.
    own_offset: i64,
    run: Option<Arc<str>>,
}

impl Sample {
    /// From the answer to a TIME that was sent and answered at these times.
    pub(crate) fn of(
        time: &Value,
        sent: Tick,
        received: Tick,
        wall: UnixMillis,
        run: Option<&Arc<str>>,
    ) -> Option<Self> {
        let round_trip = received.since(sent);
        let offset = micros_of(time)?.checked_sub(micros(sent + round_trip / 2))?;
        Some(Self { offset, round_trip, taken: received, own_offset: own_offset(received, wall), run: run.cloned() })
    }

    /// Whether this one should take an older one's place.
    fn replaces(&self, old: &Self) -> bool {
        // Of connections that are opened at once, one may report what it measured after another has measured anew.
        if self.taken < old.taken {
            return false;
        }
        let is_other_run = matches!((&self.run, &old.run), (Some(new), Some(old)) if new != old);
        // What a long round trip may have feigned is no jump.
        let feigned = u64::try_from((self.round_trip / 2).as_micros()).unwrap_or(u64::MAX);
        let has_jumped = self.offset.abs_diff(old.offset) > JUMP_MICROS.saturating_add(feigned);
        let is_good = self.round_trip <= old.round_trip * 2 + Duration::from_millis(1);
        is_other_run || has_jumped || is_good || self.taken.since(old.taken) >= RECENT || self.has_moved_from(old)
    }

    fn has_moved_from(&self, old: &Self) -> bool {
        self.own_offset.abs_diff(old.own_offset) > SLEPT_MILLIS
    }

    fn is_void(&self, now: Tick, wall: UnixMillis) -> bool {
        own_offset(now, wall).abs_diff(self.own_offset) > SLEPT_MILLIS
    }
}

fn micros(tick: Tick) -> i64 {
    i64::try_from(tick.as_nanos() / 1000).unwrap_or(i64::MAX)
}

fn own_offset(now: Tick, wall: UnixMillis) -> i64 {
    i64::try_from(wall.0).unwrap_or(i64::MAX) - micros(now) / 1000
}

/// Seconds and microseconds.
fn micros_of(time: &Value) -> Option<i64> {
    let Value::Array(parts) = time else { return None };
    let [seconds, micros] = parts.as_slice() else { return None };
    let number = |value: &Value| match value {
        Value::BulkString(digits) => std::str::from_utf8(digits).ok()?.parse::<i64>().ok(),
        Value::Int(number) => Some(*number),
        _ => None,
    };
    number(seconds)?.checked_mul(1_000_000)?.checked_add(number(micros)?)
}

/// The clock of one server.
#[derive(Debug)]
pub(crate) struct ServerClock {
    clock: SystemClock,
    last: RwLock<Option<Sample>>,
    /// When a measurement was last begun.
    begun: AtomicU64,
}

impl ServerClock {
    pub(crate) fn new(clock: SystemClock) -> Self {
        Self { clock, last: RwLock::new(None), begun: AtomicU64::new(0) }
    }

    /// What it says now; `None` if that was never measured, or before this machine slept.
    pub(crate) fn now(&self) -> Option<UnixMillis> {
        self.at(self.clock.now_precise(), self.clock.wall())
    }

    fn at(&self, now: Tick, wall: UnixMillis) -> Option<UnixMillis> {
        let last = self.last.read();
        let sample = last.as_ref().filter(|sample| !sample.is_void(now, wall))?;
        u64::try_from(micros(now).saturating_add(sample.offset) / 1000).ok().map(UnixMillis)
    }

    /// Whether it should be measured again; if so, that has begun.
    pub(crate) fn begin(&self) -> bool {
        let (now, wall) = (self.clock.now_precise(), self.clock.wall());
        let is_due = match &*self.last.read() {
            Some(sample) => now.since(sample.taken) >= RENEWAL || sample.is_void(now, wall),
            None => now.since(Tick::from_nanos(self.begun.load(Ordering::Relaxed))) >= RETRY,
        };
        if is_due {
            self.begun.store(now.as_nanos(), Ordering::Relaxed);
        }
        is_due
    }

    pub(crate) fn take(&self, sample: Sample) {
        let mut last = self.last.write();
        if last.as_ref().is_none_or(|old| sample.replaces(old)) {
            *last = Some(sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: UnixMillis = UnixMillis(1_700_000_000_000);

    fn tick(millis: u64) -> Tick {
        Tick::from_nanos(millis * 1_000_000)
    }

    fn time(millis: u64) -> Value {
        let bulk = |number: u64| Value::BulkString(number.to_string().into_bytes());
        Value::Array(vec![bulk(millis / 1000), bulk(millis % 1000 * 1000)])
    }

    fn run(name: &str) -> Option<Arc<str>> {
        Some(name.into())
    }

    /// A sample that was sent at a time, answered so much later, and puts the server's clock so far ahead of ours.
    fn sample(sent: u64, round_trip: u64, ahead: u64, of_run: &str) -> Sample {
        let wall = WALL + Duration::from_millis(sent + round_trip);
        let server = WALL.0 + sent + round_trip / 2 + ahead;
        Sample::of(&time(server), tick(sent), tick(sent + round_trip), wall, run(of_run).as_ref()).unwrap()
    }

    fn after(samples: impl IntoIterator<Item = Sample>) -> ServerClock {
        let clock = ServerClock::new(SystemClock::new());
        samples.into_iter().for_each(|sample| clock.take(sample));
        clock
    }

    /// How far the server's clock is ahead of ours, as it is known at a time.
    fn ahead(clock: &ServerClock, at: u64) -> Option<u64> {
        let wall = WALL + Duration::from_millis(at);
        clock.at(tick(at), wall).map(|server| server.0 - wall.0)
    }

    #[test]
    fn a_server_is_as_far_ahead_as_it_was_in_the_middle_of_the_round_trip() {
        assert_eq!(ahead(&after([]), 10), None);
        assert_eq!(ahead(&after([sample(0, 4, 300_000, "a")]), 50_000), Some(300_000));
    }

    #[test]
    fn a_long_round_trip_does_not_replace_a_recent_short_one() {
        assert_eq!(ahead(&after([sample(0, 2, 10, "a"), sample(1000, 90, 40, "a")]), 2000), Some(10));
        assert_eq!(ahead(&after([sample(0, 90, 40, "a"), sample(1000, 2, 10, "a")]), 2000), Some(10));
        assert_eq!(ahead(&after([sample(0, 2, 10, "a"), sample(70_000, 90, 40, "a")]), 80_000), Some(40));
    }

    #[test]
    fn a_jump_and_another_run_are_taken_at_once() {
        assert_eq!(ahead(&after([sample(0, 2, 0, "a"), sample(1000, 90, 200, "a")]), 2000), Some(200));
        assert_eq!(ahead(&after([sample(0, 2, 0, "a"), sample(1000, 90, 30, "b")]), 2000), Some(30));
        // Not what the round trip alone may have made.
        assert_eq!(ahead(&after([sample(0, 2, 0, "a"), sample(1000, 400, 250, "a")]), 2000), Some(0));
    }

    #[test]
    fn a_sample_that_comes_late_does_not_bring_back_what_was_before_a_jump_or_a_failover() {
        assert_eq!(ahead(&after([sample(1000, 2, 200, "a"), sample(0, 2, 0, "a")]), 2000), Some(200));
        assert_eq!(ahead(&after([sample(1000, 2, 200, "b"), sample(0, 2, 0, "a")]), 2000), Some(200));
    }

    #[test]
    fn what_was_measured_before_the_machine_slept_is_not_believed() {
        let clock = after([sample(0, 2, 0, "a")]);
        let slept = |millis: u64| clock.at(tick(1000), WALL + Duration::from_millis(1000 + millis));
        assert!(slept(900).is_some() && slept(1100).is_none());
        let clock = after([sample(0, 2, 0, "a")]);
        let mut again = sample(1000, 90, 50, "a");
        again.own_offset += 1100;
        clock.take(again);
        assert_eq!(clock.at(tick(2000), WALL + Duration::from_millis(3100)), Some(WALL + Duration::from_millis(2050)));
    }

    #[test]
    fn an_answer_that_is_no_time_is_no_sample() {
        for answer in [Value::Nil, Value::Array(Vec::new()), Value::Array(vec![Value::Nil, Value::Int(1)])] {
            assert!(Sample::of(&answer, tick(0), tick(1), WALL, None).is_none());
        }
    }
}
