//! How calls to the primary are made: what is remembered of them, how long they may take, for how many callers they are.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use larder_core::{Condition, Error, ErrorKind, Key, SetItem};

use crate::shared::Shared;

/// Values of a batch of writes for which it has its deadline once more, and how often at most: how long it takes depends on its
/// size, and its caller knows that.
const WRITTEN_PER_DEADLINE: usize = 64;
const MOST_DEADLINES: u32 = 20;

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
    pub(crate) fn after(self, error: &Error) -> bool {
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

/// How a call about many keys is made.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) remember: Remember,
    /// For how long it is waited at most, where the deadline is not less.
    pub(crate) limit: Duration,
    /// Where each key has a caller of its own: room for all of them.
    pub(crate) shared: Option<Place<'a>>,
}

impl From<Remember> for Terms<'_> {
    fn from(remember: Remember) -> Self {
        Self { remember, limit: Duration::MAX, shared: None }
    }
}

/// Room for callers among the calls that may be under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    in_flight: &'a AtomicUsize,
    callers: u32,
}

impl Place<'_> {
    /// For how many callers there was room.
    pub(crate) fn callers(&self) -> u32 {
        self.callers
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(self.callers as usize, Ordering::Relaxed);
    }
}

impl Shared {
    /// Takes room for so many callers, or for as many as there is room for.
    pub(crate) fn enter(&self, callers: u32) -> Place<'_> {
        let most = self.settings.max_calls;
        let room =
            |under_way: usize| u32::try_from(most.saturating_sub(under_way)).map_or(callers, |room| room.min(callers));
        let entered = self
            .in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |under_way| Some(under_way + room(under_way) as usize));
        Place { in_flight: &self.in_flight, callers: entered.map_or(0, room) }
    }
}
