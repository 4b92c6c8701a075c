//! Requests that callers make at about the same time go out together.
//!
//! Of what a small request to a store costs on this side of the network, most is spent once for each message: its place in
//! queues, its timer, its wake-ups. So where requests are on their way already, those that come are gathered until the
//! tasks that are ready to run have run (one turn of the scheduler, no timer), and leave as one. A caller that is alone
//! goes by itself, since gathering would cost it two changes of task.
//!
//! A task carries each gathering, which any thread of the runtime may run, so that no caller depends on another one: who goes
//! away takes only its own request along, if that has not left yet. Should the task end early, by a panic or with its
//! runtime, its callers are told. Only callers of one runtime are gathered, because the task of a runtime that nobody drives
//! would keep the others waiting.

use std::{
    fmt,
    future::ready,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
};

/// So many requests leave as one at most: all of them wait for the last one's answer.
const TOGETHER: usize = 64;

/// Gathers requests of one kind, `Q`, that are answered with an `A` each.
pub struct Combiner<Q, A> {
    shared: Arc<Shared<Q, A>>,
}

struct Shared<Q, A> {
    on_their_way: AtomicUsize,
    gathering: Mutex<Gathering<Q, A>>,
}

/// Requests that leave together soon. Where there are any, a [`Carrier`] exists that takes them.
struct Gathering<Q, A> {
    runtime: Option<Id>,
    waiting: Vec<Gathered<Q, A>>,
}

/// A request that was gathered, and where its answer goes. Dropped without an answer, it lets its caller know.
#[derive(Debug)]
pub struct Gathered<Q, A> {
    /// What is asked for.
    pub request: Q,
    /// Whom to answer; [closed](oneshot::Sender::is_closed) once the caller has gone away.
    pub answer: oneshot::Sender<A>,
}

impl<Q: Send + 'static, A: Send + 'static> Combiner<Q, A> {
    /// A combiner that has gathered nothing.
    #[must_use]
    pub fn new() -> Self {
        let gathering = Mutex::new(Gathering { runtime: None, waiting: Vec::new() });
        Self { shared: Arc::new(Shared { on_their_way: AtomicUsize::new(0), gathering }) }
    }

    /// Counts a request as on its way, however it goes, until what this returns is dropped.
    #[must_use]
    pub fn begin(&self) -> OnItsWay<'_> {
        let count = &self.shared.on_their_way;
        OnItsWay { count, others: count.fetch_add(1, Ordering::Relaxed) }
    }

    /// Adds a request to those that leave next, which `carry` sends, at most 64 at once: that of the first request is called,
    /// for all of them. The receiver ends without an answer if that does, or with the runtime. Dropping it leaves the others'
    /// requests alone.
    ///
    /// `None`, without a call of `request`: outside a runtime, and where those that leave next belong to another one.
    pub fn gather<F: Future<Output = ()> + Send>(
        &self,
        request: impl FnOnce() -> Q,
        carry: impl Fn(Vec<Gathered<Q, A>>) -> F + Send + 'static,
    ) -> Option<oneshot::Receiver<A>> {
        let runtime = Handle::try_current().ok()?;
        let mut gathering = self.shared.lock();
        let is_first = gathering.waiting.is_empty();
        if is_first {
            gathering.runtime = Some(runtime.id());
        } else if gathering.runtime != Some(runtime.id()) {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        gathering.waiting.push(Gathered { request: request(), answer });
        drop(gathering);
        if is_first {
            let mut carrier = Carrier(Some(Arc::clone(&self.shared)));
            // A runtime that is being shut down drops the carrier at once.
            drop(runtime.spawn(async move {
                let mut gathered = carrier.take();
                gathered.retain(|gathered| !gathered.answer.is_closed());
                let mut carried = Vec::with_capacity(gathered.len().div_ceil(TOGETHER));
                while !gathered.is_empty() {
                    let rest = gathered.split_off(gathered.len().min(TOGETHER));
                    carried.push(carry(mem::replace(&mut gathered, rest)));
                }
                join_all(carried).await;
            }));
            // A worker runs the task that was spawned last next, and no other worker may take that from it, however long its
            // present one keeps it busy. So this is the last, and the carrier stands in the queue, behind what is ready.
            drop(runtime.spawn(ready(())));
        }
        Some(answered)
    }
}

impl<Q, A> Shared<Q, A> {
    fn lock(&self) -> MutexGuard<'_, Gathering<Q, A>> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: Send + 'static, A: Send + 'static> Default for Combiner<Q, A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Q, A> fmt::Debug for Combiner<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_their_way = self.shared.on_their_way.load(Ordering::Relaxed);
        f.debug_struct("Combiner").field("on_their_way", &on_their_way).finish_non_exhaustive()
    }
}

/// Who takes the requests that were gathered, once: those that come later have a carrier of their own. Dropped without having
/// done so, it lets their callers know.
struct Carrier<Q, A>(Option<Arc<Shared<Q, A>>>);

impl<Q, A> Carrier<Q, A> {
    fn take(&mut self) -> Vec<Gathered<Q, A>> {
        self.0.take().map(|shared| mem::take(&mut shared.lock().waiting)).unwrap_or_default()
    }
}

impl<Q, A> Drop for Carrier<Q, A> {
    fn drop(&mut self) {
        // Outside the lock, since it wakes those that wait.
        drop(self.take());
    }
}

/// A request's place among those on their way.
#[derive(Debug)]
pub struct OnItsWay<'a> {
    count: &'a AtomicUsize,
    others: usize,
}

impl OnItsWay<'_> {
    /// Whether no other request was on its way when this one began.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.others == 0
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
