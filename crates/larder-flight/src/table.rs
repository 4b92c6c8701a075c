//! The table of keys that are being loaded or written right now.

use std::{fmt, hash::BuildHasher, num::NonZeroU64, sync::Arc};

use hashbrown::{HashTable, hash_table::Entry};
use larder_core::Key;
use smallvec::SmallVec;

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
    tables: Vec<Shard<T>>,
}

/// On a cache line of its own: unrelated keys do not slow each other down.
#[repr(align(64))]
struct Shard<T>(Mutex<Table<T>>);

/// A key and its hash, which is computed once for all that is done in the course of one call.
#[derive(Debug, Clone)]
pub(crate) struct Hashed {
    pub(crate) key: Key,
    hash: u64,
}

type Table<T> = HashTable<(Hashed, Slot<T>)>;

/// What is known of one key while somebody works on it.
pub(crate) struct Slot<T> {
    /// Grows with every raise and every committed load; a ticket is valid while it stands where the ticket found it.
    pub(crate) sequence: u64,
    /// Tickets that have not been dropped.
    tickets: usize,
    flights: SmallVec<[Registered<T>; 1]>,
    /// How many there were.
    led: u64,
}

struct Registered<T> {
    id: FlightId,
    number: NonZeroU64,
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
        let tables = (0..SHARDS).map(|_| Shard(Mutex::new(HashTable::new()))).collect();
        Self { shards: Arc::new(Shards { hasher: RandomState::default(), tables }) }
    }

    /// Joins the flight of a key: leads if nobody does.
    #[must_use]
    pub fn join(&self, key: &Key, id: FlightId) -> Join<T> {
        let hashed = self.hashed(key);
        let mut table = self.lock(hashed.hash);
        let slot = slot_of(&mut table, &hashed);
        self.join_in(hashed, id, slot)
    }

    /// The same for a caller who would not load: if there is a flight that suits, another one than its own, that is
    /// followed.
    ///
    /// # Errors
    /// The flight that is another one.
    pub fn join_unless(
        &self,
        key: &Key,
        id: FlightId,
        suits: impl Fn(&FlightId) -> bool,
    ) -> Result<Join<T>, Follower<T>> {
        let hashed = self.hashed(key);
        let mut table = self.lock(hashed.hash);
        let slot = slot_of(&mut table, &hashed);
        if let Some(other) = slot.flights.iter().find(|flight| suits(&flight.id)) {
            return Err(Follower::new(Arc::clone(&other.signal)));
        }
        Ok(self.join_in(hashed, id, slot))
    }

    /// Another way to wait for the key's flight, if there is one.
    #[must_use]
    pub fn follow(&self, key: &Key, id: FlightId) -> Option<Follower<T>> {
        let hash = self.hash(key);
        let table = self.lock(hash);
        let (_, slot) = table.find(hash, |(held, _)| held.key == *key)?;
        let flight = slot.flights.iter().find(|flight| flight.id == id)?;
        Some(Follower::new(Arc::clone(&flight.signal)))
    }

    fn join_in(&self, key: Hashed, id: FlightId, slot: &mut Slot<T>) -> Join<T> {
        match slot.flights.iter().find(|flight| flight.id == id) {
            Some(flight) => Join::Follow(Follower::new(Arc::clone(&flight.signal))),
            None => Join::Lead(self.lead(key, id, slot)),
        }
    }

    /// Opens a flight of one's own, whether or not there is one: a forced refresh. Who comes later joins this one, and
    /// what the earlier one loads is no longer stored.
    #[must_use]
    pub fn lead_alone(&self, key: &Key, id: FlightId) -> Leader<T> {
        let hashed = self.hashed(key);
        let mut table = self.lock(hashed.hash);
        let slot = slot_of(&mut table, &hashed);
        slot.sequence += 1;
        slot.flights.retain(|flight| flight.id != id);
        self.lead(hashed, id, slot)
    }

    fn lead(&self, key: Hashed, id: FlightId, slot: &mut Slot<T>) -> Leader<T> {
        let signal = Arc::new(Signal::new());
        slot.led += 1;
        let number = NonZeroU64::new(slot.led).expect("it was raised just now");
        slot.flights.push(Registered { id, number, signal: Arc::clone(&signal) });
        slot.tickets += 1;
        let ticket = Ticket::new(self.clone(), key, slot.sequence, Some(number));
        Leader::new(ticket, signal)
    }

    /// A ticket for a write or a promotion of a key, without a flight.
    #[must_use]
    pub fn ticket(&self, key: &Key) -> Ticket<T> {
        let hashed = self.hashed(key);
        let mut table = self.lock(hashed.hash);
        let slot = slot_of(&mut table, &hashed);
        slot.tickets += 1;
        let sequence = slot.sequence;
        drop(table);
        Ticket::new(self.clone(), hashed, sequence, None)
    }

    /// Voids every ticket of the key and detaches its flights; `clear` runs in the same atomic step and should remove
    /// the key from the store. It must be short and must not come back to this table.
    pub fn raise<R>(&self, key: &Key, clear: impl FnOnce() -> R) -> R {
        let hash = self.hash(key);
        let mut table = self.lock(hash);
        if let Some((_, slot)) = table.find_mut(hash, |(held, _)| held.key == *key) {
            slot.supersede(None);
        }
        clear()
    }

    /// Raises the fence of every key that is being worked on and that `concerns` names; O(concurrent work). The caller
    /// clears its store *afterwards*: what was committed before the fence was raised is there to be cleared, what comes
    /// later does not get in.
    pub fn raise_where(&self, concerns: impl Fn(&str) -> bool) {
        for table in &self.shards.tables {
            for (held, slot) in table.0.lock().iter_mut() {
                if concerns(held.key.as_str()) {
                    slot.supersede(None);
                }
            }
        }
    }

    /// Flights that callers can still join.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shards
            .tables
            .iter()
            .map(|table| table.0.lock().iter().map(|(_, slot)| slot.flights.len()).sum::<usize>())
            .sum()
    }

    /// Keys that somebody works on: loads, writes and promotions. Zero when the cache is at rest.
    #[must_use]
    pub fn keys_at_work(&self) -> usize {
        self.shards.tables.iter().map(|table| table.0.lock().len()).sum()
    }

    fn hash(&self, key: &Key) -> u64 {
        self.shards.hasher.hash_one(key)
    }

    pub(crate) fn hashed(&self, key: &Key) -> Hashed {
        Hashed { key: key.clone(), hash: self.hash(key) }
    }

    /// The table of a hash; which one is said by other bits than those by which the table itself finds a key.
    fn lock(&self, hash: u64) -> MutexGuard<'_, Table<T>> {
        let index = usize::try_from((hash >> 32) % SHARDS as u64).expect("less than the number of shards");
        self.shards.tables[index].0.lock()
    }

    /// Runs `action` on the key's slot, under its lock. There is one as long as a ticket lives.
    pub(crate) fn with_slot<R>(&self, key: &Hashed, action: impl FnOnce(&mut Slot<T>) -> R) -> Option<R> {
        let mut table = self.lock(key.hash);
        table.find_mut(key.hash, |(held, _)| held.key == key.key).map(|(_, slot)| action(slot))
    }

    /// Gives a ticket back; nobody joins this flight of the key any more.
    pub(crate) fn give_back(&self, key: &Hashed, flight: Option<NonZeroU64>) {
        let mut table = self.lock(key.hash);
        let Ok(mut held) = table.find_entry(key.hash, |(held, _)| held.key == key.key) else { return };
        let slot = &mut held.get_mut().1;
        slot.tickets -= 1;
        slot.detach(flight);
        // A registered flight has a leader, and its leader a ticket.
        if slot.tickets == 0 {
            held.remove();
        }
    }
}

/// The key's slot, made if there is none.
fn slot_of<'t, T>(table: &'t mut Table<T>, key: &Hashed) -> &'t mut Slot<T> {
    let entry = table.entry(key.hash, |(held, _)| held.key == key.key, |(held, _)| held.hash);
    let (_, slot) = match entry {
        Entry::Occupied(held) => held.into_mut(),
        Entry::Vacant(free) => free.insert((key.clone(), Slot::default())).into_mut(),
    };
    slot
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { sequence: 0, tickets: 0, flights: SmallVec::new(), led: 0 }
    }
}

impl<T> Slot<T> {
    /// Voids every ticket and detaches every flight but this one: what the others bring is older than what comes now.
    pub(crate) fn supersede(&mut self, but: Option<NonZeroU64>) {
        self.sequence += 1;
        self.flights.retain(|registered| Some(registered.number) == but);
    }

    pub(crate) fn detach(&mut self, flight: Option<NonZeroU64>) {
        if flight.is_some() {
            self.flights.retain(|registered| Some(registered.number) != flight);
        }
    }

    pub(crate) fn replace_signal(&mut self, flight: Option<NonZeroU64>, signal: Arc<Signal<T>>) {
        if let Some(registered) = self.flights.iter_mut().find(|registered| Some(registered.number) == flight) {
            registered.signal = signal;
        }
    }
}
