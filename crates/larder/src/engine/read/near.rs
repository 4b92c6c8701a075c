//! A read of the near tier: synchronous, without allocation, without a lock that outlives it.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use larder_core::Tick;
use larder_memory::{AnyValue, Beside, NearEntry};
use triomphe::ThinArc;

use crate::{
    coherence::Coherence,
    outcome::{Outcome, Source},
    tags::{TagCell, TagCells, changes, valid},
};

/// What the near tier keeps beside a value. Small: a hit reads all of it, and its size decides how many entries the processor's
/// own caches hold. A hit gets it without the tags, whose owners it would have to count up and down, and which the processor's
/// caches do not all hold: with the word whether they hold, for which it seldom has to be looked at them.
#[derive(Debug)]
pub(crate) struct Meta {
    /// When the value was loaded, as far as this process knows.
    pub(crate) loaded_at: Tick,
    tags: Option<Tagged>,
    bus: Vouched,
    /// Where tags are: the number of changes at which they were last found to hold, 0 where that was never. Where there are
    /// none, or none any more: 0 if they do not hold.
    held: AtomicU32,
}

const _: () =
    assert!(size_of::<NearEntry<Meta>>() <= 72, "with a short key and its place in the tier's order two cache lines");

/// What stands for tags that hold, and for none.
const HOLDS: u32 = 1;

/// The tags of an entry, and where the tag epochs stood when its load began.
type Tagged = ThinArc<u64, Arc<TagCell>>;

/// The period of the bus in which an entry was kept, and in the lowest bit whether it may be served only while the bus is trusted.
/// Periods are compared as far as there is room: trust would have to be lost two thousand million times for two to look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Vouched(u32);

impl Vouched {
    pub(crate) fn new(period: u64, relies_on_bus: bool) -> Self {
        Self(Self::short(period) << 1 | u32::from(relies_on_bus))
    }

    #[expect(clippy::cast_possible_truncation, reason = "what there is room for")]
    #[inline]
    fn short(period: u64) -> u32 {
        period as u32 & (u32::MAX >> 1)
    }

    #[inline]
    pub(crate) fn is_of(self, period: u64) -> bool {
        self.0 >> 1 == Self::short(period)
    }

    #[inline]
    pub(crate) fn relies_on_bus(self) -> bool {
        self.0 & 1 == 1
    }
}

impl Meta {
    /// What is known of a value before it is kept.
    pub(crate) fn new(loaded_at: Tick, began: u64, tags: Option<TagCells>) -> Self {
        let tags = tags.map(|cells| Tagged::from_header_and_iter(began, cells.iter().cloned()));
        let held = AtomicU32::new(if tags.is_some() { 0 } else { HOLDS });
        Self { loaded_at, tags, bus: Vouched::default(), held }
    }

    pub(crate) fn vouched(mut self, bus: Vouched) -> Self {
        self.bus = bus;
        self
    }

    #[inline]
    pub(crate) fn bus(&self) -> Vouched {
        self.bus
    }

    /// The cells of its tags; not of what a hit got.
    pub(crate) fn tags(&self) -> Option<TagCells> {
        self.tags.as_ref().map(|tags| tags.slice.into())
    }

    /// Whether none of its tags was invalidated since its load began.
    #[inline]
    fn holds(&self) -> bool {
        let Some(tagged) = &self.tags else { return self.held.load(Ordering::Relaxed) != 0 };
        // Read first: it stands for no change that the cells do not show.
        let changes = changes();
        if changes == Some(self.held.load(Ordering::Acquire)) {
            return true;
        }
        let holds = valid(&tagged.slice, tagged.header.header);
        if let (true, Some(changes)) = (holds, changes) {
            self.held.store(changes, Ordering::Release);
        }
        holds
    }
}

impl Beside for Meta {
    #[inline]
    fn for_hit(&self) -> Self {
        let held = AtomicU32::new(if self.holds() { HOLDS } else { 0 });
        Self { loaded_at: self.loaded_at, tags: None, bus: self.bus, held }
    }

    fn whole(&self) -> Self {
        let held = AtomicU32::new(self.held.load(Ordering::Acquire));
        Self { loaded_at: self.loaded_at, tags: self.tags.clone(), bus: self.bus, held }
    }
}

/// What may be done with a near entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NearState {
    /// It is fresh.
    Fresh,
    /// It may be served and should be refreshed: stale, or due for an early refresh.
    Refresh,
    /// It is past its fresh-until, and its refresh must wait (the source failed a moment ago).
    Stale,
    /// Nothing: there is none, or it is dead.
    Miss,
}

/// What a read of the near tier found.
#[derive(Debug)]
pub(crate) struct NearRead {
    /// Dead ones too: what the state says of it comes first.
    pub(crate) entry: Option<NearEntry<Meta>>,
    pub(crate) state: NearState,
}

impl NearRead {
    pub(crate) const MISS: Self = Self { entry: None, state: NearState::Miss };

    pub(crate) fn of(entry: Option<NearEntry<Meta>>, now: Tick, coherence: &Coherence) -> Self {
        let state = NearState::of(entry.as_ref(), now, coherence);
        Self { entry, state }
    }

    /// The entry, if it may be served.
    pub(crate) fn as_living(&self) -> Option<&NearEntry<Meta>> {
        if self.state == NearState::Miss { None } else { self.entry.as_ref() }
    }

    /// The same, with what was read.
    pub(crate) fn living(self) -> Option<NearEntry<Meta>> {
        if self.state == NearState::Miss { None } else { self.entry }
    }
}

impl NearState {
    /// Judges an entry by the state of the bus, deadlines and tags.
    #[inline(always)]
    pub(crate) fn of(entry: Option<&NearEntry<Meta>>, now: Tick, coherence: &Coherence) -> Self {
        let Some(entry) = entry else { return Self::Miss };
        if !coherence.serves(&entry.meta, now) || !entry.meta.holds() {
            return Self::Miss;
        }
        match (now < entry.fresh_until, now < entry.refresh_at) {
            (true, true) => Self::Fresh,
            (false, _) if now >= entry.stale_until => Self::Miss,
            (false, true) => Self::Stale,
            (_, false) => Self::Refresh,
        }
    }
}

/// The answer that a near entry gives.
#[inline]
pub(crate) fn answer(entry: &NearEntry<Meta>, now: Tick) -> Outcome<AnyValue> {
    provenance(entry.fresh_until, entry.meta.loaded_at, now).map(|()| entry.value.clone())
}

/// What a near entry says of its value, without the value.
#[inline]
pub(crate) fn provenance(fresh_until: Tick, loaded_at: Tick, now: Tick) -> Outcome<()> {
    Outcome { value: (), source: Source::Near, age: now.since(loaded_at), stale: now >= fresh_until }
}
