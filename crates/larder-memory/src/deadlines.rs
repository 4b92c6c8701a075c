//! Which keys die when, so that finding the dead costs nothing for the living.
//!
//! The records are hints: whoever takes a due key asks the store whether it is really dead. A key that was written
//! again has several records until the outdated ones fall due or are pruned; pruning keeps their number within twice
//! what is alive, whatever the rate of rewriting.

use std::{cmp::Reverse, collections::BinaryHeap};

use larder_core::Tick;

/// Below this many records pruning is not worth its cost.
const NEVER_PRUNED_BELOW: usize = 1024;

/// Keys by deadline.
#[derive(Debug)]
pub(crate) struct Deadlines<K: Ord> {
    heap: BinaryHeap<Reverse<(Tick, K)>>,
    prune_at: usize,
}

impl<K: Ord> Deadlines<K> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), prune_at: NEVER_PRUNED_BELOW }
    }

    /// Notes that `key` dies at `deadline`; what never dies needs no record. `current` tells a key's present deadline,
    /// for pruning. Amortized O(log n).
    pub(crate) fn record(&mut self, deadline: Tick, key: K, current: impl Fn(&K) -> Option<Tick>) {
        if deadline == Tick::FOREVER {
            return;
        }
        if self.heap.len() >= self.prune_at {
            self.prune(current);
        }
        self.heap.push(Reverse((deadline, key)));
    }

    /// Takes a key whose recorded deadline has come.
    pub(crate) fn pop_due(&mut self, now: Tick) -> Option<K> {
        let Reverse((deadline, _)) = self.heap.peek()?;
        if *deadline > now {
            return None;
        }
        let key = self.heap.pop().map(|Reverse((_, key))| key);
        if self.heap.is_empty() {
            // A store that has become quiet gives the room back.
            self.clear();
        }
        key
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    fn prune(&mut self, current: impl Fn(&K) -> Option<Tick>) {
        let mut records = std::mem::take(&mut self.heap).into_vec();
        records.retain(|Reverse((deadline, key))| current(key) == Some(*deadline));
        records.sort_unstable();
        records.dedup();
        self.prune_at = records.len().saturating_mul(2).max(NEVER_PRUNED_BELOW);
        self.heap = records.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(nanos: u64) -> Tick {
        Tick::from_nanos(nanos)
    }

    #[test]
    fn keys_come_out_in_the_order_of_their_deadlines_and_never_early() {
        let mut deadlines = Deadlines::new();
        for (at, key) in [(30, 'c'), (10, 'a'), (20, 'b')] {
            deadlines.record(tick(at), key, |_| None);
        }
        assert_eq!(deadlines.pop_due(tick(9)), None);
        assert_eq!(deadlines.pop_due(tick(20)), Some('a'));
        assert_eq!(deadlines.pop_due(tick(20)), Some('b'));
        assert_eq!(deadlines.pop_due(tick(20)), None);
        assert_eq!(deadlines.pop_due(tick(30)), Some('c'));
    }

    #[test]
    fn what_lives_for_ever_takes_no_room() {
        let mut deadlines = Deadlines::new();
        deadlines.record(Tick::FOREVER, 'a', |_| None);
        assert_eq!(deadlines.heap.len(), 0);
    }

    #[test]
    fn rewriting_one_key_for_ever_does_not_pile_up_records() {
        let mut deadlines = Deadlines::new();
        for at in 0..100_000 {
            deadlines.record(tick(at), "key", |_| Some(tick(at.saturating_sub(1))));
            assert!(deadlines.heap.len() <= NEVER_PRUNED_BELOW + 1);
        }
        assert_eq!(deadlines.heap.iter().filter(|Reverse((at, _))| *at == tick(99_999)).count(), 1);
    }
}
