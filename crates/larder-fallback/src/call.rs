//! Calls to the primary: within the deadline, with a verdict for the breaker, and with a memory of what was left undone.

use std::{
    borrow::Cow,
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::BoxFuture;
use larder_core::{Backend, Condition, Each, Error, ErrorKind, Key, Result, SetItem, Tick};

use crate::{Ticket, local::away, shared::Shared, stats::add};

/// From so long a limit on the steps of the coarse clock, 4 ms, do not matter.
const COARSE: Duration = Duration::from_millis(32);

/// Values of a batch of writes for which it has its deadline once more, and how often at most: how long it takes depends on its
/// size, and its caller knows that.
const WRITTEN_PER_DEADLINE: usize = 64;
const MOST_DEADLINES: u32 = 20;

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

/// When the removal of a key is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remember {
    /// Never: it is only read, or to remove it would do harm.
    Never,
    /// When the primary may have done it and did not say so.
    WhenUnknown,
    /// When the primary was asked and did not do it, or may not have.
    WhenAsked,
    /// Whenever the primary did not do it.
    Always,
}

impl Remember {
    /// Whether a call that failed like this leaves something to remove.
    fn after(self, error: &Error) -> bool {
        match self {
            Self::Never => false,
            Self::WhenUnknown => !was_refused(error),
            Self::WhenAsked | Self::Always => true,
        }
    }
}

/// What stands under a key.
pub(crate) trait Item: Clone + Send + Sync {
    fn key(&self) -> &Key;

    /// How many deadlines a batch of so many has.
    fn deadlines(_items: usize) -> u32 {
        1
    }

    /// When the removal of its key is remembered, where `batch` is what holds for most.
    fn remembered(&self, batch: Remember) -> Remember {
        batch
    }
}

impl Item for Key {
    fn key(&self) -> &Key {
        self
    }
}

impl Item for SetItem {
    fn key(&self) -> &Key {
        &self.key
    }

    fn deadlines(items: usize) -> u32 {
        u32::try_from(items / WRITTEN_PER_DEADLINE).unwrap_or(u32::MAX).saturating_add(1).min(MOST_DEADLINES)
    }

    /// What was to be written only where nothing stands leaves what stands there as it should be, unless it was written.
    fn remembered(&self, batch: Remember) -> Remember {
        if self.options.condition == Condition::IfAbsent { Remember::WhenUnknown } else { batch }
    }
}

/// Whether an error says that the backend, not the request, is at fault.
pub(crate) fn is_absence(error: &Error) -> bool {
    error.is_transient() || error.kind().is_backend_fault()
}

/// Whether an error says that the backend did nothing of what it was asked for.
fn was_refused(error: &Error) -> bool {
    use ErrorKind::{Auth, Loading, OutOfMemory, Overloaded, PrimaryDown, ReadOnly};
    matches!(error.kind(), Auth | Loading | OutOfMemory | Overloaded | PrimaryDown | ReadOnly)
}

/// A key beside another that nobody has, since no canonical key has a `%` before such a letter: its removal changes nothing,
/// and shows whether the primary takes any. Beside the other one, so that the same rights are enough.
fn witness(key: &Key) -> Key {
    Key::from_canonical(format!("{}%writable", key.as_str()))
}

/// A call to the primary, as the breaker and the journal see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) ticket: Ticket,
    pub(crate) operation: &'static str,
    /// Keys whose removal is remembered if the call is given up.
    pub(crate) remember: &'a [Key],
    pub(crate) limit: Duration,
    /// Whether the time that it takes says something about the backend: not where it grows with what was asked for.
    pub(crate) is_timed: bool,
    /// How many callers wait for it: it counts as so many calls.
    pub(crate) callers: u32,
}

/// How a call about many keys is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) remember: Remember,
    /// For how long it is waited at most, where the deadline is not less.
    pub(crate) limit: Duration,
    /// Whether each key has a caller of its own.
    pub(crate) is_shared: bool,
}

impl From<Remember> for Terms {
    fn from(remember: Remember) -> Self {
        Self { remember, limit: Duration::MAX, is_shared: false }
    }
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
        self.shared.leave(self.asking.callers);
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
            self.shared.failed(self.asking.ticket, &error, self.asking.callers);
        }
    }
}

impl Shared {
    /// Waits for the primary until the limit, and tells the breaker; a limit below the deadline that has passed is a caller
    /// that went away. `fault` finds the error that speaks of the backend's health in an answer. When the future is dropped,
    /// the keys to remember are.
    pub(crate) async fn guarded<T>(
        self: &Arc<Self>,
        asking: Asking<'_>,
        call: impl Future<Output = T>,
        fault: impl FnOnce(&T) -> Option<Error>,
    ) -> Result<T> {
        let Asking { ticket, operation, limit, is_timed, callers, .. } = asking;
        let others = self.in_flight.fetch_add(callers as usize, Ordering::Relaxed);
        if others + callers as usize > self.settings.max_calls {
            self.leave(callers);
            return Err(self.overloaded(operation, callers));
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
        match fault(&answer) {
            Some(error) => self.failed(ticket, &error, callers),
            None => self.succeeded(ticket, operation, is_timed.then_some(began), callers),
        }
        Ok(answer)
    }

    /// Calls have ended.
    fn leave(&self, callers: u32) {
        self.in_flight.fetch_sub(callers as usize, Ordering::Relaxed);
    }

    /// How many more calls may be under way.
    pub(crate) fn room(&self) -> usize {
        self.settings.max_calls.saturating_sub(self.in_flight.load(Ordering::Relaxed))
    }

    /// What calls get that found no room; counts them.
    pub(crate) fn overloaded(&self, operation: &'static str, calls: u32) -> Error {
        add(&self.counters.overloaded, calls.into());
        let message = format!("{} calls are under way already (`max_calls`)", self.settings.max_calls);
        Error::new(ErrorKind::Overloaded, operation, message)
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
        terms: impl Into<Terms> + Send,
        call: impl for<'c> FnOnce(&'c dyn Backend, &'c [I]) -> BoxFuture<'c, Each<T>> + Send,
    ) -> Attempts<T> {
        let terms: Terms = terms.into();
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
        Terms { remember, limit, is_shared }: Terms,
        call: impl for<'c> FnOnce(&'c dyn Backend, &'c [I]) -> BoxFuture<'c, Each<T>> + Send,
    ) -> Each<T> {
        let keys: Vec<Key> = match remember {
            Remember::Never => Vec::new(),
            _ => items.iter().map(|item| item.key().clone()).collect(),
        };
        let limit = self.settings.deadline.saturating_mul(I::deadlines(items.len())).min(limit);
        let is_timed = is_shared || items.len() == 1;
        let callers = if is_shared { u32::try_from(items.len()).unwrap_or(u32::MAX) } else { 1 };
        let asking = Asking { ticket, operation, remember: &keys, limit, is_timed, callers };
        let answer = self.guarded(asking, call(&*self.primary, items), |answers: &Each<T>| {
            let faults = || answers.iter().filter_map(|answer| answer.as_ref().err());
            let all = faults().filter(|error| error.kind().is_backend_fault()).count() == items.len();
            faults().next().filter(|_| all).cloned()
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
                let asking = Asking { ticket, operation, remember: keys, limit, is_timed: true, callers: 1 };
                let answer = self.guarded(asking, call, fault_of).await;
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
        let asking = Asking { ticket, operation, remember: &[], limit, is_timed, callers: 1 };
        self.guarded(asking, call, fault_of).await?
    }
}

pub(crate) fn fault_of<T>(answer: &Result<T>) -> Option<Error> {
    answer.as_ref().err().filter(|error| error.kind().is_backend_fault()).cloned()
}

fn unanswered(operation: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, operation, "the primary answered for fewer keys than it was asked for")
}
