//! What is to be told of writes: one message is on its way at a time, and what comes meanwhile goes into the next one together.
//! So many writers at once cost few messages, and a single one none more.

use std::sync::Arc;

use larder_core::Key;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::oneshot};

use super::{Body, portions};
use crate::engine::Engine;

#[derive(Debug, Default)]
pub(super) struct Outbox(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    keys: Vec<Key>,
    /// Dropped when it was tried.
    callers: Vec<oneshot::Sender<()>>,
    /// A task sends, and looks for more before it ends.
    sending: bool,
}

impl Outbox {
    /// Adds keys; answers whether the caller has to see to it that they are sent, and what tells that they were.
    fn put(&self, keys: &[Key]) -> (bool, oneshot::Receiver<()>) {
        let (caller, told) = oneshot::channel();
        let mut waiting = self.0.lock();
        waiting.keys.extend_from_slice(keys);
        waiting.callers.push(caller);
        (!std::mem::replace(&mut waiting.sending, true), told)
    }

    /// What waits, each key once. Nothing: the sending has ended.
    fn take(&self) -> Option<(Vec<Key>, Vec<oneshot::Sender<()>>)> {
        let mut waiting = self.0.lock();
        if waiting.callers.is_empty() {
            waiting.sending = false;
            return None;
        }
        let mut keys = std::mem::take(&mut waiting.keys);
        keys.sort_unstable();
        keys.dedup();
        Some((keys, std::mem::take(&mut waiting.callers)))
    }
}

/// A task that sends. If it is aborted, the next caller starts another one.
struct Sender<'a> {
    outbox: &'a Outbox,
    ended: bool,
}

impl Drop for Sender<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let mut waiting = self.outbox.0.lock();
            waiting.sending = false;
            waiting.callers.clear();
        }
    }
}

impl Engine {
    /// Tells the other processes of keys that were written, and returns when that was tried, or at once while the remote tier
    /// is away. It goes on if the future is dropped. If a message cannot be sent, its number stays missing, and the others distrust the bus.
    pub(crate) async fn announce(&self, keys: &[Key]) {
        let Some(engine) = self.coherence.speaker().filter(|_| !keys.is_empty()) else { return };
        let (starts, told) = self.coherence.outbox.put(keys);
        if starts && Handle::try_current().is_ok() {
            let speaker = Arc::clone(&engine);
            engine.spawn(async move { speaker.send_all().await });
        } else if starts {
            self.send_all().await;
        }
        if self.is_away() {
            return;
        }
        // It is not said how it went; an error is the sign that it was tried.
        drop(told.await);
    }

    async fn send_all(&self) {
        let outbox = &self.coherence.outbox;
        let mut sender = Sender { outbox, ended: false };
        while let Some((keys, callers)) = outbox.take() {
            for keys in portions(&keys) {
                self.publish_message(Body::Keys(keys.to_vec())).await;
            }
            drop(callers);
        }
        sender.ended = true;
    }
}
