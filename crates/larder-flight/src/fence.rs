//! The fence: what was asked for before an invalidation is not stored after it.

use std::{fmt, num::NonZeroU64, sync::Arc};

use larder_core::Key;

use crate::{
    Flights,
    signal::Signal,
    table::{Hashed, Slot},
};

/// Taken before the source is asked, shown when its answer is to be stored. Dropping it gives it back.
pub struct Ticket<T> {
    /// `None` once it was given back.
    flights: Option<Flights<T>>,
    key: Hashed,
    sequence: u64,
    /// The flight that the ticket was taken with.
    flight: Option<NonZeroU64>,
}

impl<T> Ticket<T> {
    pub(crate) fn new(flights: Flights<T>, key: Hashed, sequence: u64, flight: Option<NonZeroU64>) -> Self {
        Self { flights: Some(flights), key, sequence, flight }
    }

    /// The key that the ticket is for.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key.key
    }

    /// Whether nothing was invalidated or written since the ticket was taken. Only a hint: it may change at any moment.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.with_slot(|slot| slot.sequence == self.sequence).unwrap_or(false)
    }

    /// Stores something *new* (a loaded or written value) if the ticket is still valid. What others hold or load is older:
    /// their tickets are voided and their flights detached, so that who comes after a write does not wait for a load that
    /// began before it. All this is one atomic step; `store` must be short and must not come back to the table. Answers
    /// whether it was run. The ticket itself stays valid, and the flight that it was taken with goes on.
    pub fn commit(&mut self, store: impl FnOnce()) -> bool {
        let (sequence, flight) = (self.sequence, self.flight);
        let committed = self.with_slot(|slot| {
            if slot.sequence != sequence {
                return None;
            }
            slot.supersede(flight);
            store();
            Some(slot.sequence)
        });
        match committed.flatten() {
            Some(sequence) => {
                self.sequence = sequence;
                true
            }
            None => false,
        }
    }

    /// Stores a *copy* (a value promoted from a slower tier) if the ticket is still valid; other tickets stay valid. Check
    /// and `store` are one atomic step. Answers whether it was run.
    pub fn commit_copy(&self, store: impl FnOnce()) -> bool {
        let committed = self.with_slot(|slot| {
            let valid = slot.sequence == self.sequence;
            if valid {
                store();
            }
            valid
        });
        committed.unwrap_or(false)
    }

    /// Takes the ticket's flight out of the table: nobody joins it any more.
    pub(crate) fn deregister(&self) {
        self.with_slot(|slot| slot.detach(self.flight));
    }

    /// Ends the ticket; nobody joins its flight any more.
    pub(crate) fn give_back(&mut self) {
        if let Some(flights) = self.flights.take() {
            flights.give_back(&self.key, self.flight);
        }
    }

    fn with_slot<R>(&self, action: impl FnOnce(&mut Slot<T>) -> R) -> Option<R> {
        self.flights.as_ref()?.with_slot(&self.key, action)
    }

    /// Lets those who join the ticket's flight from now on wait for another signal, unless it was detached.
    pub(crate) fn replace_signal(&self, signal: Arc<Signal<T>>) {
        self.with_slot(|slot| slot.replace_signal(self.flight, signal));
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("key", self.key()).field("sequence", &self.sequence).finish()
    }
}
