//! The tasks of loads: how many go on without a caller, and what is to be waited for at the end.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::{sync::watch, task::AbortHandle};

use crate::engine::Engine;

/// Below this number of handles the finished ones are not looked for.
const KEEP: usize = 64;

/// The tasks of one cache's loads.
#[derive(Debug)]
pub(crate) struct Loads {
    /// Loads that nobody waits for: refreshes, and those whose caller went away.
    background: AtomicUsize,
    most_background: usize,
    running: watch::Sender<usize>,
    handles: Mutex<Handles>,
    /// A shutdown did not wait for all of them.
    aborted: AtomicBool,
}

#[derive(Debug, Default)]
struct Handles {
    tasks: Vec<AbortHandle>,
    prune_at: usize,
}

impl Loads {
    pub(crate) fn new(most_background: usize) -> Self {
        Self {
            background: AtomicUsize::new(0),
            most_background,
            running: watch::Sender::new(0),
            handles: Mutex::new(Handles { tasks: Vec::new(), prune_at: KEEP }),
            aborted: AtomicBool::new(false),
        }
    }

    /// Whether as many loads go on in the background as may.
    pub(crate) fn is_full(&self) -> bool {
        self.background.load(Ordering::Acquire) >= self.most_background
    }

    fn keep(&self, task: AbortHandle) {
        let mut handles = self.handles.lock();
        if handles.tasks.len() >= handles.prune_at {
            handles.tasks.retain(|task| !task.is_finished());
            handles.prune_at = (handles.tasks.len() * 2).max(KEEP);
        }
        handles.tasks.push(task);
    }
}

impl Engine {
    /// Starts a task that [`drain`](Self::drain) waits for. It carries the caller's cache.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let running = Running::new(self);
        // No future of its own around it, which would take the room of the task twice.
        let task = task.map(move |()| drop(running));
        let handle = match crate::global::scoped() {
            Some(cache) => tokio::spawn(crate::global::with_cache(cache, task)),
            None => tokio::spawn(task),
        };
        self.loads.keep(handle.abort_handle());
    }

    /// Waits until every load has ended and what it loaded is stored, at most `limit`; the rest is aborted. Answers how
    /// many those were.
    pub(crate) async fn drain(&self, limit: Duration) -> usize {
        if self.at_rest(limit).await {
            return 0;
        }
        // Before they are woken who wait for one of them.
        self.loads.aborted.store(true, Ordering::Release);
        let tasks = std::mem::take(&mut self.loads.handles.lock().tasks);
        let left = tasks.into_iter().filter(|task| !task.is_finished()).inspect(AbortHandle::abort).count();
        // What they had placed in the remote tier is taken back.
        self.at_rest(self.root.strategy.remote_deadline).await;
        left
    }

    /// Whether loads were aborted because the cache has ended: they are not begun anew by those who waited for them.
    pub(crate) fn has_ended(&self) -> bool {
        self.loads.aborted.load(Ordering::Acquire) && !self.is_enabled()
    }

    async fn at_rest(&self, limit: Duration) -> bool {
        let mut running = self.loads.running.subscribe();
        tokio::select! {
            biased;
            _ = running.wait_for(|running| *running == 0) => true,
            () = self.timer.sleep(limit) => false,
        }
    }
}

/// A task that has not ended.
struct Running(Arc<Engine>);

impl Running {
    fn new(engine: &Arc<Engine>) -> Self {
        engine.loads.running.send_modify(|running| *running += 1);
        Self(Arc::clone(engine))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.loads.running.send_modify(|running| *running -= 1);
    }
}

const WAITED_FOR: u8 = 0;
const IN_BACKGROUND: u8 = 1;
const ENDED: u8 = 2;

/// One load, as its caller and its task know it.
#[derive(Debug)]
struct State {
    engine: Arc<Engine>,
    state: AtomicU8,
}

/// The task's part: the load ends when it is dropped.
#[derive(Debug)]
pub(crate) struct LoadSlot(Arc<State>);

/// The caller's part: when it is dropped before the load has ended, the load goes on in the background.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<State>);

impl LoadSlot {
    /// A load that its caller waits for.
    pub(crate) fn waited_for(engine: &Arc<Engine>) -> (Self, Waiting) {
        let state = Arc::new(State { engine: Arc::clone(engine), state: AtomicU8::new(WAITED_FOR) });
        (Self(Arc::clone(&state)), Waiting(state))
    }

    /// A load that nobody waits for; `None` if there are too many.
    pub(crate) fn background(engine: &Arc<Engine>) -> Option<Self> {
        if engine.loads.is_full() {
            return None;
        }
        let (slot, waiting) = Self::waited_for(engine);
        drop(waiting);
        Some(slot)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let background = &self.0.engine.loads.background;
        background.fetch_add(1, Ordering::AcqRel);
        let moved =
            self.0.state.compare_exchange(WAITED_FOR, IN_BACKGROUND, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !moved {
            background.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for LoadSlot {
    fn drop(&mut self) {
        if self.0.state.swap(ENDED, Ordering::AcqRel) == IN_BACKGROUND {
            self.0.engine.loads.background.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
