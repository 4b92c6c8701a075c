//! Calls to the primary: within the deadline, with a verdict for the breaker, and with a memory of what was left undone.

use std::{
    borrow::Cow,
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::BoxFuture;
use larder_core::{Backend, Each, Error, ErrorKind, Key, Result, Tick};

use crate::{
    Ticket,
    local::away,
    shared::Shared,
    stats::{add, count},
    terms::{Item, Place, Remember, Terms, is_absence},
};

/// From so long a limit on the steps of the coarse clock, 4 ms, do not matter.
const COARSE: Duration = Duration::from_millis(32);

/// So many callers in a row that went away without an answer are no chance.
const NOBODY: u32 = 19;

/// What came of a call to the primary.
#[derive(Debug)]
pub(crate) enum Attempt<T> {
    /// It answered; an error is one that no other backend would answer otherwise.
    Answer(Result<T>),
    /// It was not asked, or failed with this error.
    Away {
        error: Option<Error>,
        /// Whether the removal was to be remembered and there was no room.
        lost: bool,
    },
}

/// What came of a call about many keys.
#[derive(Debug)]
pub(crate) enum Attempts<T> {
    /// The primary answered for all of them, as it nearly always does: nothing else has to be looked at.
    Answered(Each<T>),
    /// Each on its own.
    Mixed(Vec<Attempt<T>>),
}

/// A key beside another that nobody has, since no canonical key has a `%` before such a letter: its removal changes nothing,
/// and shows whether the primary takes any. Beside the other one, so that the same rights are enough.
fn witness(key: &Key) -> Key {
    Key::from_canonical(format!("{}%writable", key.as_str()))
}

/// A call to the primary, as the breaker and the journal see it.
#[derive(Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) ticket: Ticket,
    pub(crate) operation: &'static str,
    /// Keys whose removal is remembered if the call is given up.
    pub(crate) remember: &'a [Key],
    pub(crate) limit: Duration,
    /// Whether the time that it takes says something about the backend: not where it grows with what one caller asked for.
    pub(crate) is_timed: bool,
    /// It counts as so many calls as it has room for.
    pub(crate) place: Place<'a>,
}

/// A call whose answer is awaited. Dropped before that, what it did is unknown.
struct InFlight<'a> {
    shared: &'a Arc<Shared>,
    asking: Asking<'a>,
    began: Tick,
    answered: bool,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        for key in self.asking.remember {
            self.shared.remember(key);
        }
        // A caller that goes away says nothing about the backend, unless it had waited about as long as we would have, or
        // for a while as many others before it, of whom nobody got an answer.
        let (waited, deadline) = (self.shared.timer.now_precise().since(self.began), self.shared.settings.deadline);
        let nobody = || self.shared.given_up.fetch_add(1, Ordering::Relaxed) >= NOBODY;
        if waited >= deadline.mul_f64(0.8) || waited >= deadline / 8 && nobody() {
            let error = Error::new(ErrorKind::Timeout, self.asking.operation, "the caller gave up near the deadline");
            self.shared.failed(self.asking.ticket, &error, self.asking.place.callers());
        }
    }
}

impl Shared {
    /// Waits for the primary until the limit, and tells the breaker; a limit below the deadline that has passed is a caller
    /// that went away. `fault` finds the error that speaks of the backend's health in an answer, and how many callers met it.
    /// When the future is dropped, the keys to remember are.
    pub(crate) async fn guarded<T>(
        self: &Arc<Self>,
        asking: Asking<'_>,
        call: impl Future<Output = T>,
        fault: impl FnOnce(&T) -> Option<(Error, u32)>,
    ) -> Result<T> {
        let Asking { ticket, operation, limit, is_timed, ref place, .. } = asking;
        let callers = place.callers();
        if callers == 0 {
            count(&self.counters.overloaded);
            let message = format!("{} calls are under way already (`max_calls`)", self.settings.max_calls);
            return Err(Error::new(ErrorKind::Overloaded, operation, message));
        }
        add(&self.counters.calls, callers.into());
        let began = self.began();
        let mut flight = InFlight { shared: self, asking, began, answered: false };
        let Some(answer) = self.timer.within_since(began, limit, call).await else {
            let error = self.late(operation, limit);
            // A caller with less patience than that is one that goes away.
            if limit >= self.settings.deadline {
                flight.answered = true;
                self.failed(ticket, &error, callers);
            }
            return Err(error);
        };
        flight.answered = true;
        if self.given_up.load(Ordering::Relaxed) > 0 {
            self.given_up.store(0, Ordering::Relaxed);
        }
        let (error, failed) = fault(&answer).unzip();
        let failed = failed.unwrap_or(0).min(callers);
        if failed < callers {
            self.succeeded(ticket, operation, is_timed.then_some(began), callers - failed);
        }
        if let Some(error) = error {
            self.failed(ticket, &error, failed);
        }
        Ok(answer)
    }

    /// When a call begins: by the coarse clock, at a quarter of the price, where that tells a slow call from a good one.
    fn began(&self) -> Tick {
        if self.settings.slow_call >= COARSE { self.timer.now() } else { self.timer.now_precise() }
    }

    /// Waits for the primary no longer than this.
    pub(crate) async fn timely<T>(
        &self,
        operation: &'static str,
        limit: Duration,
        call: impl Future<Output = T>,
    ) -> Result<T> {
        self.timer.within(limit, call).await.ok_or_else(|| self.late(operation, limit))
    }

    fn late(&self, operation: &'static str, limit: Duration) -> Error {
        let message = format!("no answer from {} within {limit:?}", self.primary.name());
        Error::new(ErrorKind::Timeout, operation, message)
    }

    /// Asks the primary about many keys, each on its own: one that fails does not take the others with it. A call in which
    /// no key was answered is a fault.
    pub(crate) async fn each<I: Item, T: Send>(
        self: &Arc<Self>,
        operation: &'static str,
        items: &[I],
        terms: impl Into<Terms<'_>> + Send,
        call: impl for<'c> FnOnce(&'c dyn Backend, &'c [I]) -> BoxFuture<'c, Each<T>> + Send,
    ) -> Attempts<T> {
        let terms: Terms<'_> = terms.into();
        let remember = terms.remember;
        let route = self.route(items.iter().map(Item::key));
        if let (Some(ticket), true) = (route.ticket, route.away.is_empty() && !items.is_empty()) {
            let answers = self.ask(ticket, operation, items, terms, call).await;
            let is_absent = |answer: &Result<T>| answer.as_ref().is_err_and(is_absence);
            if answers.len() == items.len() && !answers.iter().any(is_absent) {
                return Attempts::Answered(answers);
            }
            let mut answers = answers.into_iter();
            let judged = items.iter().map(|item| {
                let remember = item.remembered(remember);
                self.judge(item.key(), remember, answers.next().unwrap_or_else(|| Err(unanswered(operation))))
            });
            return self.remembered(remember, judged.collect()).await;
        }
        let away: Vec<bool> = (0..items.len()).map(|index| route.is_away(index)).collect();
        let asked: Cow<'_, [I]> = if away.contains(&true) {
            let here = items.iter().zip(&away).filter(|(_, away)| !**away);
            Cow::Owned(here.map(|(item, _)| item.clone()).collect())
        } else {
            Cow::Borrowed(items)
        };
        let mut answers = match route.ticket {
            Some(ticket) if !asked.is_empty() => self.ask(ticket, operation, &asked, terms, call).await,
            _ => Vec::new(),
        }
        .into_iter();
        let mut attempts = Vec::with_capacity(items.len());
        for (item, away) in items.iter().zip(away) {
            let remember = item.remembered(remember);
            attempts.push(if away {
                let lost = remember == Remember::Always && !self.remember(item.key());
                Attempt::Away { error: None, lost }
            } else {
                self.judge(item.key(), remember, answers.next().unwrap_or_else(|| Err(unanswered(operation))))
            });
        }
        self.remembered(remember, attempts).await
    }

    async fn remembered<T: Send>(&self, remember: Remember, attempts: Vec<Attempt<T>>) -> Attempts<T> {
        if remember != Remember::Never && attempts.iter().any(|attempt| matches!(attempt, Attempt::Away { .. })) {
            self.saved().await;
        }
        Attempts::Mixed(attempts)
    }

    async fn ask<I: Item, T: Send>(
        self: &Arc<Self>,
        ticket: Ticket,
        operation: &'static str,
        items: &[I],
        Terms { remember, limit, shared }: Terms<'_>,
        call: impl for<'c> FnOnce(&'c dyn Backend, &'c [I]) -> BoxFuture<'c, Each<T>> + Send,
    ) -> Each<T> {
        let keys: Vec<Key> = match remember {
            Remember::Never => Vec::new(),
            _ => items.iter().map(|item| item.key().clone()).collect(),
        };
        let limit = self.settings.deadline.saturating_mul(I::deadlines(items.len())).min(limit);
        let (is_shared, is_timed) = (shared.is_some(), shared.is_some() || items.len() == 1);
        let place = shared.unwrap_or_else(|| self.enter(1));
        let asking = Asking { ticket, operation, remember: &keys, limit, is_timed, place };
        let answer = self.guarded(asking, call(&*self.primary, items), |answers: &Each<T>| {
            let errors = answers.iter().filter_map(|answer| answer.as_ref().err());
            let mut faults = errors.filter(|error| error.kind().is_backend_fault());
            let first = faults.next()?;
            let failed = 1 + faults.count();
            match u32::try_from(failed) {
                Ok(failed) if is_shared => Some((first.clone(), failed)),
                _ => (failed == items.len()).then(|| (first.clone(), 1)),
            }
        });
        match answer.await {
            Ok(answers) => answers,
            Err(error) => items.iter().map(|item| Err(error.clone().with_key(item.key()))).collect(),
        }
    }

    fn judge<T>(self: &Arc<Self>, key: &Key, remember: Remember, answer: Result<T>) -> Attempt<T> {
        match answer {
            Err(error) if is_absence(&error) => {
                let remembers = remember.after(&error);
                let lost = remembers && !self.remember(key);
                if error.kind() == ErrorKind::ReadOnly && !remembers {
                    // A server that takes no writes answers a PING. It is asked again once it takes a removal.
                    self.remember(&witness(key));
                }
                Attempt::Away { error: Some(error), lost }
            }
            answer => Attempt::Answer(answer),
        }
    }

    /// Asks the primary about one key.
    pub(crate) async fn one<T>(
        self: &Arc<Self>,
        operation: &'static str,
        key: &Key,
        remember: Remember,
        call: impl Future<Output = Result<T>>,
    ) -> Attempt<T> {
        let route = self.route(std::iter::once(key));
        let attempt = match route.ticket.filter(|_| !route.is_away(0)) {
            Some(ticket) => {
                let keys = if remember == Remember::Never { &[][..] } else { std::slice::from_ref(key) };
                let limit = self.settings.deadline;
                let asking = Asking { ticket, operation, remember: keys, limit, is_timed: true, place: self.enter(1) };
                let answer = self.guarded(asking, call, fault_of_one).await;
                self.judge(key, remember, answer.unwrap_or_else(|error| Err(error.with_key(key))))
            }
            None => {
                let lost = remember == Remember::Always && !self.remember(key);
                Attempt::Away { error: None, lost }
            }
        };
        if remember != Remember::Never && matches!(attempt, Attempt::Away { .. }) {
            self.saved().await;
        }
        attempt
    }

    /// Asks the primary about itself; an error at once while it is away.
    pub(crate) async fn about<T>(
        self: &Arc<Self>,
        operation: &'static str,
        is_timed: bool,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let Some(ticket) = self.route(std::iter::empty()).ticket else { return Err(away(operation)) };
        let limit = self.settings.deadline;
        let asking = Asking { ticket, operation, remember: &[], limit, is_timed, place: self.enter(1) };
        self.guarded(asking, call, fault_of_one).await?
    }
}

pub(crate) fn fault_of<T>(answer: &Result<T>) -> Option<Error> {
    answer.as_ref().err().filter(|error| error.kind().is_backend_fault()).cloned()
}

/// The same of a call that one caller waits for.
fn fault_of_one<T>(answer: &Result<T>) -> Option<(Error, u32)> {
    fault_of(answer).map(|error| (error, 1))
}

fn unanswered(operation: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, operation, "the primary answered for fewer keys than it was asked for")
}
