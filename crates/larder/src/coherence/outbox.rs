//! What is to be told of writes: one message is on its way at a time, and what comes meanwhile goes into the next one together.
//! So many writers at once cost few messages, and a single one none more.
//!
//! Writers of one runtime share messages, and no others: the task of a runtime that nobody drives would keep them waiting.

use std::sync::Arc;

use larder_core::Key;
use parking_lot::Mutex;
use tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
};

use super::{Body, portions};
use crate::engine::Engine;

/// What waits on each runtime on which something is being sent.
#[derive(Debug, Default)]
pub(super) struct Outbox(Mutex<Vec<Waiting>>);

/// Where there is one, a [`Sender`] exists that takes what waits.
#[derive(Debug)]
struct Waiting {
    /// `None` for writers without a runtime.
    runtime: Option<Id>,
    keys: Vec<Key>,
    /// Dropped when it was tried.
    callers: Vec<oneshot::Sender<()>>,
}

impl Outbox {
    /// Adds keys; answers whether the caller has to see to it that they are sent, and what tells that it was tried.
    fn put(&self, runtime: Option<Id>, keys: &[Key]) -> (bool, oneshot::Receiver<()>) {
        let (caller, told) = oneshot::channel();
        let mut all = self.0.lock();
        let starts = match all.iter_mut().find(|waiting| waiting.runtime == runtime) {
            Some(waiting) => {
                waiting.keys.extend_from_slice(keys);
                waiting.callers.push(caller);
                false
            }
            None => {
                all.push(Waiting { runtime, keys: keys.to_vec(), callers: vec![caller] });
                true
            }
        };
        (starts, told)
    }

    /// What waits, each key once. Nothing: the sending has ended.
    fn take(&self, runtime: Option<Id>) -> Option<(Vec<Key>, Vec<oneshot::Sender<()>>)> {
        let mut all = self.0.lock();
        let place = all.iter().position(|waiting| waiting.runtime == runtime)?;
        let waiting = &mut all[place];
        if waiting.callers.is_empty() {
            all.swap_remove(place);
            return None;
        }
        let mut keys = std::mem::take(&mut waiting.keys);
        keys.sort_unstable();
        keys.dedup();
        Some((keys, std::mem::take(&mut waiting.callers)))
    }

    /// Nobody sends on this runtime any more: the next caller starts anew.
    fn give_up(&self, runtime: Option<Id>) {
        self.0.lock().retain(|waiting| waiting.runtime != runtime);
    }
}

/// Sends what waits. It exists from when its callers begin to rely on it, also if its task is never polled.
struct Sender {
    engine: Arc<Engine>,
    runtime: Option<Id>,
    ended: bool,
}

impl Sender {
    async fn send_all(mut self) {
        let outbox = &self.engine.coherence.outbox;
        while let Some((keys, callers)) = outbox.take(self.runtime) {
            for keys in portions(&keys) {
                self.engine.publish_message(Body::Keys(keys.to_vec())).await;
            }
            drop(callers);
        }
        self.ended = true;
    }
}

/// Ended early, with its runtime or by a panic, it leaves keys behind that nobody was told of. The number of a message that
/// never comes says so to the others: they distrust the bus.
impl Drop for Sender {
    fn drop(&mut self) {
        if !self.ended {
            self.engine.coherence.outbox.give_up(self.runtime);
            self.engine.coherence.skip_a_number();
        }
    }
}

impl Engine {
    /// Tells the other processes of keys that were written, and returns when that was tried, or at once while the remote tier
    /// is away. It goes on if the future is dropped. If a message cannot be sent, its number stays missing, and the others distrust the bus.
    pub(crate) async fn announce(&self, keys: &[Key]) {
        let Some(engine) = self.coherence.speaker().filter(|_| !keys.is_empty()) else { return };
        let runtime = Handle::try_current().ok().map(|runtime| runtime.id());
        let (starts, told) = self.coherence.outbox.put(runtime, keys);
        if starts {
            let sender = Sender { engine: Arc::clone(&engine), runtime, ended: false };
            match runtime {
                Some(_) => engine.spawn(sender.send_all()),
                None => sender.send_all().await,
            }
        }
        if self.is_away() {
            return;
        }
        // It is not said how it went; an error is the sign that it was tried.
        drop(told.await);
    }
}
