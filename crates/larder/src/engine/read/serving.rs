//! Stale values of flights that go on, for regions without a near tier: there, whoever comes during a refresh finds no
//! stale entry nearby, and would wait for a load that others did not have to wait for.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use larder_core::Key;
use larder_flight::{FlightId, Ticket};
use parking_lot::Mutex;

use super::Landed;
use crate::engine::Engine;

/// What flights that go on have answered with already.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    answers: Mutex<HashMap<(Key, FlightId), (u64, Landed)>>,
    /// So that an invalidation need not look where there is nothing.
    count: AtomicUsize,
    next: AtomicU64,
}

/// Held while the flight goes on.
#[derive(Debug)]
pub(crate) struct Served {
    engine: Arc<Engine>,
    place: (Key, FlightId),
    number: u64,
}

impl Serving {
    pub(crate) fn of(&self, key: &Key, id: FlightId) -> Option<Landed> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.answers.lock().get(&(key.clone(), id)).map(|(_, landed)| landed.clone())
    }

    /// Drops the answers that an invalidation concerns. Called when the fence has been raised.
    pub(crate) fn forget(&self, concerns: impl Fn(&Key) -> bool) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut answers = self.answers.lock();
            answers.retain(|(key, _), _| !concerns(key));
            self.count.store(answers.len(), Ordering::Release);
        }
    }
}

impl Served {
    /// Serves an answer while its flight goes on, unless its key has been invalidated. The fence is asked under the lock:
    /// an invalidation raises it first and takes the lock then.
    pub(crate) fn new(engine: &Arc<Engine>, ticket: &Ticket<Landed>, id: FlightId, landed: Landed) -> Self {
        let place = (ticket.key().clone(), id);
        let serving = &engine.serving;
        let number = serving.next.fetch_add(1, Ordering::Relaxed);
        let mut answers = serving.answers.lock();
        // Before the ticket is asked, so that an invalidation from here on looks.
        serving.count.fetch_add(1, Ordering::AcqRel);
        if ticket.is_valid() {
            answers.insert(place.clone(), (number, landed));
        }
        serving.count.store(answers.len(), Ordering::Release);
        drop(answers);
        Self { engine: Arc::clone(engine), place, number }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let serving = &self.engine.serving;
        let mut answers = serving.answers.lock();
        if answers.get(&self.place).is_some_and(|(number, _)| *number == self.number) {
            answers.remove(&self.place);
        }
        serving.count.store(answers.len(), Ordering::Release);
    }
}
