//! The fence: what was asked for before an invalidation is not stored after it.

use std::fmt;

use larder_core::Key;

use crate::Flights;

/// Taken before the source is asked, shown when its answer is to be stored. Dropping it gives it back.
pub struct Ticket<T> {
    flights: Flights<T>,
    key: Key,
    sequence: u64,
}

impl<T> Ticket<T> {
    pub(crate) fn new(flights: Flights<T>, key: Key, sequence: u64) -> Self {
        Self { flights, key, sequence }
    }

    /// The key that the ticket is for.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Whether nothing was invalidated or written since the ticket was taken. Only a hint: it may change at any moment.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.flights.with_slot(&self.key, |slot| slot.sequence == self.sequence).unwrap_or(false)
    }

    /// Stores something *new* (a loaded or written value) if the ticket is still valid, and voids every other ticket of
    /// the key: what the others hold is older. Check, `store` and voiding are one atomic step; `store` must be short and
    /// must not come back to the table. Answers whether it was run. The ticket itself stays valid.
    pub fn commit(&mut self, store: impl FnOnce()) -> bool {
        let sequence = self.sequence;
        let committed = self.flights.with_slot(&self.key, |slot| {
            if slot.sequence != sequence {
                return None;
            }
            slot.sequence += 1;
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
        let committed = self.flights.with_slot(&self.key, |slot| {
            let valid = slot.sequence == self.sequence;
            if valid {
                store();
            }
            valid
        });
        committed.unwrap_or(false)
    }

    pub(crate) fn flights(&self) -> &Flights<T> {
        &self.flights
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        self.flights.drop_ticket(&self.key);
    }
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("key", &self.key).field("sequence", &self.sequence).finish()
    }
}
