//! The tasks of loads: how many go on without a caller, and what is to be waited for at the end.

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::{sync::Notify, task::AbortHandle};

use crate::engine::Engine;

/// The tasks of one cache's loads.
#[derive(Debug)]
pub(crate) struct Loads {
    /// Loads that nobody waits for: refreshes, and those whose caller went away.
    background: AtomicUsize,
    most_background: usize,
    running: Mutex<RunningTasks>,
    /// None is running any more.
    at_rest: Notify,
    /// A shutdown did not wait for all of them.
    aborted: AtomicBool,
}

/// Forgotten as they end, so that their memory is used again while it is warm.
#[derive(Debug, Default)]
struct RunningTasks {
    started: u64,
    /// By number; without a handle until it has been spawned.
    handles: HashMap<u64, Option<AbortHandle>>,
}

impl Loads {
    pub(crate) fn new(most_background: usize) -> Self {
        Self {
            background: AtomicUsize::new(0),
            most_background,
            running: Mutex::default(),
            at_rest: Notify::new(),
            aborted: AtomicBool::new(false),
        }
    }

    /// Whether as many loads go on in the background as may.
    pub(crate) fn is_full(&self) -> bool {
        self.background.load(Ordering::Acquire) >= self.most_background
    }

    /// Keeps the handle of a task that has not ended yet.
    fn keep(&self, number: u64, task: AbortHandle) {
        if let Some(handle) = self.running.lock().handles.get_mut(&number) {
            *handle = Some(task);
        }
    }
}

impl Engine {
    /// Starts a task that [`drain`](Self::drain) waits for. It carries the caller's cache.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let running = Running::new(self);
        let number = running.number;
        // No future of its own around it, which would take the room of the task twice.
        let task = task.map(move |()| drop(running));
        let handle = match crate::global::scoped() {
            Some(cache) => tokio::spawn(crate::global::with_cache(cache, task)),
            None => tokio::spawn(task),
        };
        self.loads.keep(number, handle.abort_handle());
    }

    /// Waits until every load has ended and what it loaded is stored, at most `limit`; the rest is aborted. Answers how
    /// many those were.
    pub(crate) async fn drain(&self, limit: Duration) -> usize {
        if self.at_rest(limit).await {
            return 0;
        }
        // Before they are woken who wait for one of them.
        self.loads.aborted.store(true, Ordering::Release);
        let left: Vec<_> = self.loads.running.lock().handles.values().cloned().collect();
        left.iter().flatten().for_each(AbortHandle::abort);
        // What they had placed in the remote tier is taken back.
        self.at_rest(self.root.strategy.remote_deadline).await;
        left.len()
    }

    /// Whether loads were aborted because the cache has ended: they are not begun anew by those who waited for them.
    pub(crate) fn has_ended(&self) -> bool {
        self.loads.aborted.load(Ordering::Acquire) && !self.is_enabled()
    }

    async fn at_rest(&self, limit: Duration) -> bool {
        let rest = async {
            loop {
                let mut rests = pin!(self.loads.at_rest.notified());
                // Heard of from here on, though it is polled later.
                rests.as_mut().enable();
                if self.loads.running.lock().handles.is_empty() {
                    return;
                }
                rests.await;
            }
        };
        tokio::select! {
            biased;
            () = rest => true,
            () = self.timer.sleep(limit) => false,
        }
    }
}

/// A task that has not ended.
struct Running {
    engine: Arc<Engine>,
    number: u64,
}

impl Running {
    fn new(engine: &Arc<Engine>) -> Self {
        let mut running = engine.loads.running.lock();
        running.started += 1;
        let number = running.started;
        running.handles.insert(number, None);
        Self { engine: Arc::clone(engine), number }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let loads = &self.engine.loads;
        let (handle, is_last) = {
            let mut running = loads.running.lock();
            (running.handles.remove(&self.number), running.handles.is_empty())
        };
        drop(handle);
        if is_last {
            loads.at_rest.notify_waiters();
        }
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
