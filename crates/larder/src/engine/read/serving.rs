//! Stale values for regions without a near tier. There, whoever comes during a refresh finds no stale entry nearby, and would
//! wait for a load that others did not have to wait for; and nothing says that a refresh has failed a moment ago.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use larder_core::{Key, Tick};
use larder_flight::{FlightId, Ticket};
use parking_lot::Mutex;

use super::Landed;
use crate::engine::Engine;

/// Below this number of answers none is looked through for its end.
const KEEP: usize = 1024;

type Place = (Key, FlightId);

/// What flights that go on have answered with already, and what is served until a loader is asked again.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    answers: Mutex<HashMap<Place, Kept>>,
    /// So that an invalidation need not look where there is nothing.
    count: AtomicUsize,
    next: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    landed: Landed,
    until: Tick,
}

/// Held while the flight goes on.
#[derive(Debug)]
pub(crate) struct Served {
    engine: Arc<Engine>,
    place: Place,
    number: u64,
}

impl Serving {
    /// What is served for a key now, and until when.
    pub(crate) fn of(&self, key: &Key, id: FlightId, now: Tick) -> Option<(Landed, Tick)> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let answers = self.answers.lock();
        let kept = answers.get(&(key.clone(), id)).filter(|kept| now < kept.until)?;
        Some((kept.landed.clone(), kept.until))
    }

    /// Drops the answers that an invalidation concerns. Called when the fence has been raised.
    pub(crate) fn forget(&self, concerns: impl Fn(&Key) -> bool) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut answers = self.answers.lock();
            // A value's `Drop` may use the cache, and so must not run under the lock.
            let dropped: Vec<_> = answers.extract_if(|(key, _), _| concerns(key)).collect();
            self.count.store(answers.len(), Ordering::Release);
            drop(answers);
            drop(dropped);
        }
    }

    /// Serves an answer until `until`, unless its key has been invalidated. The fence is asked under the lock: an
    /// invalidation raises it first and takes the lock then.
    pub(crate) fn keep(&self, ticket: &Ticket<Landed>, id: FlightId, landed: Landed, now: Tick, until: Tick) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.answers.lock();
        // Before the ticket is asked, so that an invalidation from here on looks.
        self.count.fetch_add(1, Ordering::AcqRel);
        let is_full = answers.len() >= KEEP && answers.len() == answers.capacity();
        let dropped: Vec<_> = answers.extract_if(|_, kept| is_full && kept.until <= now).collect();
        let kept = Kept { number, landed, until };
        let given_way = if ticket.is_valid() { answers.insert((ticket.key().clone(), id), kept) } else { Some(kept) };
        self.count.store(answers.len(), Ordering::Release);
        drop(answers);
        drop((dropped, given_way));
        number
    }
}

impl Served {
    /// Serves an answer while its flight goes on.
    pub(crate) fn new(engine: &Arc<Engine>, ticket: &Ticket<Landed>, id: FlightId, landed: Landed) -> Self {
        let number = engine.serving.keep(ticket, id, landed, engine.timer.now(), Tick::FOREVER);
        Self { engine: Arc::clone(engine), place: (ticket.key().clone(), id), number }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let serving = &self.engine.serving;
        let mut answers = serving.answers.lock();
        let is_own = answers.get(&self.place).is_some_and(|kept| kept.number == self.number);
        let dropped = if is_own { answers.remove(&self.place) } else { None };
        serving.count.store(answers.len(), Ordering::Release);
        drop(answers);
        drop(dropped);
    }
}
