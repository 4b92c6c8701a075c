//! The primitives of `src/sync.rs` as the checker knows them.

use std::{collections::hash_map::DefaultHasher, hash::BuildHasherDefault};

pub(crate) use loom::sync::MutexGuard;

/// The same in every run: the checker replays interleavings.
pub(crate) type RandomState = BuildHasherDefault<DefaultHasher>;

/// Enough for a wide invalidation to take more than one lock.
pub(crate) const SHARDS: usize = 2;

/// One that waits is a crowd: there are three callers at most.
pub(crate) const CROWD: usize = 1;

/// A lock without poisoning.
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("no scenario panics under a lock")
    }
}
