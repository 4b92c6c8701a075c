//! A read of the near tier: synchronous, without allocation, without a lock that outlives it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use larder_core::Tick;
use larder_memory::{AnyValue, NearEntry};
use triomphe::ThinArc;

use crate::{
    coherence::Coherence,
    outcome::{Outcome, Source},
    tags::{TagCell, TagCells, TagTable, valid},
};

/// What the near tier keeps beside a value. Small: a hit reads all of it, and its size decides how many entries the processor's
/// own caches hold.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    /// When the value was loaded, as far as this process knows.
    pub(crate) loaded_at: Tick,
    tags: Option<Tagged>,
    bus: Vouched,
}

const _: () = assert!(size_of::<NearEntry<Meta>>() <= 64, "a line of the processor's cache");

/// The tags of an entry, and what is known of them.
type Tagged = ThinArc<TagsSeen, Arc<TagCell>>;

#[derive(Debug)]
struct TagsSeen {
    /// Where the tag epochs stood when the entry's load began.
    began: u64,
    /// Where they stood when the tags were last looked at, and held. As long as they stand there, nothing has to be looked at
    /// again: the tags of many entries do not all stay in the processor's cache.
    held_at: AtomicU64,
}

/// The period of the bus in which an entry was kept, and in the lowest bit whether it may be served only while the bus is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Vouched(u64);

impl Vouched {
    pub(crate) fn new(period: u64, relies_on_bus: bool) -> Self {
        Self(period << 1 | u64::from(relies_on_bus))
    }

    #[inline]
    pub(crate) fn period(self) -> u64 {
        self.0 >> 1
    }

    #[inline]
    pub(crate) fn relies_on_bus(self) -> bool {
        self.0 & 1 == 1
    }
}

impl Meta {
    /// What is known of a value before it is kept.
    pub(crate) fn new(loaded_at: Tick, began: u64, tags: Option<TagCells>) -> Self {
        let seen = |began| TagsSeen { began, held_at: AtomicU64::new(began) };
        let tags = tags.map(|cells| Tagged::from_header_and_iter(seen(began), cells.iter().cloned()));
        Self { loaded_at, tags, bus: Vouched::default() }
    }

    pub(crate) fn vouched(mut self, bus: Vouched) -> Self {
        self.bus = bus;
        self
    }

    #[inline]
    pub(crate) fn bus(&self) -> Vouched {
        self.bus
    }

    /// The cells of its tags.
    pub(crate) fn tags(&self) -> Option<TagCells> {
        self.tags.as_ref().map(|tags| tags.slice.into())
    }

    /// Whether none of its tags was invalidated since its load began.
    #[inline]
    fn is_valid(&self, tags: &TagTable) -> bool {
        self.tags.as_ref().is_none_or(|tagged| {
            let (epoch, seen) = (tags.epoch(), &tagged.header.header);
            // The epoch is read first: it stands for no invalidation that is not seen in the tags.
            seen.held_at.load(Ordering::Acquire) == epoch || {
                let holds = valid(&tagged.slice, seen.began);
                if holds {
                    seen.held_at.store(epoch, Ordering::Release);
                }
                holds
            }
        })
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
pub(crate) fn judge(entry: Option<NearEntry<Meta>>, now: Tick, coherence: &Coherence, tags: &TagTable) -> NearRead {
    let Some(entry) = entry else { return NearRead::Miss };
    if !coherence.serves(&entry.meta, now) {
        return NearRead::Miss;
    }
    if !entry.meta.is_valid(tags) {
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
