//! How a flight's end reaches those who wait for it.
//!
//! Smaller than a watch channel, since it fires once: one lock holds either the end or those to wake, so that nobody can
//! miss the end between looking for it and asking to be woken. All are woken in one go, outside the lock.
//!
//! Ten thousand callers that wait for one load would set ten thousand timers for time-outs that hardly ever come. One of a
//! crowd may watch the clock for all: those whose deadlines are not before the watch's end wait without a timer, and are
//! called when the watch is over, to set their own then.

use std::{
    mem,
    task::{Poll, Waker},
};

use larder_core::Tick;
use slab::Slab;

use crate::sync::Mutex;

/// Fires once.
pub(crate) struct Signal<T> {
    state: Mutex<State<T>>,
}

enum State<T> {
    Waiting(Waiting),
    /// The result, or none if the leader went away without one.
    Ended(Option<T>),
}

#[derive(Default)]
struct Waiting {
    wakers: Slab<Waker>,
    watch: Watched,
}

#[derive(Clone, Copy, Default)]
enum Watched {
    /// Nobody has taken the duty.
    #[default]
    Not,
    Until(Tick),
    /// Once only: whoever is called sets a timer.
    NoMore,
}

impl Watched {
    fn covers(self, deadline: Tick) -> bool {
        matches!(self, Self::Until(until) if until <= deadline)
    }
}

/// Nobody watches the clock for this follower (any more).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unwatched;

impl<T> Signal<T> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::Waiting(Waiting::default())) }
    }

    /// Ends the flight and wakes everybody. Only the first end counts.
    pub(crate) fn end(&self, result: Option<T>) {
        let mut state = self.state.lock();
        let State::Waiting(waiting) = &mut *state else { return };
        let wakers = mem::take(&mut waiting.wakers);
        *state = State::Ended(result);
        drop(state);
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    /// The end, or a place among those to wake: a new one if the caller has none yet.
    pub(crate) fn poll(&self, place: &mut Option<usize>, waker: &Waker) -> Poll<Option<T>>
    where
        T: Clone,
    {
        // Never unwatched, since it waits either way.
        self.poll_while(|_| true, place, waker).map(Result::unwrap_or_default)
    }

    /// The same as long as somebody watches the clock for those with this deadline.
    pub(crate) fn poll_watched(
        &self,
        deadline: Tick,
        place: &mut Option<usize>,
        waker: &Waker,
    ) -> Poll<Result<Option<T>, Unwatched>>
    where
        T: Clone,
    {
        self.poll_while(|watched| watched.covers(deadline), place, waker)
    }

    fn poll_while(
        &self,
        waits: impl FnOnce(Watched) -> bool,
        place: &mut Option<usize>,
        waker: &Waker,
    ) -> Poll<Result<Option<T>, Unwatched>>
    where
        T: Clone,
    {
        let mut state = self.state.lock();
        let waiting = match &mut *state {
            State::Ended(result) => {
                *place = None;
                return Poll::Ready(Ok(result.clone()));
            }
            State::Waiting(waiting) => waiting,
        };
        if !waits(waiting.watch) {
            return Poll::Ready(Err(Unwatched));
        }
        let Some(place) = *place else {
            *place = Some(waiting.wakers.insert(waker.clone()));
            return Poll::Pending;
        };
        if !waiting.wakers[place].will_wake(waker) {
            let former = mem::replace(&mut waiting.wakers[place], waker.clone());
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
            State::Waiting(waiting) => waiting.wakers.try_remove(place),
            State::Ended(_) => None,
        };
        drop(state);
        drop(waker);
    }

    /// Takes the duty to watch the clock, if so many wait and nobody has taken it.
    pub(crate) fn watch(&self, until: Tick, crowd: usize) -> bool {
        let mut state = self.state.lock();
        match &mut *state {
            State::Waiting(waiting) if matches!(waiting.watch, Watched::Not) && waiting.wakers.len() >= crowd => {
                waiting.watch = Watched::Until(until);
                true
            }
            State::Waiting(_) | State::Ended(_) => false,
        }
    }

    /// The watch is over: wakes everybody, so that each looks at its own deadline.
    pub(crate) fn call(&self) {
        let mut state = self.state.lock();
        let State::Waiting(waiting) = &mut *state else { return };
        waiting.watch = Watched::NoMore;
        // They keep their places.
        let wakers: Vec<Waker> = waiting.wakers.iter().map(|(_, waker)| waker.clone()).collect();
        drop(state);
        for waker in wakers {
            waker.wake();
        }
    }
}
