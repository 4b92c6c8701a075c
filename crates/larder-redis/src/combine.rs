//! Reads of single keys that callers make at about the same time go out together.
//!
//! Of what a GET costs on this side of the network, most is spent once for each message to the connection's task: its
//! place in the channel, the timer, the wake-ups. So where reads are on their way already, those that come are gathered
//! until the tasks that are ready to run have run (one turn of the scheduler, no timer), and leave as one pipeline. The
//! commands stay GETs: each key has an answer, and an error, of its own. A caller that is alone goes by itself, since
//! gathering would cost it two changes of task.
//!
//! A task carries each gathering, so that no caller depends on another one: who goes away takes only its own read along,
//! if that has not left yet. Should the task end early, by a panic or with its runtime, its callers are told. Only callers
//! of one runtime are gathered, because the task of a runtime that nobody drives would keep the others waiting.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, RedisResult, Value};
use tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
    task::yield_now,
};

use crate::{
    error,
    slot::Slot,
    socket::{Effect, Request},
};

/// So many reads go out in one pipeline at most: all of them wait for the last one's answer.
const TOGETHER: usize = 64;

/// The reads of single keys on one socket.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    on_their_way: AtomicUsize,
    gathering: Mutex<Gathering>,
}

/// Reads that leave together soon. Where there are any, a [`Carrier`] exists that takes them.
#[derive(Debug, Default)]
struct Gathering {
    runtime: Option<Id>,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    command: Cmd,
    answer: oneshot::Sender<Result<RedisResult<Value>>>,
}

/// GET of a key.
pub(crate) fn get(key: &str) -> Cmd {
    let mut command = Cmd::with_capacity(2, key.len() + "GET".len());
    command.arg("GET").arg(key);
    command
}

impl Slot {
    /// Reads a key, together with other callers where there are some. Dropping the future leaves theirs alone.
    pub(crate) async fn read(self: &Arc<Self>, operation: &'static str, key: &str) -> Result<RedisResult<Value>> {
        let on_its_way = OnItsWay::begin(&self.reads.on_their_way);
        let answer = if on_its_way.others == 0 { None } else { self.gather(operation, key) };
        let Some(answer) = answer else {
            return self.exchange(operation, Effect::Read, Request::Get(key), 1).await;
        };
        answer.await.unwrap_or_else(|_| {
            let message = "the task that read for several callers ended early; try again";
            Err(Error::new(ErrorKind::Unavailable, operation, message))
        })
    }

    /// Adds a read to those that leave next, unless these belong to another runtime.
    fn gather(
        self: &Arc<Self>,
        operation: &'static str,
        key: &str,
    ) -> Option<oneshot::Receiver<Result<RedisResult<Value>>>> {
        let runtime = Handle::try_current().ok()?;
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { command: get(key), answer };
        let mut gathering = self.reads.gathering.lock();
        let is_first = gathering.waiting.is_empty();
        if is_first {
            gathering.runtime = Some(runtime.id());
        } else if gathering.runtime != Some(runtime.id()) {
            return None;
        }
        gathering.waiting.push(waiting);
        drop(gathering);
        if is_first {
            let carrier = Carrier(Some(Arc::clone(self)));
            // A runtime that is being shut down drops the carrier at once.
            drop(runtime.spawn(async move {
                yield_now().await;
                carrier.carry(operation).await;
            }));
        }
        Some(answered)
    }
}

/// Who takes the reads that were gathered. Dropped without having done so, it lets their callers know.
struct Carrier(Option<Arc<Slot>>);

impl Carrier {
    /// The slot and its reads, once: those that come later have a carrier of their own.
    fn take(&mut self) -> Option<(Arc<Slot>, Vec<Waiting>)> {
        let slot = self.0.take()?;
        let waiting = mem::take(&mut slot.reads.gathering.lock().waiting);
        Some((slot, waiting))
    }

    async fn carry(mut self, operation: &'static str) {
        let Some((slot, mut waiting)) = self.take() else { return };
        waiting.retain(|read| !read.answer.is_closed());
        let mut pipelines = Vec::with_capacity(waiting.len().div_ceil(TOGETHER));
        while !waiting.is_empty() {
            let rest = waiting.split_off(waiting.len().min(TOGETHER));
            pipelines.push(send(&slot, operation, mem::replace(&mut waiting, rest)));
        }
        join_all(pipelines).await;
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // What it has not taken; outside the lock, since it wakes those that wait.
        drop(self.take());
    }
}

/// Sends reads as one pipeline and deals the answers out.
async fn send(slot: &Arc<Slot>, operation: &'static str, reads: Vec<Waiting>) {
    let calls = u32::try_from(reads.len()).unwrap_or(u32::MAX);
    let mut pipeline = Pipeline::with_capacity(reads.len());
    let mut callers = Vec::with_capacity(reads.len());
    for Waiting { command, answer } in reads {
        pipeline.add_command(command);
        callers.push(answer);
    }
    let failure = match slot.exchange(operation, Effect::Read, Request::Pipeline(&pipeline), calls).await {
        Ok(Ok(Value::Array(values))) if values.len() == callers.len() => {
            for (caller, value) in callers.into_iter().zip(values) {
                // One that went away needs no answer.
                drop(caller.send(Ok(Ok(value))));
            }
            return;
        }
        Ok(Ok(_)) => Err(error::unexpected(operation, "one answer for each command")),
        Ok(Err(error)) => Ok(Err(error)),
        Err(error) => Err(error),
    };
    for caller in callers {
        drop(caller.send(failure.clone()));
    }
}

/// A read's place among those on their way.
struct OnItsWay<'a> {
    count: &'a AtomicUsize,
    others: usize,
}

impl<'a> OnItsWay<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        Self { count, others: count.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
