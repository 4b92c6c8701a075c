//! A clock that the tests move, and that says when somebody waits on it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use larder_core::{Clock, Tick, Timer, UnixMillis};
use tokio::sync::{Notify, oneshot};

pub(crate) fn at(time: &str) -> UnixMillis {
    let time: DateTime<Utc> = time.parse().expect("a time such as 2026-03-06T14:30:00Z");
    UnixMillis(u64::try_from(time.timestamp_millis()).expect("after 1970"))
}

#[derive(Debug, Clone)]
pub(crate) struct TestClock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    now: Tick,
    wall: UnixMillis,
    sleepers: BTreeMap<(Tick, u64), oneshot::Sender<()>>,
    next_id: u64,
}

/// Takes its sleeper away when the wait is over or given up.
struct Asleep(Arc<Shared>, (Tick, u64));

impl Drop for Asleep {
    fn drop(&mut self) {
        self.0.lock().sleepers.remove(&self.1);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TestClock {
    pub(crate) fn at(wall: &str) -> Self {
        let state = State { now: Tick::from_nanos(1), wall: at(wall), sleepers: BTreeMap::new(), next_id: 0 };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }))
    }

    pub(crate) fn timer(&self) -> Arc<dyn Timer> {
        Arc::new(self.clone())
    }

    /// Moves both clocks and wakes whose time has come.
    pub(crate) fn advance(&self, by: Duration) {
        let mut state = self.0.lock();
        state.now = state.now + by;
        state.wall = state.wall + by;
        let now = state.now;
        let later = state.sleepers.split_off(&(now + Duration::from_nanos(1), 0));
        for due in std::mem::replace(&mut state.sleepers, later).into_values() {
            // Whoever gave up waiting needs no waking.
            due.send(()).unwrap_or_default();
        }
    }

    /// Sets the wall clock alone.
    pub(crate) fn set_wall(&self, wall: UnixMillis) {
        self.0.lock().wall = wall;
    }

    /// Waits until somebody sleeps.
    pub(crate) async fn somebody_sleeps(&self) {
        loop {
            let changed = self.0.changed.notified();
            if !self.0.lock().sleepers.is_empty() {
                return;
            }
            changed.await;
        }
    }

    /// Runs a future to its end; whenever everybody waits for time, time moves on to the next deadline.
    pub(crate) async fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        let clock = async {
            loop {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                let next = self.0.lock().sleepers.keys().next().map(|(deadline, _)| *deadline);
                if let Some(deadline) = next {
                    self.advance(deadline.since(self.now()));
                }
            }
        };
        tokio::select! {
            biased;
            output = future => output,
            () = clock => unreachable!("the clock runs for ever"),
        }
    }
}

impl Clock for TestClock {
    fn now(&self) -> Tick {
        self.0.lock().now
    }

    fn wall(&self) -> UnixMillis {
        self.0.lock().wall
    }
}

impl Timer for TestClock {
    fn sleep_until(&self, deadline: Tick) -> futures_util::future::BoxFuture<'static, ()> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let (wake, woken) = oneshot::channel();
            let id = {
                let mut state = shared.lock();
                if deadline <= state.now {
                    return;
                }
                state.next_id += 1;
                let id = (deadline, state.next_id);
                state.sleepers.insert(id, wake);
                id
            };
            shared.changed.notify_waiters();
            let asleep = Asleep(shared, id);
            woken.await.unwrap_or_default();
            drop(asleep);
        })
    }
}
