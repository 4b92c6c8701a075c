//! Removals that the primary has not confirmed: first form, in memory, by key.
//!
//! The same key is kept once, however often it was removed. An item carries the number of its last removal, so that a replay
//! settles only what it has sent: a key that was removed again meanwhile stays.

use std::collections::HashMap;

use larder_core::Key;

/// A bounded set of keys to be removed.
#[derive(Debug)]
pub(crate) struct Journal {
    items: HashMap<Key, u64>,
    bound: usize,
    next: u64,
    lost: u64,
}

impl Journal {
    pub(crate) fn new(bound: usize) -> Self {
        Self { items: HashMap::new(), bound, next: 0, lost: 0 }
    }

    /// Remembers a key; `false` if there is no room for it, which is counted.
    pub(crate) fn append(&mut self, key: &Key) -> bool {
        self.next += 1;
        if let Some(number) = self.items.get_mut(key) {
            *number = self.next;
            return true;
        }
        if self.items.len() >= self.bound {
            self.lost += 1;
            return false;
        }
        self.items.insert(key.clone(), self.next);
        true
    }

    pub(crate) fn holds(&self, key: &Key) -> bool {
        !self.items.is_empty() && self.items.contains_key(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
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
        let due = self.items.iter().filter(|(_, number)| (from + 1..=to).contains(*number));
        let mut batch: Vec<_> = due.map(|(key, number)| (key.clone(), *number)).collect();
        batch.sort_unstable_by_key(|(_, number)| *number);
        batch.truncate(most);
        batch
    }

    /// The primary has removed this; answers whether the item is gone.
    pub(crate) fn settle(&mut self, key: &Key, number: u64) -> bool {
        let settled = self.items.get(key) == Some(&number);
        if settled {
            self.items.remove(key);
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text)
    }

    #[test]
    fn a_key_is_kept_once_and_a_later_removal_outlives_the_replay_of_an_earlier_one() {
        let mut journal = Journal::new(10);
        assert!(journal.append(&key("a")));
        let sent = journal.batch(0, journal.latest(), 10);
        assert!(journal.append(&key("a")));
        assert_eq!(journal.len(), 1);
        assert!(!journal.settle(&sent[0].0, sent[0].1));
        assert!(journal.holds(&key("a")));
        let again = journal.batch(0, journal.latest(), 10);
        assert!(journal.settle(&again[0].0, again[0].1));
        assert!(journal.is_empty());
    }

    #[test]
    fn beyond_the_bound_a_removal_is_counted_as_lost_and_known_keys_still_merge() {
        let mut journal = Journal::new(2);
        assert!(journal.append(&key("a")) && journal.append(&key("b")));
        assert!(!journal.append(&key("c")));
        assert!(journal.append(&key("a")));
        assert_eq!((journal.len(), journal.lost()), (2, 1));
    }

    #[test]
    fn batches_go_from_the_oldest_to_the_newest() {
        let mut journal = Journal::new(10);
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
