//! The flight: one leader loads, everybody gets the result.

use std::{any::TypeId, fmt};

use tokio::sync::watch;

use crate::Ticket;

/// Flights of one key are shared only by calls that agree in this: the types of value and error, and the options that
/// change what is loaded or where it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlightId {
    /// The value's type.
    pub value: TypeId,
    /// The error's type.
    pub error: TypeId,
    /// Bits of the options that matter.
    pub options: u8,
}

/// The outcome of joining.
#[derive(Debug)]
pub enum Join<T> {
    /// Nobody loads this key: the caller does.
    Lead(Leader<T>),
    /// Somebody does: wait for it.
    Follow(Follower<T>),
}

/// The duty to load and to finish. Dropping it unfinished sends the followers to join again.
pub struct Leader<T> {
    ticket: Ticket<T>,
    number: u64,
    result: watch::Sender<Option<T>>,
}

impl<T> Leader<T> {
    pub(crate) fn new(ticket: Ticket<T>, number: u64, result: watch::Sender<Option<T>>) -> Self {
        Self { ticket, number, result }
    }

    /// The ticket that was taken together with the lead.
    pub fn ticket(&mut self) -> &mut Ticket<T> {
        &mut self.ticket
    }

    /// Another way to wait for this flight: for the caller whose task leads it.
    #[must_use]
    pub fn follow(&self) -> Follower<T> {
        Follower::new(self.result.subscribe())
    }

    /// Gives a first result (a stale value, say) to those who wait now, and leads on: who comes later waits for the next
    /// one. A flight that was detached meanwhile stays detached.
    #[must_use]
    pub fn answer(mut self, result: T) -> Self {
        let (next, receiver) = watch::channel(None);
        self.ticket.flights().replace_result(self.ticket.key(), self.number, receiver);
        std::mem::replace(&mut self.result, next).send_replace(Some(result));
        self
    }

    /// Closes the flight and gives the result to everybody. The ticket is handed back, for what is committed after the
    /// callers have been answered.
    pub fn finish(self, result: T) -> LeaderTicket<T> {
        self.ticket.flights().deregister(self.ticket.key(), self.number);
        self.result.send_replace(Some(result));
        LeaderTicket(self)
    }
}

/// A finished leader: only its ticket is left of it.
#[derive(Debug)]
pub struct LeaderTicket<T>(Leader<T>);

impl<T> LeaderTicket<T> {
    /// The ticket.
    pub fn ticket(&mut self) -> &mut Ticket<T> {
        &mut self.0.ticket
    }
}

impl<T> Drop for Leader<T> {
    fn drop(&mut self) {
        self.ticket.flights().deregister(self.ticket.key(), self.number);
    }
}

impl<T> fmt::Debug for Leader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader").field("ticket", &self.ticket).field("number", &self.number).finish()
    }
}

/// A caller that waits for somebody else's load.
pub struct Follower<T> {
    result: watch::Receiver<Option<T>>,
}

impl<T> Follower<T> {
    pub(crate) fn new(result: watch::Receiver<Option<T>>) -> Self {
        Self { result }
    }
}

impl<T: Clone> Follower<T> {
    /// The leader's result; `None` if the leader went away without one, upon which one joins again. Dropping the future
    /// leaves the flight and its other followers alone. Needs no particular runtime.
    pub async fn wait(mut self) -> Option<T> {
        // A result that was sent is found even if the leader has gone away since.
        let result = self.result.wait_for(Option::is_some).await.ok()?;
        result.clone()
    }
}

impl<T> fmt::Debug for Follower<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}
