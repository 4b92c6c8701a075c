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

use super::{AtHand, FlightResult, Landed};
use crate::{engine::Engine, outcome::Outcome};

/// Below this number of answers none is looked through for its end.
const KEEP: usize = 1024;

type Place = (Key, FlightId);

/// What flights that go on have answered with already, and what is served until a loader is asked again.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    answers: Mutex<HashMap<Place, (u64, Kept)>>,
    /// So that an invalidation need not look where there is nothing.
    count: AtomicUsize,
    next: AtomicU64,
}

/// An answer that is kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(super) landed: Landed,
    /// Since when the value is stale.
    pub(super) since: Tick,
    pub(super) until: Tick,
    /// When it was kept.
    pub(super) at: Tick,
    /// Whether it may be served only while the bus is trusted.
    pub(super) relies_on_bus: bool,
    /// Whether its flight goes on: with a soft time-out one waits for that.
    pub(super) goes_on: bool,
}

impl Kept {
    /// The answer for a caller that came at this epoch.
    pub(super) fn result(self, came: u64, now: Tick) -> Option<FlightResult> {
        let older = now.since(self.at);
        let result = self.landed.at(came)?;
        Some(result.map(|outcome| Outcome { age: outcome.age + older, ..outcome }))
    }

    /// The same for a caller that waits for something better.
    pub(super) fn at_hand(self, came: u64, now: Tick) -> Option<AtHand> {
        let (since, until) = (self.since, self.until);
        let outcome = self.result(came, now)?.ok()?;
        Some(AtHand::new(outcome, now, since, until))
    }
}

/// Held while the flight goes on.
#[derive(Debug)]
pub(crate) struct Served {
    engine: Arc<Engine>,
    place: Place,
    number: u64,
}

impl Serving {
    /// What is served for a key now.
    pub(super) fn of(&self, key: &Key, id: FlightId, now: Tick) -> Option<Kept> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let answers = self.answers.lock();
        answers.get(&(key.clone(), id)).map(|(_, kept)| kept).filter(|kept| now < kept.until).cloned()
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

    /// Serves an answer, unless its key has been invalidated. The fence is asked under the lock: an invalidation raises it
    /// first and takes the lock then.
    pub(super) fn keep(&self, ticket: &Ticket<Landed>, id: FlightId, kept: Kept) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.answers.lock();
        // Before the ticket is asked, so that an invalidation from here on looks.
        self.count.fetch_add(1, Ordering::AcqRel);
        let is_full = answers.len() >= KEEP && answers.len() == answers.capacity();
        let dropped: Vec<_> = answers.extract_if(|_, (_, other)| is_full && other.until <= kept.at).collect();
        let kept = (number, kept);
        let given_way = if ticket.is_valid() { answers.insert((ticket.key().clone(), id), kept) } else { Some(kept) };
        self.count.store(answers.len(), Ordering::Release);
        drop(answers);
        drop((dropped, given_way));
        number
    }
}

impl Served {
    /// Serves an answer while its flight goes on.
    pub(super) fn new(engine: &Arc<Engine>, ticket: &Ticket<Landed>, id: FlightId, kept: Kept) -> Self {
        let number = engine.serving.keep(ticket, id, kept);
        Self { engine: Arc::clone(engine), place: (ticket.key().clone(), id), number }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let serving = &self.engine.serving;
        let mut answers = serving.answers.lock();
        let is_own = answers.get(&self.place).is_some_and(|(number, _)| *number == self.number);
        let dropped = if is_own { answers.remove(&self.place) } else { None };
        serving.count.store(answers.len(), Ordering::Release);
        drop(answers);
        drop(dropped);
    }
}
