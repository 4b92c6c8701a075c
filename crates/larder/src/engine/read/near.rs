//! A read of the near tier: synchronous, without allocation, without a lock that outlives it.

use larder_core::Tick;
use larder_memory::{AnyValue, NearEntry};

use crate::{
    coherence::Coherence,
    outcome::{Outcome, Source},
    tags::{TagCells, valid},
};

/// What the near tier keeps beside a value.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    /// When the value was loaded, as far as this process knows.
    pub(crate) loaded_at: Tick,
    /// Where the tag epochs stood when the load began.
    pub(crate) began: u64,
    pub(crate) tags: Option<TagCells>,
    /// The period of the bus in which it was kept.
    pub(crate) period: u64,
    /// Whether it may be served only while the bus is trusted.
    pub(crate) relies_on_bus: bool,
}

impl Meta {
    /// What is known of a value before it is kept.
    pub(crate) fn new(loaded_at: Tick, began: u64, tags: Option<TagCells>) -> Self {
        Self { loaded_at, began, tags, period: 0, relies_on_bus: false }
    }
}

/// What a read of the near tier found.
#[derive(Debug)]
pub(crate) enum NearRead {
    /// A fresh entry.
    Fresh(NearEntry<Meta>),
    /// One that may be served and should be refreshed: stale, or due for an early refresh.
    Refresh(NearEntry<Meta>),
    /// One past its fresh-until whose refresh must wait (the source failed a moment ago).
    Stale(NearEntry<Meta>),
    /// None, or one that is dead.
    Miss,
}

/// Judges an entry by the state of the bus, deadlines and tags.
#[inline(always)]
pub(crate) fn judge(entry: Option<NearEntry<Meta>>, now: Tick, coherence: &Coherence) -> NearRead {
    let Some(entry) = entry else { return NearRead::Miss };
    if !coherence.serves(&entry.meta, now) {
        return NearRead::Miss;
    }
    if let Some(tags) = &entry.meta.tags
        && !valid(tags, entry.meta.began)
    {
        return NearRead::Miss;
    }
    if now < entry.fresh_until {
        return if now < entry.refresh_at { NearRead::Fresh(entry) } else { NearRead::Refresh(entry) };
    }
    if now >= entry.stale_until {
        return NearRead::Miss;
    }
    if now < entry.refresh_at { NearRead::Stale(entry) } else { NearRead::Refresh(entry) }
}

/// The answer that a near entry gives.
#[inline]
pub(crate) fn answer(entry: &NearEntry<Meta>, now: Tick) -> Outcome<AnyValue> {
    provenance(entry, now).map(|()| entry.value.clone())
}

/// What a near entry says of its value. Without the value: a hit moves it out of the entry, which is cheaper than
/// counting one more owner.
#[inline]
pub(crate) fn provenance(entry: &NearEntry<Meta>, now: Tick) -> Outcome<()> {
    let age = now.since(entry.meta.loaded_at);
    Outcome { value: (), source: Source::Near, age, stale: now >= entry.fresh_until }
}
