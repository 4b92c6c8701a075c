//! Tags within this process: one number per tag, so that invalidating one is O(1) whatever the number of entries; and the
//! versions of their markers in the remote tier, as far as they are known.
//!
//! Every tag invalidation takes the next epoch. An entry remembers the epoch at which its load *began*; it is valid while
//! none of its tags was invalidated later than that, which needs no look at the tags as long as there was no invalidation
//! since the last one. So a load that began before an invalidation yields an entry that is
//! dead on arrival, whether it named its tags before or after the load.
//!
//! A version is kept only if neither its tag was invalidated nor the bus distrusted since *before* it was asked for
//! ([`Asked`]): a message on one socket may overtake the answer on another. Check and keeping are one step under the lock
//! that invalidating takes. What was kept holds for one period of trust; messages drop it and never set it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use hashbrown::HashMap;
use larder_core::{Tag, Tick};
use parking_lot::{Mutex, MutexGuard};

/// Below this number of tags none is forgotten.
const KEEP: usize = 4096;

/// A version that was read from the remote tier this long ago at most is not read again because an entry has another.
const CONFIRMED_FOR: Duration = Duration::from_secs(1);

/// How often the marker of a tag in use is prolonged.
const PROLONG_EVERY: Duration = Duration::from_secs(24 * 3600);

/// One tag, shared by the table and the entries that carry it.
#[derive(Debug)]
pub(crate) struct TagCell {
    tag: Tag,
    /// The epoch of the last invalidation.
    invalidated: AtomicU64,
}

impl TagCell {
    pub(crate) fn tag(&self) -> &Tag {
        &self.tag
    }
}

/// Tag invalidations of all caches of this process, plus one. It stays at its largest value, which says nothing any more.
static CHANGES: AtomicU32 = AtomicU32::new(1);

/// A number that changes with every invalidation of a tag, after its cell has changed: as long as it is the same, cells need
/// not be looked at again. Never 0. `None`: there were too many.
#[inline]
pub(crate) fn changes() -> Option<u32> {
    let changes = CHANGES.load(Ordering::Acquire);
    (changes != u32::MAX).then_some(changes)
}

fn changed() {
    let _stays = CHANGES.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |changes| changes.checked_add(1));
}

/// The tags of one entry.
pub(crate) type TagCells = Arc<[Arc<TagCell>]>;

#[derive(Debug, Default)]
pub(crate) struct TagTable {
    epoch: AtomicU64,
    known: Mutex<Known>,
}

/// When versions were asked for: what was invalidated or distrusted since is not kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    epoch: u64,
    /// The period of trust, `None` without trust.
    period: Option<u64>,
    at: Tick,
}

impl Asked {
    pub(crate) fn at(&self) -> Tick {
        self.at
    }

    pub(crate) fn period(&self) -> Option<u64> {
        self.period
    }
}

/// What is known of a marker's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) value: u64,
    /// It was read a moment ago: another value in an entry is reason enough to call that dead.
    pub(crate) is_confirmed: bool,
}

#[derive(Debug)]
struct Slot {
    cell: Arc<TagCell>,
    kept: Option<Kept>,
    prolonged_at: Option<Tick>,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    version: u64,
    period: u64,
    read_at: Tick,
}

#[derive(Debug)]
struct Known {
    cells: HashMap<Tag, Slot>,
    /// No forgotten tag was invalidated later than this; a tag that is met anew starts here.
    forgotten: u64,
    prune_at: usize,
}

impl Default for Known {
    fn default() -> Self {
        Self { cells: HashMap::new(), forgotten: 0, prune_at: KEEP }
    }
}

impl TagTable {
    /// Where the epochs stand; taken before the source is asked.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// The cells of an entry's tags, `None` if it has none.
    pub(crate) fn cells(&self, tags: &[Tag]) -> Option<TagCells> {
        if tags.is_empty() {
            return None;
        }
        let mut known = self.known.lock();
        Some(tags.iter().map(|tag| Arc::clone(&known.slot(tag).cell)).collect())
    }

    /// Taken before versions are asked for. `period` is the present period of trust.
    pub(crate) fn asked(&self, period: Option<u64>, at: Tick) -> Asked {
        Asked { epoch: self.epoch(), period, at }
    }

    /// Keeps what the remote tier answered: a version, or that there is no marker.
    pub(crate) fn learn(&self, tag: &Tag, version: Option<u64>, asked: Asked) {
        let Some(period) = asked.period else { return };
        let mut known = self.known.lock();
        let slot = known.slot(tag);
        if slot.cell.invalidated.load(Ordering::SeqCst) <= asked.epoch {
            slot.kept = version.map(|version| Kept { version, period, read_at: asked.at });
        }
    }

    /// The versions that are known in this period of trust; the table is locked as long as this is held.
    pub(crate) fn known(&self, asked: Asked) -> KnownVersions<'_> {
        KnownVersions { known: asked.period.map(|period| (self.known.lock(), period)), at: asked.at }
    }

    /// Those whose markers this process has not prolonged for a day; they count as prolonged then.
    pub(crate) fn due_for_prolonging<'t>(&self, tags: impl Iterator<Item = &'t Tag>, now: Tick) -> Vec<Tag> {
        let mut known = self.known.lock();
        let mut due = |tag: &&Tag| {
            let slot = known.slot(tag);
            let due = slot.prolonged_at.is_none_or(|at| now.since(at) >= PROLONG_EVERY);
            if due {
                slot.prolonged_at = Some(now);
            }
            due
        };
        tags.filter(|tag| due(tag)).cloned().collect()
    }

    /// Up to `most` tags whose versions are known, those first that were read longest ago.
    pub(crate) fn oldest(&self, most: usize, period: u64) -> Vec<(Tag, u64)> {
        let known = self.known.lock();
        let kept =
            known.cells.iter().filter_map(|(tag, slot)| Some((tag, slot.kept.filter(|kept| kept.period == period)?)));
        let mut kept: Vec<_> = kept.collect();
        kept.sort_unstable_by_key(|(_, kept)| kept.read_at);
        kept.into_iter().take(most).map(|(tag, kept)| (tag.clone(), kept.version)).collect()
    }

    /// Invalidates every entry whose load began before now and that carries the tag, and forgets the marker's version.
    pub(crate) fn invalidate(&self, tag: &Tag) {
        let mut known = self.known.lock();
        // Nobody else writes it: that takes the lock.
        let epoch = self.epoch() + 1;
        let slot = known.slot(tag);
        slot.cell.invalidated.store(epoch, Ordering::SeqCst);
        slot.kept = None;
        changed();
        // Last: whoever begins at this epoch sees that the tag was invalidated, and whoever begins before it is fenced.
        self.epoch.store(epoch, Ordering::SeqCst);
    }
}

/// What is known of versions, under one lock for all that are looked up.
pub(crate) struct KnownVersions<'t> {
    known: Option<(MutexGuard<'t, Known>, u64)>,
    at: Tick,
}

impl KnownVersions<'_> {
    pub(crate) fn of(&self, tag: &Tag) -> Option<Version> {
        let (known, period) = self.known.as_ref()?;
        let kept = known.cells.get(tag)?.kept.filter(|kept| kept.period == *period)?;
        Some(Version { value: kept.version, is_confirmed: self.at.since(kept.read_at) < CONFIRMED_FOR })
    }
}

/// Whether none of the tags was invalidated after the load began.
#[inline]
pub(crate) fn valid(cells: &[Arc<TagCell>], began: u64) -> bool {
    cells.iter().all(|cell| cell.invalidated.load(Ordering::Acquire) <= began)
}

impl Known {
    fn slot(&mut self, tag: &Tag) -> &mut Slot {
        if self.cells.len() >= self.prune_at && !self.cells.contains_key(tag) {
            self.prune();
        }
        let forgotten = self.forgotten;
        self.cells.entry(tag.clone()).or_insert_with(|| {
            let cell = Arc::new(TagCell { tag: tag.clone(), invalidated: AtomicU64::new(forgotten) });
            Slot { cell, kept: None, prolonged_at: None }
        })
    }

    /// Forgets the tags that no entry carries. A load that began before one of their invalidations must still not be
    /// stored, so the latest of them becomes the floor for all tags met anew.
    fn prune(&mut self) {
        let mut forgotten = self.forgotten;
        self.cells.retain(|_, slot| {
            let used = Arc::strong_count(&slot.cell) > 1;
            if !used {
                forgotten = forgotten.max(slot.cell.invalidated.load(Ordering::SeqCst));
            }
            used
        });
        self.forgotten = forgotten;
        self.prune_at = (self.cells.len() * 2).max(KEEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalidation_kills_what_began_before_it_and_nothing_later() {
        let table = TagTable::default();
        let before = table.epoch();
        let cells = table.cells(&[Tag::from("a"), Tag::from("b")]).unwrap();
        assert!(valid(&cells, before));
        table.invalidate(&Tag::from("b"));
        assert!(!valid(&cells, before));
        assert!(valid(&cells, table.epoch()));
        table.invalidate(&Tag::from("c"));
        assert!(valid(&cells, table.epoch() - 1));
    }

    #[test]
    fn a_tag_named_only_after_the_load_is_still_fenced_even_if_it_was_forgotten() {
        let table = TagTable::default();
        let began = table.epoch();
        table.invalidate(&Tag::from("late"));
        for number in 0..2 * KEEP {
            drop(table.cells(&[Tag::new(&number)]));
        }
        assert!(table.known.lock().cells.len() <= 2 * KEEP);
        let cells = table.cells(&[Tag::from("late")]).unwrap();
        assert!(!valid(&cells, began));
    }

    #[test]
    fn tags_that_no_entry_carries_take_no_room() {
        let table = TagTable::default();
        let kept = table.cells(&[Tag::from("kept")]);
        for number in 0..100 * KEEP {
            drop(table.cells(&[Tag::new(&number)]));
        }
        let known = table.known.lock();
        assert!(known.cells.len() <= KEEP + 1);
        assert!(known.cells.contains_key(&Tag::from("kept")));
        drop(kept);
    }

    fn asked(table: &TagTable, seconds: u64) -> Asked {
        table.asked(Some(1), Tick::ZERO + Duration::from_secs(seconds))
    }

    fn version(table: &TagTable, tag: &Tag, asked: Asked) -> Option<Version> {
        table.known(asked).of(tag)
    }

    #[test]
    fn a_version_that_an_invalidation_overtook_is_not_kept() {
        let (table, tag) = (TagTable::default(), Tag::from("a"));
        let before = asked(&table, 0);
        table.invalidate(&tag);
        table.learn(&tag, Some(7), before);
        assert_eq!(version(&table, &tag, before), None);
        table.learn(&tag, Some(8), asked(&table, 0));
        assert_eq!(version(&table, &tag, before).map(|version| version.value), Some(8));
        table.invalidate(&tag);
        assert_eq!(version(&table, &tag, before), None);
    }

    #[test]
    fn a_version_holds_for_one_period_of_trust_and_counts_as_confirmed_for_a_second() {
        let (table, tag) = (TagTable::default(), Tag::from("a"));
        table.learn(&tag, Some(7), table.asked(None, Tick::ZERO));
        assert_eq!(version(&table, &tag, asked(&table, 0)), None);
        table.learn(&tag, Some(7), asked(&table, 0));
        assert_eq!(version(&table, &tag, asked(&table, 0)), Some(Version { value: 7, is_confirmed: true }));
        assert_eq!(version(&table, &tag, asked(&table, 1)), Some(Version { value: 7, is_confirmed: false }));
        assert_eq!(version(&table, &tag, table.asked(Some(2), Tick::ZERO)), None);
        assert_eq!(version(&table, &tag, table.asked(None, Tick::ZERO)), None);
    }
}
