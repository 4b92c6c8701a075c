//! The table of keys that are being loaded or written right now.

use std::{collections::HashMap, fmt, hash::BuildHasher, sync::Arc};

use larder_core::Key;

use crate::{
    FlightId, Follower, Join, Leader, Ticket,
    signal::Signal,
    sync::{Mutex, MutexGuard, RandomState, SHARDS},
};

/// Flights and fence of one cache. Clones share the table.
pub struct Flights<T> {
    shards: Arc<Shards<T>>,
}

struct Shards<T> {
    hasher: RandomState,
    tables: Vec<Mutex<HashMap<Key, Slot<T>>>>,
}

/// What is known of one key while somebody works on it.
pub(crate) struct Slot<T> {
    /// Grows with every raise and every committed load; a ticket is valid while it stands where the ticket found it.
    pub(crate) sequence: u64,
    /// Tickets that have not been dropped.
    tickets: usize,
    flights: Vec<Registered<T>>,
    next_flight: u64,
}

struct Registered<T> {
    id: FlightId,
    number: u64,
    signal: Arc<Signal<T>>,
}

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        Self { shards: Arc::clone(&self.shards) }
    }
}

impl<T> fmt::Debug for Flights<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("in_flight", &self.in_flight()).finish()
    }
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Flights<T> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        let tables = (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect();
        Self { shards: Arc::new(Shards { hasher: RandomState::default(), tables }) }
    }

    /// Joins the flight of a key: leads if nobody does.
    #[must_use]
    pub fn join(&self, key: &Key, id: FlightId) -> Join<T> {
        let mut table = self.lock(key);
        let flights = table.get(key).map_or(&[][..], |slot| &slot.flights);
        if let Some(flight) = flights.iter().find(|flight| flight.id == id) {
            return Join::Follow(Follower::new(Arc::clone(&flight.signal)));
        }
        Join::Lead(self.lead(key, id, table.entry(key.clone()).or_default()))
    }

    /// Another way to wait for a flight of the key that is under way, for a caller who would not load: the first one that
    /// suits.
    #[must_use]
    pub fn follow(&self, key: &Key, suits: impl Fn(&FlightId) -> bool) -> Option<Follower<T>> {
        let table = self.lock(key);
        let flight = table.get(key)?.flights.iter().find(|flight| suits(&flight.id))?;
        Some(Follower::new(Arc::clone(&flight.signal)))
    }

    /// Opens a flight of one's own, whether or not there is one: a forced refresh. Who comes later joins this one, and
    /// what the earlier one loads is no longer stored.
    #[must_use]
    pub fn lead_alone(&self, key: &Key, id: FlightId) -> Leader<T> {
        let mut table = self.lock(key);
        let slot = table.entry(key.clone()).or_default();
        slot.sequence += 1;
        slot.flights.retain(|flight| flight.id != id);
        self.lead(key, id, slot)
    }

    fn lead(&self, key: &Key, id: FlightId, slot: &mut Slot<T>) -> Leader<T> {
        let signal = Arc::new(Signal::new());
        let number = slot.next_flight;
        slot.next_flight += 1;
        slot.flights.push(Registered { id, number, signal: Arc::clone(&signal) });
        slot.tickets += 1;
        let ticket = Ticket::new(self.clone(), key.clone(), slot.sequence, Some(number));
        Leader::new(ticket, signal)
    }

    /// A ticket for a write or a promotion of a key, without a flight.
    #[must_use]
    pub fn ticket(&self, key: &Key) -> Ticket<T> {
        let mut table = self.lock(key);
        let slot = table.entry(key.clone()).or_default();
        slot.tickets += 1;
        Ticket::new(self.clone(), key.clone(), slot.sequence, None)
    }

    /// Voids every ticket of the key and detaches its flights; `clear` runs in the same atomic step and should remove
    /// the key from the store. It must be short and must not come back to this table.
    pub fn raise<R>(&self, key: &Key, clear: impl FnOnce() -> R) -> R {
        let mut table = self.lock(key);
        if let Some(slot) = table.get_mut(key) {
            slot.supersede(None);
        }
        clear()
    }

    /// Raises the fence of every key that is being worked on and that `concerns` names; O(concurrent work). The caller
    /// clears its store *afterwards*: what was committed before the fence was raised is there to be cleared, what comes
    /// later does not get in.
    pub fn raise_where(&self, concerns: impl Fn(&str) -> bool) {
        for table in &self.shards.tables {
            for (key, slot) in table.lock().iter_mut() {
                if concerns(key.as_str()) {
                    slot.supersede(None);
                }
            }
        }
    }

    /// Flights that callers can still join.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shards.tables.iter().map(|table| table.lock().values().map(|slot| slot.flights.len()).sum::<usize>()).sum()
    }

    /// Keys that somebody works on: loads, writes and promotions. Zero when the cache is at rest.
    #[must_use]
    pub fn keys_at_work(&self) -> usize {
        self.shards.tables.iter().map(|table| table.lock().len()).sum()
    }

    fn lock(&self, key: &Key) -> MutexGuard<'_, HashMap<Key, Slot<T>>> {
        let hash = self.shards.hasher.hash_one(key);
        let index = usize::try_from(hash % SHARDS as u64).expect("less than the number of shards");
        self.shards.tables[index].lock()
    }

    /// Runs `action` on the key's slot, under its lock. There is one as long as a ticket lives.
    pub(crate) fn with_slot<R>(&self, key: &Key, action: impl FnOnce(&mut Slot<T>) -> R) -> Option<R> {
        self.lock(key).get_mut(key).map(action)
    }

    pub(crate) fn drop_ticket(&self, key: &Key) {
        let mut table = self.lock(key);
        let Some(slot) = table.get_mut(key) else { return };
        slot.tickets -= 1;
        // A registered flight has a leader, and its leader a ticket.
        if slot.tickets == 0 {
            table.remove(key);
        }
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { sequence: 0, tickets: 0, flights: Vec::new(), next_flight: 0 }
    }
}

impl<T> Slot<T> {
    /// Voids every ticket and detaches every flight but this one: what the others bring is older than what comes now.
    pub(crate) fn supersede(&mut self, but: Option<u64>) {
        self.sequence += 1;
        self.flights.retain(|registered| Some(registered.number) == but);
    }

    pub(crate) fn detach(&mut self, flight: Option<u64>) {
        self.flights.retain(|registered| Some(registered.number) != flight);
    }

    pub(crate) fn replace_signal(&mut self, flight: Option<u64>, signal: Arc<Signal<T>>) {
        if let Some(registered) = self.flights.iter_mut().find(|registered| Some(registered.number) == flight) {
            registered.signal = signal;
        }
    }
}
