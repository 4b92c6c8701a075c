//! Removals that the primary has not confirmed.
//!
//! The same key is kept once, however often it was removed. An item carries the number of its last removal, so that a replay
//! settles only what it has sent: a key that was removed again meanwhile stays. Markers of tags, regions and of the
//! generation are keys like any other.
//!
//! Removals that find no room are covered by that of the generation, where there is one: then the journal is *overflown*, and
//! holds every key until the generation has been removed. What it had before stays in it, since not every key is an entry
//! that the generation covers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use larder_core::Key;

use crate::journal_file::JournalFile;

/// What an item takes up beside the text of its key: two places in tables, a shared pointer, their slack.
const OVERHEAD: usize = 160;

/// How much a journal may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) keys: usize,
    pub(crate) bytes: usize,
}

/// A bounded set of keys to be removed.
#[derive(Debug)]
pub(crate) struct Journal {
    numbers: HashMap<Key, u64>,
    order: BTreeMap<u64, Key>,
    bytes: usize,
    bounds: Bounds,
    next: u64,
    lost: u64,
    generation: Option<Key>,
    leading: Option<Key>,
    /// The number of the last removal that found no room.
    overflow: Option<u64>,
    file: Option<Arc<JournalFile>>,
}

impl Journal {
    pub(crate) fn new(bounds: Bounds, generation: Option<Key>, leading: Option<Key>) -> Self {
        Self {
            numbers: HashMap::new(),
            order: BTreeMap::new(),
            bytes: 0,
            bounds,
            next: 0,
            lost: 0,
            generation,
            leading,
            overflow: None,
            file: None,
        }
    }

    /// Takes over what an earlier process left in the file, and writes to it from now on.
    pub(crate) fn restore(&mut self, file: Arc<JournalFile>, keys: &[Key], is_complete: bool) {
        for key in keys {
            self.append(key);
        }
        if !is_complete {
            self.next += 1;
            self.no_room();
        }
        self.file = Some(file);
    }

    /// Remembers a key; `false` if there is no room for it and nothing that covers it, which is counted.
    pub(crate) fn append(&mut self, key: &Key) -> bool {
        self.next += 1;
        if let Some(number) = self.numbers.get_mut(key) {
            self.order.remove(number);
            self.order.insert(self.next, key.clone());
            *number = self.next;
            return true;
        }
        let bytes = key.as_str().len() + OVERHEAD;
        if self.numbers.len() >= self.bounds.keys || self.bytes + bytes > self.bounds.bytes {
            return self.no_room();
        }
        self.numbers.insert(key.clone(), self.next);
        self.order.insert(self.next, key.clone());
        self.bytes += bytes;
        if let Some(file) = &self.file {
            file.append(key, || self.order.values().cloned().collect());
        }
        true
    }

    fn no_room(&mut self) -> bool {
        self.lost += 1;
        let is_covered = self.generation.is_some();
        if is_covered {
            self.overflow = Some(self.next);
            if let Some(file) = &self.file {
                file.overflow();
            }
        }
        is_covered
    }

    pub(crate) fn holds(&self, key: &Key) -> bool {
        self.overflow.is_some() || !self.numbers.is_empty() && self.numbers.contains_key(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it holds no key at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.overflow.is_none()
    }

    pub(crate) fn is_overflown(&self) -> bool {
        self.overflow.is_some()
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// The number of the latest removal: what came later has a greater one.
    pub(crate) fn latest(&self) -> u64 {
        self.next
    }

    /// Up to `most` items with numbers above `from` and up to `to`, the oldest first.
    pub(crate) fn batch(&self, from: u64, to: u64, most: usize) -> Vec<(Key, u64)> {
        if from >= to {
            return Vec::new();
        }
        self.order.range(from + 1..=to).take(most).map(|(number, key)| (key.clone(), *number)).collect()
    }

    /// The key that goes before all others, if it has to be removed. As late as it was remembered: its removal covers earlier
    /// ones, and what was remembered before it must not go before it either.
    pub(crate) fn leading(&self) -> Option<(Key, u64)> {
        let key = self.leading.as_ref()?;
        self.numbers.get(key).map(|number| (key.clone(), *number))
    }

    /// The generation, if it has to be removed, and the number of the last removal that this covers.
    pub(crate) fn overflow(&self) -> Option<(Key, u64)> {
        self.generation.clone().zip(self.overflow)
    }

    /// The primary has removed this; answers whether the item is gone.
    pub(crate) fn settle(&mut self, key: &Key, number: u64) -> bool {
        let settled = self.numbers.get(key) == Some(&number);
        if settled {
            self.numbers.remove(key);
            self.order.remove(&number);
            self.bytes -= key.as_str().len() + OVERHEAD;
            self.empty_file();
        }
        settled
    }

    /// The primary has removed the generation; answers whether that covers all removals that found no room.
    pub(crate) fn settle_overflow(&mut self, number: u64) -> bool {
        let settled = self.overflow == Some(number);
        if settled {
            self.overflow = None;
            self.empty_file();
        }
        settled
    }

    fn empty_file(&self) {
        if let Some(file) = self.file.as_ref().filter(|_| self.is_empty()) {
            file.empty();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text)
    }

    fn journal(keys: usize) -> Journal {
        Journal::new(Bounds { keys, bytes: 1 << 20 }, None, None)
    }

    #[test]
    fn a_key_is_kept_once_and_a_later_removal_outlives_the_replay_of_an_earlier_one() {
        let mut journal = journal(10);
        assert!(journal.append(&key("a")));
        let sent = journal.batch(0, journal.latest(), 10);
        assert!(journal.append(&key("a")));
        assert_eq!(journal.len(), 1);
        assert!(!journal.settle(&sent[0].0, sent[0].1));
        assert!(journal.holds(&key("a")));
        let again = journal.batch(0, journal.latest(), 10);
        assert!(journal.settle(&again[0].0, again[0].1));
        assert!(journal.is_empty());
        assert_eq!(journal.bytes(), 0);
    }

    #[test]
    fn beyond_the_bound_a_removal_is_counted_as_lost_and_known_keys_still_merge() {
        let mut journal = journal(2);
        assert!(journal.append(&key("a")) && journal.append(&key("b")));
        assert!(!journal.append(&key("c")));
        assert!(journal.append(&key("a")));
        assert_eq!((journal.len(), journal.lost()), (2, 1));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut journal = Journal::new(Bounds { keys: 100, bytes: 1000 }, None, None);
        assert!(journal.append(&key(&"a".repeat(400))));
        assert!(!journal.append(&key(&"b".repeat(400))));
        assert!(journal.append(&key("c")));
        assert!(journal.bytes() <= 1000);
    }

    #[test]
    fn an_overflown_journal_holds_every_key_until_the_latest_overflow_is_settled() {
        let mut journal = Journal::new(Bounds { keys: 1, bytes: 1000 }, Some(key("generation")), None);
        assert!(journal.append(&key("a")) && !journal.holds(&key("x")));
        assert!(journal.append(&key("b")) && journal.holds(&key("x")));
        let (generation, early) = journal.overflow().unwrap();
        assert_eq!(generation, key("generation"));
        assert!(journal.append(&key("c")));
        assert!(!journal.settle_overflow(early) && journal.is_overflown());
        let (_, late) = journal.overflow().unwrap();
        assert!(journal.settle_overflow(late));
        assert!(!journal.holds(&key("x")) && journal.holds(&key("a")));
    }

    #[test]
    fn batches_go_from_the_oldest_to_the_newest() {
        let mut journal = journal(10);
        for name in ["a", "b", "c"] {
            journal.append(&key(name));
        }
        journal.append(&key("a"));
        let names = |batch: Vec<(Key, u64)>| batch.into_iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>();
        let first = journal.batch(0, journal.latest(), 2);
        let last = first.last().map_or(0, |(_, number)| *number);
        assert_eq!(names(first), ["b", "c"]);
        assert_eq!(names(journal.batch(last, journal.latest(), 2)), ["a"]);
    }
}
