//! A clock that stands still until it is moved.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{Clock, Tick, Timer, UnixMillis};
use futures_util::future::BoxFuture;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Where the monotonic time starts: late enough that "a minute ago" is still a tick.
const START: Tick = Tick::from_nanos(1_000_000_000_000);

/// 2026-01-01 00:00:00 UTC.
const START_WALL: UnixMillis = UnixMillis(1_767_225_600_000);

/// Turns that tasks of a current-thread runtime get after the last woken sleeper was polled.
const QUIET_TURNS: u32 = 128;

/// Times in a row that a multi-thread runtime must be seen without work before it counts as settled.
const IDLE_SIGHTINGS: u32 = 8;

/// Turns after which a runtime that never comes to rest is left alone.
const MOST_TURNS: u32 = 200_000;

/// A clock for tests. Clones share their time. Starts at a tick of 1,000 s and at 2026-01-01 00:00 UTC.
///
/// Sleepers are woken in the order of their deadlines, and those of one deadline in the order in which they began to
/// wait. A sleep counts from its first poll on; dropping it takes it off the list.
#[derive(Clone)]
pub struct ManualClock {
    shared: Arc<Mutex<State>>,
}

struct State {
    now: Tick,
    wall: UnixMillis,
    /// By deadline, then by arrival.
    sleepers: BTreeMap<(Tick, u64), Waker>,
    arrivals: u64,
    /// Sleepers that were woken and have been neither polled nor dropped since.
    woken: usize,
}

impl ManualClock {
    /// A clock at its start.
    #[must_use]
    pub fn new() -> Self {
        let state = State { now: START, wall: START_WALL, sleepers: BTreeMap::new(), arrivals: 0, woken: 0 };
        Self { shared: Arc::new(Mutex::new(state)) }
    }

    /// Moves monotonic and wall time forward and wakes the sleepers whose deadline has come. They have not run yet when
    /// this returns; [`advance_and_settle`](Self::advance_and_settle) lets them.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.lock();
        state.wall = state.wall + duration;
        let target = state.now + duration;
        self.move_to(state, target);
    }

    /// Moves time forward from deadline to deadline, each time letting the woken tasks run until nothing is left to do,
    /// so that a task which sleeps ten seconds in a loop runs six times in a minute. Wall time moves along.
    ///
    /// On a multi-thread runtime this waits until all workers have gone idle, on a current-thread one until the tasks
    /// have had a good hundred turns. What runs on the blocking pool or waits for a socket is not waited for. Dropping
    /// the future leaves the clock at the deadline it has reached.
    pub async fn advance_and_settle(&self, duration: Duration) {
        self.settle().await;
        let target = self.now() + duration;
        loop {
            let (step, arrived) = self.next_step(target);
            self.advance(step);
            self.settle().await;
            if arrived {
                return;
            }
        }
    }

    /// Lets the tasks of this runtime run until nothing is left to do, without moving time.
    pub async fn settle(&self) {
        let mut quiet = 0;
        for _ in 0..MOST_TURNS {
            tokio::task::yield_now().await;
            let at_rest = self.lock().woken == 0 && runtime_is_idle();
            quiet = if at_rest { quiet + 1 } else { 0 };
            if quiet >= quiet_turns() {
                return;
            }
        }
    }

    /// Moves the wall clock alone, as an administrator or a time server does; it may go backwards.
    pub fn set_wall(&self, wall: UnixMillis) {
        self.lock().wall = wall;
    }

    /// Moves the wall clock alone, forward.
    pub fn advance_wall(&self, duration: Duration) {
        let mut state = self.lock();
        state.wall = state.wall + duration;
    }

    /// How many sleeps are waiting for their deadline.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.lock().sleepers.len()
    }

    /// Completes once at least `count` sleeps are waiting for their deadline, whichever thread they wait on: the event
    /// that a test waits for before it moves time past tasks that are still on their way to their sleep. Needs no
    /// runtime; it lets other tasks run between its looks, and looks for ever if the sleepers do not come.
    pub async fn until_sleepers(&self, count: usize) {
        while self.sleepers() < count {
            tokio::task::yield_now().await;
        }
    }

    /// The earliest deadline that is waited for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        self.lock().sleepers.keys().next().map(|(deadline, _)| *deadline)
    }

    /// How far to go at once, and whether that reaches `target`.
    fn next_step(&self, target: Tick) -> (Duration, bool) {
        let state = self.lock();
        let stop = state.sleepers.keys().next().map_or(target, |(deadline, _)| target.min(*deadline));
        (stop.since(state.now), stop >= target)
    }

    fn move_to(&self, mut state: MutexGuard<'_, State>, target: Tick) {
        state.now = target;
        let later = state.sleepers.split_off(&(target, u64::MAX));
        let due = std::mem::replace(&mut state.sleepers, later);
        state.woken += due.len();
        // A waker may run code that asks this clock for the time.
        drop(state);
        due.into_values().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a waker happens outside the lock: the state is whole even where the mutex is poisoned.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("ManualClock")
            .field("now", &state.now)
            .field("wall", &state.wall)
            .field("sleepers", &state.sleepers.len())
            .finish()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Tick {
        self.lock().now
    }

    fn wall(&self) -> UnixMillis {
        self.lock().wall
    }
}

impl Timer for ManualClock {
    fn sleep_until(&self, deadline: Tick) -> BoxFuture<'static, ()> {
        Box::pin(Sleep { clock: self.clone(), deadline, place: Place::New })
    }
}

struct Sleep {
    clock: ManualClock,
    deadline: Tick,
    place: Place,
}

enum Place {
    New,
    Waiting(u64),
    Done,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut state = this.clock.lock();
        if state.now >= this.deadline {
            if matches!(this.place, Place::Waiting(_)) {
                state.woken -= 1;
            }
            this.place = Place::Done;
            return Poll::Ready(());
        }
        let arrival = match this.place {
            Place::Waiting(arrival) => arrival,
            Place::New | Place::Done => {
                state.arrivals += 1;
                this.place = Place::Waiting(state.arrivals);
                state.arrivals
            }
        };
        state.sleepers.insert((this.deadline, arrival), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Place::Waiting(arrival) = self.place {
            let mut state = self.clock.lock();
            if state.sleepers.remove(&(self.deadline, arrival)).is_none() {
                state.woken -= 1;
            }
        }
    }
}

fn quiet_turns() -> u32 {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => IDLE_SIGHTINGS,
        _ => QUIET_TURNS,
    }
}

/// Whether no worker of a multi-thread runtime but the caller's own has anything to do. A current-thread runtime does
/// not tell, and counts as idle.
fn runtime_is_idle() -> bool {
    let Ok(handle) = Handle::try_current() else { return true };
    if handle.runtime_flavor() != RuntimeFlavor::MultiThread {
        return true;
    }
    let metrics = handle.metrics();
    // A worker counts one up when it goes to sleep and one when it gets up.
    let busy = (0..metrics.num_workers()).filter(|worker| metrics.worker_park_unpark_count(*worker) % 2 == 0).count();
    let own = usize::from(tokio::task::try_id().is_some());
    metrics.global_queue_depth() == 0 && busy <= own
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn sleepers_wake_in_the_order_of_their_deadlines() {
        let clock = ManualClock::new();
        let order = Arc::new(Mutex::new(Vec::new()));
        for seconds in [3, 1, 2] {
            let (sleep, order) = (clock.sleep(SECOND * seconds), Arc::clone(&order));
            tokio::spawn(async move {
                sleep.await;
                order.lock().unwrap().push(seconds);
            });
        }
        clock.settle().await;
        assert_eq!(clock.sleepers(), 3);
        clock.advance(SECOND * 3);
        clock.settle().await;
        assert_eq!(*order.lock().unwrap(), [1, 2, 3]);
        assert_eq!(clock.sleepers(), 0);
    }

    #[tokio::test]
    async fn sleepers_can_be_waited_for() {
        let clock = ManualClock::new();
        for turns in [1, 500] {
            let timer = clock.clone();
            tokio::spawn(async move {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                timer.sleep(SECOND).await;
            });
        }
        clock.until_sleepers(1).await;
        assert_eq!(clock.sleepers(), 1);
        clock.until_sleepers(2).await;
        assert_eq!(clock.sleepers(), 2);
    }

    #[test]
    fn sleepers_can_be_waited_for_without_a_runtime() {
        let clock = ManualClock::new();
        let timer = clock.clone();
        let sleeper = std::thread::spawn(move || futures_executor::block_on(timer.sleep(SECOND)));
        futures_executor::block_on(clock.until_sleepers(1));
        clock.advance(SECOND);
        sleeper.join().unwrap();
        assert_eq!(clock.sleepers(), 0);
    }

    #[tokio::test]
    async fn a_dropped_sleep_leaves_the_list() {
        let clock = ManualClock::new();
        let mut sleep = clock.sleep(SECOND);
        assert!(futures_util::poll!(&mut sleep).is_pending());
        assert_eq!(clock.next_deadline(), Some(clock.now() + SECOND));
        drop(sleep);
        assert_eq!(clock.sleepers(), 0);
        let mut woken = clock.sleep(SECOND);
        assert!(futures_util::poll!(&mut woken).is_pending());
        clock.advance(SECOND);
        drop(woken);
        assert_eq!(clock.lock().woken, 0);
    }

    #[tokio::test]
    async fn a_sleep_ends_at_its_deadline_and_not_before() {
        let clock = ManualClock::new();
        let mut sleep = clock.sleep(SECOND);
        clock.advance(SECOND - Duration::from_nanos(1));
        assert!(futures_util::poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_nanos(1));
        assert!(futures_util::poll!(&mut sleep).is_ready());
        assert!(futures_util::poll!(&mut clock.sleep(Duration::ZERO)).is_ready());
    }

    #[test]
    fn the_wall_clock_moves_along_and_alone() {
        let clock = ManualClock::new();
        let (tick, wall) = (clock.now(), clock.wall());
        clock.advance(SECOND);
        assert_eq!((clock.now(), clock.wall()), (tick + SECOND, wall + SECOND));
        clock.advance_wall(SECOND);
        assert_eq!((clock.now(), clock.wall()), (tick + SECOND, wall + SECOND * 2));
        clock.clone().set_wall(UnixMillis(5));
        assert_eq!((clock.now(), clock.wall()), (tick + SECOND, UnixMillis(5)));
    }

    async fn a_loop_runs_once_for_each_of_its_periods() {
        let clock = ManualClock::new();
        let runs = Arc::new(AtomicU32::new(0));
        let (counter, timer) = (Arc::clone(&runs), clock.clone());
        let task = tokio::spawn(async move {
            loop {
                timer.sleep(SECOND * 10).await;
                for _ in 0..5 {
                    tokio::spawn(tokio::task::yield_now()).await.unwrap();
                }
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        clock.advance_and_settle(SECOND * 60).await;
        assert_eq!(runs.load(Ordering::SeqCst), 6);
        clock.advance_and_settle(SECOND * 9).await;
        assert_eq!(runs.load(Ordering::SeqCst), 6);
        clock.advance_and_settle(SECOND).await;
        assert_eq!(runs.load(Ordering::SeqCst), 7);
        task.abort();
    }

    #[tokio::test]
    async fn advancing_runs_periodic_tasks_on_one_thread() {
        a_loop_runs_once_for_each_of_its_periods().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn advancing_runs_periodic_tasks_on_several_threads() {
        for _ in 0..50 {
            a_loop_runs_once_for_each_of_its_periods().await;
            tokio::spawn(a_loop_runs_once_for_each_of_its_periods()).await.unwrap();
        }
    }
}
