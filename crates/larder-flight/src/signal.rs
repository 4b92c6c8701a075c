//! How a flight's end reaches those who wait for it.
//!
//! Smaller than a watch channel, since it fires once: one lock holds either the end or those to wake, so that nobody can
//! miss the end between looking for it and asking to be woken. All are woken in one go, outside the lock.

use std::{
    mem,
    task::{Poll, Waker},
};

use slab::Slab;

use crate::sync::Mutex;

/// Fires once.
pub(crate) struct Signal<T> {
    state: Mutex<State<T>>,
}

enum State<T> {
    Waiting(Slab<Waker>),
    /// The result, or none if the leader went away without one.
    Ended(Option<T>),
}

impl<T> Signal<T> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::Waiting(Slab::new())) }
    }

    /// Ends the flight and wakes everybody. Only the first end counts.
    pub(crate) fn end(&self, result: Option<T>) {
        let mut state = self.state.lock();
        let State::Waiting(waiting) = &mut *state else { return };
        let waiting = mem::take(waiting);
        *state = State::Ended(result);
        drop(state);
        for (_, waker) in waiting {
            waker.wake();
        }
    }

    /// The end, or a place among those to wake: a new one if the caller has none yet.
    pub(crate) fn poll(&self, place: &mut Option<usize>, waker: &Waker) -> Poll<Option<T>>
    where
        T: Clone,
    {
        let mut state = self.state.lock();
        let waiting = match &mut *state {
            State::Ended(result) => {
                *place = None;
                return Poll::Ready(result.clone());
            }
            State::Waiting(waiting) => waiting,
        };
        let Some(place) = *place else {
            *place = Some(waiting.insert(waker.clone()));
            return Poll::Pending;
        };
        if !waiting[place].will_wake(waker) {
            let former = mem::replace(&mut waiting[place], waker.clone());
            // What a waker frees may come back to this flight, so none is dropped under the lock.
            drop(state);
            drop(former);
        }
        Poll::Pending
    }

    /// Gives a place back: its caller went away.
    pub(crate) fn leave(&self, place: usize) {
        let mut state = self.state.lock();
        let waker = match &mut *state {
            State::Waiting(waiting) => waiting.try_remove(place),
            State::Ended(_) => None,
        };
        drop(state);
        drop(waker);
    }
}
