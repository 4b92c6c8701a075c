//! Tags within this process: one number per tag, so that invalidating one is O(1) whatever the number of entries.
//!
//! Every tag invalidation takes the next epoch. An entry remembers the epoch at which its load *began*; it is valid while
//! none of its tags was invalidated later than that. So a load that began before an invalidation yields an entry that is
//! dead on arrival, whether it named its tags before or after the load.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use larder_core::Tag;
use parking_lot::Mutex;

/// Below this number of tags none is forgotten.
const KEEP: usize = 4096;

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

/// The tags of one entry.
pub(crate) type TagCells = Arc<[Arc<TagCell>]>;

#[derive(Debug, Default)]
pub(crate) struct TagTable {
    epoch: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    cells: HashMap<Tag, Arc<TagCell>>,
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
        Some(tags.iter().map(|tag| known.cell(tag)).collect())
    }

    /// Invalidates every entry whose load began before now and that carries the tag.
    pub(crate) fn invalidate(&self, tag: &Tag) {
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        self.known.lock().cell(tag).invalidated.fetch_max(epoch, Ordering::SeqCst);
    }
}

/// Whether none of the tags was invalidated after the load began.
#[inline]
pub(crate) fn valid(cells: &TagCells, began: u64) -> bool {
    cells.iter().all(|cell| cell.invalidated.load(Ordering::Acquire) <= began)
}

impl Known {
    fn cell(&mut self, tag: &Tag) -> Arc<TagCell> {
        if let Some(cell) = self.cells.get(tag) {
            return Arc::clone(cell);
        }
        if self.cells.len() >= self.prune_at {
            self.prune();
        }
        let cell = Arc::new(TagCell { tag: tag.clone(), invalidated: AtomicU64::new(self.forgotten) });
        self.cells.insert(tag.clone(), Arc::clone(&cell));
        cell
    }

    /// Forgets the tags that no entry carries. A load that began before one of their invalidations must still not be
    /// stored, so the latest of them becomes the floor for all tags met anew.
    fn prune(&mut self) {
        let mut forgotten = self.forgotten;
        self.cells.retain(|_, cell| {
            let used = Arc::strong_count(cell) > 1;
            if !used {
                forgotten = forgotten.max(cell.invalidated.load(Ordering::SeqCst));
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
}
