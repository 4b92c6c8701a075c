//! What is true, and what a caller may be told.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

/// Different values; those with even numbers live in both tiers, the others in Redis alone.
pub(super) const ITEMS: u32 = 1000;

/// Items of one group follow one another, and share a tag.
pub(super) const GROUP: u32 = 8;

/// Groups that writers leave alone where a fault writes values without tags into them.
pub(super) const KEPT_FROM_WRITERS: Range<u32> = ITEMS / GROUP - KEPT..ITEMS / GROUP;

/// How many these are.
pub(super) const KEPT: u32 = 16;

/// What is cached: an item as of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Which item.
    pub item: u32,
    /// Its version, from 1.
    pub version: u64,
    /// So that it weighs something.
    pub filler: String,
}

impl Reading {
    pub(super) fn new(item: u32, version: u64) -> Self {
        Self { item, version, filler: "x".repeat(1024) }
    }
}

/// The versions of all items, and the oldest that each process may still be told.
///
/// **What is wrong.** The truth moves on, then the change is invalidated, and the invalidation answers `Done` or
/// `Deferred`. From then on the process that asked for it must not be told an older version: that is its *floor*, and a call
/// is judged by the floor as it was when the call began. For other processes the floor rises later, as the protocol promises
/// it: see `promises.rs`. A value of another item, or of a version that never was, is wrong at any time.
#[derive(Debug)]
pub struct Truth {
    versions: Vec<AtomicU64>,
    floors: Vec<Vec<AtomicU64>>,
}

/// What an answer is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may be told.
    Right,
    /// It is older than what was invalidated before the call began.
    Old,
    /// It is about something else, or was never true.
    False,
}

/// A wrong answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrongValue {
    /// Who got it.
    pub process: usize,
    /// What was asked for.
    pub item: u32,
    /// The version that was answered.
    pub got: u64,
    /// The oldest one that was allowed.
    pub floor: u64,
    /// When the call began, in milliseconds since the start.
    pub at_ms: u64,
    /// Where the answer came from.
    pub source: String,
}

impl Truth {
    /// All items at version 1.
    #[must_use]
    pub fn new(processes: usize) -> Self {
        let ones = || (0..ITEMS).map(|_| AtomicU64::new(1)).collect::<Vec<_>>();
        Self { versions: ones(), floors: (0..processes).map(|_| ones()).collect() }
    }

    /// The present version of an item.
    ///
    /// # Panics
    /// If there is no such item.
    #[must_use]
    pub fn version(&self, item: u32) -> u64 {
        self.versions[item as usize].load(Ordering::SeqCst)
    }

    /// Moves an item on; answers its new version.
    ///
    /// # Panics
    /// If there is no such item.
    #[must_use]
    pub fn change(&self, item: u32) -> u64 {
        self.versions[item as usize].fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The oldest version that a process may be told by a call that begins now.
    ///
    /// # Panics
    /// If there is no such process or item.
    #[must_use]
    pub fn floor(&self, process: usize, item: u32) -> u64 {
        self.floors[process][item as usize].load(Ordering::SeqCst)
    }

    /// From now on a process must not be told anything older.
    ///
    /// # Panics
    /// If there is no such process or item.
    pub fn promise(&self, process: usize, item: u32, version: u64) {
        self.floors[process][item as usize].fetch_max(version, Ordering::SeqCst);
    }

    /// Judges the answer to a call that began when the floor was as given.
    #[must_use]
    pub fn judge(&self, item: u32, floor: u64, answer: &Reading) -> Verdict {
        if answer.item != item || answer.version == 0 || answer.version > self.version(item) {
            Verdict::False
        } else if answer.version < floor {
            Verdict::Old
        } else {
            Verdict::Right
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_value_is_right_until_the_change_is_promised_to_the_process() {
        let truth = Truth::new(2);
        let old = Reading::new(7, 1);
        let early = truth.floor(0, 7);
        let version = truth.change(7);
        assert_eq!(truth.judge(7, truth.floor(0, 7), &old), Verdict::Right);
        truth.promise(0, 7, version);
        assert_eq!(truth.judge(7, truth.floor(0, 7), &old), Verdict::Old);
        assert_eq!(truth.judge(7, early, &old), Verdict::Right, "the call began before");
        assert_eq!(truth.judge(7, truth.floor(1, 7), &old), Verdict::Right, "another process");
        assert_eq!(truth.judge(7, truth.floor(0, 7), &Reading::new(7, version)), Verdict::Right);
    }

    #[test]
    fn a_promise_is_not_taken_back() {
        let truth = Truth::new(1);
        truth.promise(0, 1, 5);
        truth.promise(0, 1, 4);
        assert_eq!(truth.floor(0, 1), 5);
    }

    #[test]
    fn what_was_never_true_is_false() {
        let truth = Truth::new(1);
        for answer in [Reading::new(8, 1), Reading::new(7, 2), Reading::new(7, 0)] {
            assert_eq!(truth.judge(7, 0, &answer), Verdict::False, "{answer:?}");
        }
    }
}
