//! The flight: one leader loads, everybody gets the result.

use std::{
    any::TypeId,
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use larder_core::Tick;

use crate::{
    Ticket,
    signal::{Signal, Unwatched},
    sync::CROWD,
};

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
    /// `None` once it has ended.
    signal: Option<Arc<Signal<T>>>,
}

impl<T> Leader<T> {
    pub(crate) fn new(ticket: Ticket<T>, signal: Arc<Signal<T>>) -> Self {
        Self { ticket, signal: Some(signal) }
    }

    /// The ticket that was taken together with the lead.
    pub fn ticket(&mut self) -> &mut Ticket<T> {
        &mut self.ticket
    }

    /// Another way to wait for this flight: for the caller whose task leads it.
    ///
    /// # Panics
    /// Never: only its end takes the signal, and the leader with it.
    #[must_use]
    pub fn follow(&self) -> Follower<T> {
        Follower::new(Arc::clone(self.signal.as_ref().expect("it has not ended: ending takes it")))
    }

    /// Gives a first result (a stale value, say) to those who wait now, and leads on: who comes later waits for the next
    /// one. A flight that was detached meanwhile stays detached.
    #[must_use]
    pub fn answer(mut self, result: T) -> Self {
        let next = Arc::new(Signal::new());
        self.ticket.replace_signal(Arc::clone(&next));
        if let Some(signal) = self.signal.replace(next) {
            signal.end(Some(result));
        }
        self
    }

    /// Closes the flight and gives the result to everybody. The ticket is handed back, for what is committed after the
    /// callers have been answered.
    pub fn finish(mut self, result: T) -> LeaderTicket<T> {
        self.land(Some(result));
        LeaderTicket(self)
    }

    /// The same where nothing is committed afterwards.
    pub fn end(mut self, result: T) {
        self.ticket.give_back();
        if let Some(signal) = self.signal.take() {
            signal.end(Some(result));
        }
    }

    /// Out of the table first, so that nobody whom the end wakes finds the flight again.
    fn land(&mut self, result: Option<T>) {
        if let Some(signal) = self.signal.take() {
            self.ticket.deregister();
            signal.end(result);
        }
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
        self.land(None);
    }
}

impl<T> fmt::Debug for Leader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leader").field("ticket", &self.ticket).field("landed", &self.signal.is_none()).finish()
    }
}

/// A caller that waits for somebody else's load.
pub struct Follower<T> {
    signal: Arc<Signal<T>>,
    /// Where the signal keeps this caller's waker.
    place: Option<usize>,
}

impl<T> Follower<T> {
    pub(crate) fn new(signal: Arc<Signal<T>>) -> Self {
        Self { signal, place: None }
    }
}

impl<T: Clone> Follower<T> {
    /// The leader's result; `None` if the leader went away without one, upon which one joins again. Dropping the future
    /// leaves the flight and its other followers alone. Needs no particular runtime.
    pub fn wait(mut self) -> impl Future<Output = Option<T>> {
        poll_fn(move |context| self.poll(context))
    }

    /// A look at the flight, for who waits for more than that; the task is woken at its end.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.signal.poll(&mut self.place, context.waker())
    }

    /// The same for a caller with a deadline, without a timer of its own: as long as there is a [`Watch`] of the flight
    /// that ends by `deadline`.
    ///
    /// # Errors
    /// [`Unwatched`] at once if there is none, and later when it has ended: the caller has to watch the clock itself.
    pub fn wait_watched(&mut self, deadline: Tick) -> impl Future<Output = Result<Option<T>, Unwatched>> {
        poll_fn(move |context| self.poll_watched(deadline, context))
    }

    /// A look at the flight, as [`wait_watched`](Self::wait_watched) takes it.
    ///
    /// # Errors
    /// As there.
    pub fn poll_watched(&mut self, deadline: Tick, context: &mut Context<'_>) -> Poll<Result<Option<T>, Unwatched>> {
        self.signal.poll_watched(deadline, &mut self.place, context.waker())
    }

    /// The duty to watch the clock for all followers whose deadline is not before `until`. It goes to one in the life of a
    /// flight, and not before a crowd waits; `None`: somebody has it already, or it is not worth it.
    #[must_use]
    pub fn watch(&self, until: Tick) -> Option<Watch<T>> {
        self.signal.watch(until, CROWD).then(|| Watch { signal: Arc::clone(&self.signal) })
    }
}

/// The duty to watch the clock for a flight's followers: to be dropped when the time has come, or before. Then they are
/// called, and none waits without a timer any more.
///
/// Keep it in a task of its own: whoever polls it late lets all of them time out late.
pub struct Watch<T> {
    signal: Arc<Signal<T>>,
}

impl<T: Clone> Watch<T> {
    /// Completes when the flight ends: there is nothing left to watch.
    pub async fn ended(&self) {
        Follower::new(Arc::clone(&self.signal)).wait().await;
    }
}

impl<T> Drop for Watch<T> {
    fn drop(&mut self) {
        self.signal.call();
    }
}

impl<T> fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl<T> Drop for Follower<T> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.signal.leave(place);
        }
    }
}

impl<T> fmt::Debug for Follower<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}
