//! What the near tier keeps under a key.

use std::{any::Any, fmt, sync::Arc};

use larder_core::Tick;

/// A value of any type, shared.
pub type AnyValue = Arc<dyn Any + Send + Sync>;

/// A value with its deadlines, and with whatever else the caller keeps beside it. A clone is what a hit gets, by
/// [`Beside::for_hit`], and is not to be kept in its place.
#[non_exhaustive]
pub struct NearEntry<M> {
    /// The value.
    pub value: AnyValue,
    /// Until then it is served without question.
    pub fresh_until: Tick,
    /// Until then it may be served while it is loaded anew; afterwards it is dead. The sweep goes by this.
    pub stale_until: Tick,
    /// From then on a hit starts a refresh in the background.
    pub refresh_at: Tick,
    /// The caller's own.
    pub meta: M,
    /// What it counts against the bound, once it is kept.
    pub(super) weight: u64,
}

/// What a caller keeps beside a value.
pub trait Beside: Send + Sync + 'static {
    /// What a hit gets of it: a few numbers at best. It runs with every hit, under a lock that hits share.
    #[must_use]
    fn for_hit(&self) -> Self;

    /// All of it.
    #[must_use]
    fn whole(&self) -> Self;
}

impl<M: Clone + Send + Sync + 'static> Beside for M {
    #[inline]
    fn for_hit(&self) -> Self {
        self.clone()
    }

    fn whole(&self) -> Self {
        self.clone()
    }
}

/// The library clones what a look-up finds, under the lock of its shard. Of what is beside the value a clone has no more than
/// a hit needs: it must not be kept in place of the entry.
impl<M: Beside> Clone for NearEntry<M> {
    #[inline]
    fn clone(&self) -> Self {
        self.with(self.meta.for_hit())
    }
}

impl<M: Beside> NearEntry<M> {
    pub(super) fn whole(&self) -> Self {
        self.with(self.meta.whole())
    }

    #[inline]
    fn with(&self, meta: M) -> Self {
        let Self { fresh_until, stale_until, refresh_at, weight, .. } = *self;
        Self { value: AnyValue::clone(&self.value), fresh_until, stale_until, refresh_at, meta, weight }
    }
}

impl<M> NearEntry<M> {
    /// An entry that is fresh for ever.
    #[must_use]
    pub fn new(value: AnyValue, meta: M) -> Self {
        Self {
            value,
            fresh_until: Tick::FOREVER,
            stale_until: Tick::FOREVER,
            refresh_at: Tick::FOREVER,
            meta,
            weight: 0,
        }
    }

    /// Until when it is fresh.
    #[must_use]
    pub fn with_fresh_until(mut self, tick: Tick) -> Self {
        self.fresh_until = tick;
        self
    }

    /// Until when it may be served stale.
    #[must_use]
    pub fn with_stale_until(mut self, tick: Tick) -> Self {
        self.stale_until = tick;
        self
    }

    /// From when on a hit starts a refresh.
    #[must_use]
    pub fn with_refresh_at(mut self, tick: Tick) -> Self {
        self.refresh_at = tick;
        self
    }
}

impl<M: fmt::Debug> fmt::Debug for NearEntry<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NearEntry")
            .field("fresh_until", &self.fresh_until)
            .field("stale_until", &self.stale_until)
            .field("refresh_at", &self.refresh_at)
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}
