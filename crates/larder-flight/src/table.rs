//! The table of keys that are being loaded or written right now.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use larder_core::Key;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::{FlightId, Follower, Join, Leader, Ticket};

const SHARDS: usize = 64;

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
    result: watch::Receiver<Option<T>>,
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
        Self { shards: Arc::new(Shards { hasher: RandomState::new(), tables }) }
    }

    /// Joins the flight of a key: leads if nobody does.
    #[must_use]
    pub fn join(&self, key: &Key, id: FlightId) -> Join<T> {
        let mut table = self.lock(key);
        let slot = table.entry(key.clone()).or_default();
        if let Some(flight) = slot.flights.iter().find(|flight| flight.id == id) {
            return Join::Follow(Follower::new(flight.result.clone()));
        }
        Join::Lead(self.lead(key, id, slot))
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
        let (sender, result) = watch::channel(None);
        let number = slot.next_flight;
        slot.next_flight += 1;
        slot.flights.push(Registered { id, number, result });
        slot.tickets += 1;
        let ticket = Ticket::new(self.clone(), key.clone(), slot.sequence);
        Leader::new(ticket, number, sender)
    }

    /// A ticket for a write or a promotion of a key, without a flight.
    #[must_use]
    pub fn ticket(&self, key: &Key) -> Ticket<T> {
        let mut table = self.lock(key);
        let slot = table.entry(key.clone()).or_default();
        slot.tickets += 1;
        Ticket::new(self.clone(), key.clone(), slot.sequence)
    }

    /// Voids every ticket of the key and detaches its flights; `clear` runs in the same atomic step and should remove
    /// the key from the store. It must be short and must not come back to this table.
    pub fn raise<R>(&self, key: &Key, clear: impl FnOnce() -> R) -> R {
        let mut table = self.lock(key);
        if let Some(slot) = table.get_mut(key) {
            slot.raise();
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
                    slot.raise();
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
        if let Entry::Occupied(mut entry) = self.lock(key).entry(key.clone()) {
            entry.get_mut().tickets -= 1;
            if entry.get().tickets == 0 && entry.get().flights.is_empty() {
                entry.remove();
            }
        }
    }

    pub(crate) fn replace_result(&self, key: &Key, number: u64, result: watch::Receiver<Option<T>>) {
        self.with_slot(key, |slot| {
            if let Some(flight) = slot.flights.iter_mut().find(|flight| flight.number == number) {
                flight.result = result;
            }
        });
    }

    pub(crate) fn deregister(&self, key: &Key, number: u64) {
        self.with_slot(key, |slot| slot.flights.retain(|flight| flight.number != number));
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { sequence: 0, tickets: 0, flights: Vec::new(), next_flight: 0 }
    }
}

impl<T> Slot<T> {
    fn raise(&mut self) {
        self.sequence += 1;
        self.flights.clear();
    }
}
